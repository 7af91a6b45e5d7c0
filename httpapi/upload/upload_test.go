package upload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/mod/upload"
	"trivium/core/stanza"
	httpupload "trivium/httpapi/upload"
)

var romeo = jid.Must("romeo@example.org")

// fixture is a server with uploads.
type fixture struct {
	*modtest.Server
	t     testing.TB
	files *upload.Module
	http  *httpupload.Service
	web   *httptest.Server
	dir   string
}

func start(t testing.TB, o upload.Options) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	if o.URL == nil {
		o.URL = func(string) string { return f.web.URL + httpupload.Path }
	}
	f.files = upload.New(o)
	f.Server = modtest.New(t, f.files)
	f.serve()
	return f
}

// serve begins to serve the folder.
func (f *fixture) serve() {
	f.t.Helper()
	s, err := httpupload.New(context.Background(), f.files, f.dir, httpupload.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	r := chi.NewRouter()
	s.Mount(r)
	r.Handle("/*", http.NotFoundHandler())
	f.http, f.web = s, httptest.NewServer(r)
	f.t.Cleanup(func() {
		f.web.Close()
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			f.t.Error(err)
		}
	})
}

// slot asks for one as a client does, XEP-0363 §4.
func (f *fixture) slot(c *modtest.Client, name string, size int, kind string) (put, get string) {
	f.t.Helper()
	rq := stanza.El(upload.NS, "request").Set("filename", name).Set("size", fmt.Sprint(size))
	if kind != "" {
		rq.Set("content-type", kind)
	}
	c.Send(`<iq type='get' id='s' to='upload.example.org'>` + rq.String() + `</iq>`)
	el, err := stanza.ParseElement(c.Next())
	if err != nil || el.Attr("type") != "result" {
		f.t.Fatalf("%v %v", el, err)
	}
	s := el.Child(upload.NS, "slot")
	return s.Child(upload.NS, "put").Attr("url"), s.Child(upload.NS, "get").Attr("url")
}

// do makes a request; headers are pairs.
func (f *fixture) do(method, url string, body io.Reader, headers ...string) (*http.Response, string) {
	f.t.Helper()
	rq, err := http.NewRequestWithContext(f.t.Context(), method, url, body)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		rq.Header.Set(headers[i], headers[i+1])
	}
	rs, err := f.web.Client().Do(rq)
	if err != nil {
		f.t.Fatal(err)
	}
	defer rs.Body.Close()
	got, err := io.ReadAll(rs.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return rs, string(got)
}

func (f *fixture) want(status int, method, url string, body io.Reader, headers ...string) (*http.Response, string) {
	f.t.Helper()
	rs, got := f.do(method, url, body, headers...)
	if rs.StatusCode != status {
		f.t.Fatalf("%s %s: %s %s, want %d", method, url, rs.Status, got, status)
	}
	return rs, got
}

// onDisk returns the files in the folder.
func (f *fixture) onDisk() (names []string) {
	f.t.Helper()
	err := filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, f.dir+"/"))
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return names
}

func text(s string) io.Reader { return strings.NewReader(s) }

