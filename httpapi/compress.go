package httpapi

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// compressMin is how many octets an answer needs for gzip to be worth it.
const compressMin = 1024

var gzipWriters = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	return z
}}

// compress gives answers of more than compressMin octets to clients that take
// gzip (RFC 9110 §8.4). Streams of events go out as they are: each must leave at
// once.
func compress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Vary"] = append(h["Vary"], "Accept-Encoding") // RFC 9110 §12.5.5
		if r.Method == http.MethodHead || !takesGzip(r.Header["Accept-Encoding"]) {
			next.ServeHTTP(w, r)
			return
		}
		zw := &gzipWriter{ResponseWriter: w}
		defer zw.finish()
		next.ServeHTTP(zw, r)
	})
}

// takesGzip reads Accept-Encoding (RFC 9110 §12.5.3).
func takesGzip(lines []string) bool {
	any := false
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			coding, rest, _ := strings.Cut(member, ";")
			taken := true
			if name, q, ok := strings.Cut(strings.TrimSpace(rest), "="); ok && strings.EqualFold(strings.TrimSpace(name), "q") {
				weight, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
				taken = err == nil && weight > 0
			}
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "gzip", "x-gzip": // RFC 9110 §8.4.1.3
				return taken
			case "*":
				any = taken
			}
		}
	}
	return any
}

// gzipWriter holds an answer back until it is known to be large enough. Then its
// header goes out with what was held.
type gzipWriter struct {
	http.ResponseWriter
	status int
	held   []byte
	zip    *gzip.Writer
	plain  bool // goes out as it is
}

func (w *gzipWriter) WriteHeader(status int) {
	if status < 200 {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if w.status != 0 {
		return
	}
	w.status = status
	h := w.Header()
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	length, err := strconv.Atoi(h.Get("Content-Length"))
	if h.Get("Content-Encoding") != "" || media == streamType || status == http.StatusNoContent ||
		status == http.StatusNotModified || status == http.StatusPartialContent || strings.HasPrefix(media, "image/") ||
		err == nil && length <= compressMin {
		w.plain = true
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *gzipWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.plain:
		return w.ResponseWriter.Write(b)
	case w.zip != nil:
		return w.zip.Write(b)
	case len(w.held)+len(b) <= compressMin:
		w.held = append(w.held, b...)
		return len(b), nil
	}
	w.begin()
	if _, err := w.zip.Write(w.held); err != nil {
		return 0, err
	}
	return w.zip.Write(b)
}

func (w *gzipWriter) begin() {
	h := w.Header()
	h["Content-Encoding"] = []string{"gzip"}
	delete(h, "Content-Length")
	if tag := h.Get("Etag"); strings.HasSuffix(tag, `"`) {
		h["Etag"] = []string{tag[:len(tag)-1] + gzipTag + `"`} // RFC 9110 §8.8.3.3: another representation
	}
	w.zip = gzipWriters.Get().(*gzip.Writer)
	w.zip.Reset(w.ResponseWriter)
	w.ResponseWriter.WriteHeader(w.status)
}

// finish ends the answer. A handler that panics leaves nothing half written.
func (w *gzipWriter) finish() {
	switch {
	case w.plain || w.status == 0:
	case w.zip != nil:
		_ = w.zip.Close()
		w.zip.Reset(nil)
		gzipWriters.Put(w.zip)
		w.zip = nil
	default:
		w.plain = true
		w.ResponseWriter.WriteHeader(w.status)
		_, _ = w.ResponseWriter.Write(w.held)
	}
}

// FlushError lets a handler that streams do so: what it has written goes out as
// it is from then on.
func (w *gzipWriter) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.zip != nil:
		if err := w.zip.Flush(); err != nil {
			return err
		}
	case !w.plain:
		w.plain = true
		w.ResponseWriter.WriteHeader(w.status)
		if _, err := w.ResponseWriter.Write(w.held); err != nil {
			return err
		}
		w.held = nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (w *gzipWriter) Flush() { _ = w.FlushError() }

// Unwrap lets http.ResponseController through.
func (w *gzipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// errLarge says that a body, or what it unpacks to, is larger than allowed.
var errLarge = errors.New("httpapi: the body is too large")

// unpack returns what a gzip body of at most most octets unpacks to.
func unpack(r io.Reader, most int64) ([]byte, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(z, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, errLarge
	}
	return raw, nil
}
