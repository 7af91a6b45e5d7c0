package httpapi

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// requestHeader names a request in answers, problem documents and logs.
const requestHeader = "X-Request-Id"

// edge is what every request passes: it gets an id, pages of other origins are
// let in or not, and its trace goes on. A handler that panics is answered for.
func (a *API) edge(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h[requestHeader] = a.ids.header(r)
		if len(a.opts.Origins) > 0 && a.cors(w, r) {
			return
		}
		defer a.recover(w, r)
		if a.opts.Tracer == nil {
			if len(r.Header["Traceparent"]) > 0 {
				r = r.WithContext(propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header)))
			}
			next.ServeHTTP(w, r)
			return
		}
		a.traced(next, w, r)
	})
}

// traced makes a span of a request.
func (a *API) traced(next http.Handler, w http.ResponseWriter, r *http.Request) {
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := a.opts.Tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	r = r.WithContext(ctx)
	if !span.IsRecording() {
		next.ServeHTTP(w, r)
		return
	}
	sw := &statusWriter{ResponseWriter: w}
	next.ServeHTTP(sw, r)
	route := ""
	if rc := chi.RouteContext(ctx); rc != nil {
		route = rc.RoutePattern()
	}
	if route == "" { // a request that was taken past the router: its path is the pattern
		route = r.URL.Path
	}
	span.SetName(r.Method + " " + route)
	// The names of OpenTelemetry's semantic conventions for HTTP servers.
	span.SetAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("http.route", route),
		attribute.Int("http.response.status_code", sw.status), attribute.String("trivium.request.id", requestID(w)),
	)
	if sw.status >= 500 {
		span.SetStatus(codes.Error, "")
	}
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recover answers for a handler that has panicked.
func (a *API) recover(w http.ResponseWriter, r *http.Request) {
	err := recover()
	if err == nil {
		return
	}
	if err == http.ErrAbortHandler { //nolint:errorlint // it is panicked with as it is
		panic(err)
	}
	a.log.Error("a handler panicked", "request", requestID(w), "method", r.Method, "err", err, "stack", string(debug.Stack()))
	problem(http.StatusInternalServerError, "").write(w)
}

// requestID returns the id that the edge has given to the request answered by w.
func requestID(w http.ResponseWriter) string {
	if v := w.Header()[requestHeader]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// fault is problemOf, and logs what is the server's own.
func (a *API) fault(w http.ResponseWriter, text string, err error, args ...any) *Problem {
	p, ours := problemOf(err)
	if ours {
		a.log.Error(text, append(args, "request", requestID(w), slog.Any("err", err))...)
	}
	return p
}

// requestIDs makes ids: 64 random bits of this process and a number, mixed so
// that neighbours look different.
type requestIDs struct {
	start  uint64
	serial *atomic.Uint64
}

func newRequestIDs() requestIDs {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return requestIDs{binary.BigEndian.Uint64(b[:]), new(atomic.Uint64)}
}

// maxRequestID is how long an id that a client chooses may be.
const maxRequestID = 64

// header returns the request's id as it came, when that is one, or a new one.
func (ids requestIDs) header(r *http.Request) []string {
	if given := r.Header[requestHeader]; len(given) == 1 && saneID(given[0]) {
		return given[:1:1]
	}
	return []string{ids.next()}
}

// next returns an id that no other of this process is like.
func (ids requestIDs) next() string {
	var raw [8]byte
	n := ids.serial.Add(1)
	binary.BigEndian.PutUint64(raw[:], (ids.start+n)*0x9E3779B97F4A7C15) // odd: no two are alike
	var text [16]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

// saneID tells whether an id is fit for headers, logs and URIs.
func saneID(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}

// What pages of other origins may send and see.
const (
	corsMethods = "GET, HEAD, POST, PUT, DELETE"
	corsHeaders = "Authorization, Content-Type, Content-Encoding, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Traceparent, Tracestate, X-Request-Id"
	corsExposed = "ETag, Idempotent-Replayed, Location, Link, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id"
	corsMaxAge  = 600 // seconds
)

// cors lets pages of configured origins in, and reports whether it has answered.
// Credentials of the browser are never allowed: tokens travel in a header that
// the page sets.
func (a *API) cors(w http.ResponseWriter, r *http.Request) (answered bool) {
	h := w.Header()
	if !a.anyOrigin {
		h.Add("Vary", "Origin")
	}
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
		return false
	case a.anyOrigin:
		h.Set("Access-Control-Allow-Origin", "*")
	case slices.Contains(a.opts.Origins, origin):
		h.Set("Access-Control-Allow-Origin", origin)
	default:
		return false
	}
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		h.Set("Access-Control-Allow-Methods", corsMethods)
		h.Set("Access-Control-Allow-Headers", corsHeaders)
		h.Set("Access-Control-Max-Age", strconv.Itoa(corsMaxAge))
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	h.Set("Access-Control-Expose-Headers", corsExposed)
	return false
}