// XEP-0363 §4, §8: from the slot to the download.
func TestUpload(t *testing.T) {
	f := start(t, upload.Options{})
	c := f.Connect("romeo@example.org/garden")
	put, get := f.slot(c, "très cool.jpg", 5, "image/jpeg")
	if !strings.HasSuffix(get, "/tr%C3%A8s%20cool.jpg") { // §4: percent-encoded, the ending intact
		t.Errorf("GET URL %s", get)
	}
	f.want(404, "GET", get, nil)
	rs, _ := f.want(201, "PUT", put, text("hello"), "Content-Type", "image/jpeg")
	if rs.Header.Get("Location") != get {
		t.Errorf("Location %q, want %q", rs.Header.Get("Location"), get)
	}
	rs, got := f.want(200, "GET", get, nil)
	if got != "hello" {
		t.Errorf("got %q", got)
	}
	for name, want := range map[string]string{
		"Content-Type": "image/jpeg", "Content-Length": "5", "X-Content-Type-Options": "nosniff", "Accept-Ranges": "bytes",
		"Content-Disposition":         "inline; filename*=utf-8''tr%C3%A8s%20cool.jpg",
		"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
	} {
		if got := rs.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	rs, got = f.want(200, "HEAD", get, nil)
	if got != "" || rs.ContentLength != 5 {
		t.Errorf("HEAD: %q, %d octets", got, rs.ContentLength)
	}
	f.want(304, "GET", get, nil, "If-None-Match", rs.Header.Get("ETag"))
	rs, got = f.want(206, "GET", get, nil, "Range", "bytes=1-3")
	if got != "ell" || rs.Header.Get("Content-Range") != "bytes 1-3/5" {
		t.Errorf("range: %q %q", got, rs.Header.Get("Content-Range"))
	}
	f.want(416, "GET", get, nil, "Range", "bytes=9-")
	rs, _ = f.want(204, "OPTIONS", put, nil, "Origin", "https://chat.example", "Access-Control-Request-Method", "PUT")
	if m := rs.Header.Get("Access-Control-Allow-Methods"); !strings.Contains(m, "PUT") { // §9
		t.Errorf("methods %q", m)
	}
	f.want(405, "DELETE", get, nil)
	f.want(405, "POST", put, text("hello"))
}

// XEP-0363 §8: what does not match the slot is refused, and leaves nothing behind.
func TestMismatch(t *testing.T) {
	f := start(t, upload.Options{})
	c := f.Connect("romeo@example.org/garden")
	put, get := f.slot(c, "a.txt", 5, "text/plain")
	f.want(413, "PUT", put, text("hello!"), "Content-Type", "text/plain")
	f.want(400, "PUT", put, text("hell"), "Content-Type", "text/plain")
	f.want(411, "PUT", put, io.MultiReader(text("hello")), "Content-Type", "text/plain") // chunked
	f.want(415, "PUT", put, text("hello"), "Content-Type", "text/html")
	f.want(415, "PUT", put, text("hello"), "Content-Type", "no type")
	f.want(404, "GET", get, nil)
	if names := f.onDisk(); len(names) > 0 {
		t.Errorf("on disk: %q", names)
	}
	f.want(201, "PUT", put, text("hello"), "Content-Type", "Text/Plain; charset=UTF-8") // browsers add that
	f.want(409, "PUT", put, text("jello"), "Content-Type", "text/plain")                // write once
	if _, got := f.want(200, "GET", get, nil); got != "hello" {
		t.Errorf("got %q", got)
	}
}

// Slots prove all that was agreed on.
func TestForgedSlots(t *testing.T) {
	f := start(t, upload.Options{SlotLife: 5 * time.Minute})
	c := f.Connect("romeo@example.org/garden")
	put, get := f.slot(c, "a.txt", 5, "")
	other, _ := f.slot(c, "b.txt", 5, "")
	base, token, _ := strings.Cut(put, "?slot=")
	body, mac, _ := strings.Cut(token, ".")
	_, foreign, _ := strings.Cut(other, "?slot=")
	flip := func(s string) string { return string(s[0]^1) + s[1:] }
	for name, u := range map[string]string{
		"no slot":        base,
		"empty":          base + "?slot=",
		"half":           base + "?slot=" + body,
		"body":           base + "?slot=" + flip(body) + "." + mac,
		"mac":            base + "?slot=" + body + "." + flip(mac),
		"another's":      base + "?slot=" + foreign,
		"another name":   strings.TrimSuffix(base, "a.txt") + "b.txt?slot=" + token,
		"trailing bits":  put + "=",
		"large":          base + "?slot=" + strings.Repeat("A", 8000),
		"another ID":     strings.Replace(put, get[len(f.web.URL+"/upload/"):][:26], strings.Repeat("a", 26), 1),
		"two tokens":     base + "?slot=" + foreign + "&slot=" + token,
		"token in a way": base + "?Slot=" + token,
	} {
		if rs, got := f.do("PUT", u, text("hello")); rs.StatusCode != 403 {
			t.Errorf("%s: %s %s", name, rs.Status, got)
		}
	}
	f.Advance(5*time.Minute + time.Second)
	if _, got := f.want(403, "PUT", put, text("hello")); !strings.Contains(got, "expired") {
		t.Error(got)
	}
	if names := f.onDisk(); len(names) > 0 {
		t.Errorf("on disk: %q", names)
	}
}

// Nothing of a request leads out of the folder.
func TestTraversal(t *testing.T) {
	f := start(t, upload.Options{})
	c := f.Connect("romeo@example.org/garden")
	secret := filepath.Join(filepath.Dir(f.dir), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	put, get := f.slot(c, "../../../secret", 5, "")
	u, err := url.Parse(get)
	if err != nil || strings.Count(u.Path, "/") != 3 || strings.Contains(u.Path, "/..") && strings.Contains(u.Path, "../") {
		t.Errorf("GET URL %s", get)
	}
	f.want(201, "PUT", put, text("hello"))
	id := u.Path[len("/upload/"):][:26]
	f.want(200, "GET", get, nil)
	for _, path := range []string{
		"/upload/", "/upload/" + id, "/upload/" + id + "/", "/upload/" + id + "/other", "/upload/..%2f..%2fsecret", "/upload/../secret",
		"/upload/%2e%2e/%2e%2e/secret", "/upload/tmp/" + id, "/upload/" + id[:2] + "/" + id, "/upload/" + strings.Repeat(".", 26) + "/secret",
		"/upload/" + strings.ToUpper(id) + u.Path[len("/upload/")+26:], "/upload/" + id + "/%00", "/upload/" + id + "/a%2Fb",
		"/upload/" + strings.Repeat("a", 26) + "/x", "/upload//" + id,
	} {
		rs, got := f.do("GET", f.web.URL+path, nil)
		if rs.StatusCode != 404 || strings.Contains(got, "secret") {
			t.Errorf("%s: %s %s", path, rs.Status, got)
		}
	}

	// A file that somebody has replaced by a link.
	at := filepath.Join(f.dir, id[:2], id)
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, at); err != nil {
		t.Fatal(err)
	}
	if rs, got := f.do("GET", get, nil); rs.StatusCode < 400 || strings.Contains(got, "secret") {
		t.Errorf("a link: %s %q", rs.Status, got)
	}
	// A folder that is a link, and a draft that is one.
	put, get = f.slot(c, "a", 5, "")
	id = get[len(f.web.URL+"/upload/"):][:26]
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(f.dir, id[:2])); err != nil {
		t.Skip("the folder is there already") // one in 1024
	}
	if err := os.Symlink(secret, filepath.Join(f.dir, "tmp", id)); err != nil {
		t.Fatal(err)
	}
	if rs, _ := f.do("PUT", put, text("hello")); rs.StatusCode < 400 {
		t.Errorf("a folder that is a link: %s", rs.Status)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
		t.Errorf("the secret has become %q, %v", got, err)
	}
	if e, err := os.ReadDir(outside); err != nil || len(e) > 0 {
		t.Errorf("outside: %v, %v", e, err)
	}
	f.want(404, "GET", get, nil)
}

// Many ranges cost no more than the file: RFC 9110 §14.2.
func TestRangeAbuse(t *testing.T) {
	f := start(t, upload.Options{})
	_, _, err := f.http.Store(t.Context(), romeo, "a.bin", "", bytes.NewReader(make([]byte, 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := f.http.List(t.Context(), romeo, "", 1)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("%d-%d", 2*i, 2*i))
	}
	rs, got := f.want(200, "GET", list[0].URL, nil, "Range", "bytes="+strings.Join(many, ","))
	if len(got) != 100_000 || rs.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%d octets of %s", len(got), rs.Header.Get("Content-Type"))
	}
	rs, got = f.want(206, "GET", list[0].URL, nil, "Range", "bytes=0-1,-2")
	if !strings.HasPrefix(rs.Header.Get("Content-Type"), "multipart/byteranges") || len(got) > 1000 {
		t.Errorf("two ranges: %s, %d octets", rs.Header.Get("Content-Type"), len(got))
	}
}

// What a browser would run is saved, not shown: XEP-0363 §10.1.
func TestHarmlessTypes(t *testing.T) {
	f := start(t, upload.Options{})
	for _, tt := range []struct{ kind, want, disposition string }{
		{"image/png", "image/png", "inline"},
		{"video/mp4; codecs=avc1", "video/mp4; codecs=avc1", "inline"},
		{"audio/ogg", "audio/ogg", "inline"},
		{"text/plain", "text/plain; charset=utf-8", "inline"},
		{"application/pdf", "application/pdf", "attachment"},
		{"application/zip", "application/zip", "attachment"},
		{"text/html", "application/octet-stream", "attachment"},
		{"TEXT/HTML; charset=utf-7", "application/octet-stream", "attachment"},
		{"image/svg+xml", "application/octet-stream", "attachment"},
		{"application/xhtml+xml", "application/octet-stream", "attachment"},
		{"text/xml", "application/octet-stream", "attachment"},
		{"text/javascript", "application/octet-stream", "attachment"},
		{"application/x-javascript", "application/octet-stream", "attachment"},
		{"text/css", "application/octet-stream", "attachment"},
		{"text/vbscript", "application/octet-stream", "attachment"},
		{"multipart/x-mixed-replace; boundary=a", "application/octet-stream", "attachment"},
		{"message/rfc822", "application/octet-stream", "attachment"},
		{"not a type\r\nSet-Cookie: a=b", "application/octet-stream", "attachment"},
		{"", "application/octet-stream", "attachment"},
	} {
		u, _, err := f.http.Store(t.Context(), romeo, "name", tt.kind, text("<script>alert(1)</script>"))
		if err != nil {
			t.Fatal(err)
		}
		rs, _ := f.want(200, "GET", u, nil)
		got, d := rs.Header.Get("Content-Type"), rs.Header.Get("Content-Disposition")
		if got != tt.want || d != tt.disposition+"; filename=name" || rs.Header.Get("Set-Cookie") != "" {
			t.Errorf("%q: %q %q, want %q %q", tt.kind, got, d, tt.want, tt.disposition)
		}
	}
}

// A client that breaks off has uploaded nothing, and may try again.
func TestBrokenOff(t *testing.T) {
	f := start(t, upload.Options{Parallel: 1})
	c := f.Connect("romeo@example.org/garden")
	put, get := f.slot(c, "a", 100_000, "")
	r, w := io.Pipe()
	rq := httptest.NewRequestWithContext(t.Context(), "PUT", put, r)
	rq.ContentLength = 100_000
	rec, over := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(over)
		f.http.ServeHTTP(rec, rq)
	}()
	if _, err := w.Write(make([]byte, 50_000)); err != nil { // returns when it has been read
		t.Fatal(err)
	}
	// Meanwhile nobody else uploads with this slot, nor the owner with another.
	f.want(409, "PUT", put, bytes.NewReader(make([]byte, 100_000)))
	_, _, err := f.http.Store(t.Context(), romeo, "b", "", text("b"))
	if status, _, _ := httpupload.Status(err); status != 429 {
		t.Errorf("a second upload: %v", err)
	}
	w.CloseWithError(io.ErrUnexpectedEOF)
	<-over
	if rec.Code != 400 {
		t.Errorf("half an upload: %d", rec.Code)
	}
	if names := f.onDisk(); len(names) > 0 {
		t.Errorf("on disk: %q", names)
	}
	f.want(404, "GET", get, nil)
	f.want(201, "PUT", put, bytes.NewReader(make([]byte, 100_000)))
	f.want(200, "GET", get, nil)
}

// One slot, many at once: one of them uploads, and what is served is what he sent.
func TestRace(t *testing.T) {
	f := start(t, upload.Options{})
	put, get := f.slot(f.Connect("romeo@example.org/garden"), "a", 1, "")
	const clients = 16
	codes := make([]int, clients)
	var all sync.WaitGroup
	for i := range codes {
		all.Go(func() {
			rec := httptest.NewRecorder()
			f.http.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "PUT", put, text(string(rune('a'+i)))))
			codes[i] = rec.Code
		})
	}
	all.Wait()
	winner := slices.Index(codes, 201)
	for i, c := range codes {
		if i != winner && c != 409 {
			t.Errorf("client %d: %d", i, c)
		}
	}
	if _, got := f.want(200, "GET", get, nil); winner < 0 || got != string(rune('a'+winner)) {
		t.Errorf("client %d has uploaded, %q is served", winner, got)
	}
}

// timed is a ResponseWriter of a connection with deadlines.
type timed struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (w *timed) SetReadDeadline(t time.Time) error  { w.read = t; return nil }
func (w *timed) SetWriteDeadline(t time.Time) error { w.write = t; return nil }

// Nobody holds a connection by sending or taking an octet now and then.
func TestDeadlines(t *testing.T) {
	f := start(t, upload.Options{})
	const size = 80 << 10 // 10 seconds at 8 KiB a second, and a minute
	put, get := f.slot(f.Connect("romeo@example.org/garden"), "a", size, "")
	before := time.Now()
	in := &timed{ResponseRecorder: httptest.NewRecorder()}
	f.http.ServeHTTP(in, httptest.NewRequestWithContext(t.Context(), "PUT", put, bytes.NewReader(make([]byte, size))))
	out := &timed{ResponseRecorder: httptest.NewRecorder()}
	f.http.ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), "GET", get, nil))
	after := time.Now()
	for what, at := range map[string]time.Time{"upload": in.read, "download": out.write} {
		if at.Before(before.Add(70*time.Second)) || at.After(after.Add(70*time.Second)) {
			t.Errorf("the %s ends %v from now", what, at.Sub(before))
		}
	}
	if in.Code != 201 || out.Code != 200 {
		t.Errorf("%d, %d", in.Code, out.Code)
	}
	if status, _, _ := httpupload.Status(fmt.Errorf("read: %w", os.ErrDeadlineExceeded)); status != 408 {
		t.Errorf("too slow: %d", status)
	}
}
