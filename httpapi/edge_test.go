package httpapi

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"go.opentelemetry.io/otel/trace"

	"trivium/core/auth"
	"trivium/core/jid"
)

// do makes a request with headers, and does not unpack what comes.
func (r *rest) do(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	rq, err := http.NewRequest(method, r.http.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		rq.Header.Add(header[i], header[i+1])
	}
	rs, err := (&http.Transport{DisableCompression: true}).RoundTrip(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Body.Close()
	all, err := io.ReadAll(rs.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rs, string(all)
}

// A request's id is the client's when that is one, and different for each otherwise.
func TestRequestID(t *testing.T) {
	r := newREST(t, Options{})
	seen := map[string]bool{}
	for _, tt := range []struct {
		id   string
		kept bool
	}{
		{"abc-1_2.3:4", true},
		{strings.Repeat("a", 64), true},
		{"", false},
		{"", false},
		{strings.Repeat("a", 65), false},
		{"a b", false},
		{"a\"b", false},
		{"ä", false},
		{"<script>", false},
	} {
		rs, _ := r.do(t, "POST", "/api/v1/messages", "", requestHeader, tt.id)
		got := rs.Header.Get(requestHeader)
		if (got == tt.id) != tt.kept || !saneID(got) || seen[got] {
			t.Errorf("%q became %q", tt.id, got)
		}
		seen[got] = true
	}
}

// What a request causes is in its trace.
func TestTraceparent(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" // W3C Trace Context §3.2.3
	for _, tt := range []struct{ header, trace string }{
		{parent, "4bf92f3577b34da6a3ce929d0e0e4736"}, {"", ""}, {"00-0-0-0", ""}, {parent + "x", ""},
	} {
		r := newREST(t, Options{})
		got := ""
		h := r.api.edge(http.HandlerFunc(func(_ http.ResponseWriter, rq *http.Request) {
			if sc := trace.SpanContextFromContext(rq.Context()); sc.IsValid() {
				got = sc.TraceID().String()
			}
		}))
		rq := httptest.NewRequest("GET", "/", nil)
		if tt.header != "" {
			rq.Header.Set("Traceparent", tt.header)
		}
		h.ServeHTTP(httptest.NewRecorder(), rq)
		if got != tt.trace {
			t.Errorf("%q: the trace is %q", tt.header, got)
		}
	}
}

// A handler that panics is answered for, and tells nothing.
func TestPanic(t *testing.T) {
	r := newREST(t, Options{})
	w := httptest.NewRecorder()
	r.api.edge(compress(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("canary") }))).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 || w.Header().Get("Content-Type") != problemType || strings.Contains(w.Body.String(), "canary") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// Answers are compressed for those who want it, when it is worth it, and then are
// another representation.
func TestCompression(t *testing.T) {
	r := whole(t)
	plain, body := r.do(t, "GET", "/api/v1/openapi.json", "")
	if plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("%v", plain.Header)
	}
	rs, packed := r.do(t, "GET", "/api/v1/openapi.json", "", "Accept-Encoding", "br;q=1, gzip;q=0.5")
	z, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		t.Fatalf("%v %v", rs.Header, err)
	}
	if got, err := io.ReadAll(z); err != nil || string(got) != body || len(packed) > len(body)/3 {
		t.Errorf("%d octets became %d, %v", len(body), len(packed), err)
	}
	if tag := rs.Header.Get("ETag"); tag == plain.Header.Get("ETag") {
		t.Error("both representations have one ETag")
	} else if rs, _ := r.do(t, "GET", "/api/v1/openapi.json", "", "Accept-Encoding", "gzip", "If-None-Match", tag); rs.StatusCode != 304 {
		t.Errorf("If-None-Match of the compressed one: %s", rs.Status)
	}
	for _, tt := range []struct {
		path, accept string
		packed       bool
	}{
		{"/openapi.json", "*", true},
		{"/openapi.json", "gzip;q=0", false},
		{"/openapi.json", "*, gzip;q=0", false},
		{"/openapi.json", "identity", false},
		{"/nothing", "gzip", false},
		{"/docs/", "gzip", false},
		{"/docs/swagger-ui-bundle.js", "gzip", true},
	} {
		rs, body := r.do(t, "GET", "/api/v1"+tt.path, "", "Accept-Encoding", tt.accept)
		if (rs.Header.Get("Content-Encoding") == "gzip") != tt.packed || strings.HasPrefix(body, "\x1f\x8b") != tt.packed {
			t.Errorf("%s with %s: %v", tt.path, tt.accept, rs.Header)
		}
		if n := rs.Header.Get("Content-Length"); n != "" && n != fmt.Sprint(len(body)) {
			t.Errorf("%s with %s: Content-Length %s of %d", tt.path, tt.accept, n, len(body))
		}
	}
}

// Bodies may be packed, but not to hide how large they are.
func TestPackedBody(t *testing.T) {
	r := whole(t)
	token := "Bearer " + r.scoped("admin:*")
	pack := func(s string) string {
		var b strings.Builder
		z := gzip.NewWriter(&b)
		if _, err := io.WriteString(z, s); err != nil {
			t.Fatal(err)
		}
		z.Close()
		return b.String()
	}
	const account = `{"jid":"nurse@example.org","password":"secret"}`
	for _, tt := range []struct {
		coding, body string
		status       int
	}{
		{"gzip", pack(account), 201},
		{"identity", account, 409},
		{"gzip", account, 400},
		{"gzip", pack(account)[:30], 400},
		{"gzip", pack(`{"jid":"` + strings.Repeat(" ", 100<<20) + `"}`), 413}, // a hundred MiB in a hundred KiB
		{"", strings.Repeat(" ", 300<<10), 413},
		{"br", account, 415},
		{"gzip, gzip", pack(pack(account)), 415},
	} {
		rs, body := r.do(t, "POST", "/api/v1/accounts", tt.body, "Authorization", token, "Content-Type", "application/json", "Content-Encoding", tt.coding)
		if rs.StatusCode != tt.status {
			t.Errorf("%s: %s %s, want %d", tt.coding, rs.Status, body, tt.status)
		}
	}
}

// RFC 9110 §12.5.1.
func TestAccept(t *testing.T) {
	types := []string{streamType, jsonType}
	for _, tt := range []struct {
		accept []string
		want   string
	}{
		{nil, streamType},
		{[]string{""}, streamType},
		{[]string{"*/*"}, streamType},
		{[]string{"application/json"}, jsonType},
		{[]string{"application/*", "text/html"}, jsonType},
		{[]string{"text/event-stream;q=0.5, application/json"}, jsonType},
		{[]string{"*/*;q=0.1, text/event-stream;q=0"}, jsonType},
		{[]string{"text/html"}, ""},
		{[]string{"application/json;q=0"}, ""},
	} {
		rq := &http.Request{Header: http.Header{}}
		if tt.accept != nil {
			rq.Header["Accept"] = tt.accept
		}
		if got, ok := preferred(rq, types); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q: %q", tt.accept, got)
		}
	}
	r := whole(t)
	if rs, body := r.do(t, "GET", "/api/v1/stats", "", "Authorization", "Bearer "+r.scoped("admin:*"), "Accept", "text/html"); rs.StatusCode != 406 {
		t.Errorf("%s %s", rs.Status, body)
	}
}

// A token is told of its limit, which is its own if it has one.
func TestRateOfToken(t *testing.T) {
	r := newREST(t, Options{Rate: 100})
	secret, _, err := r.users.AddToken(context.Background(), auth.TokenSpec{
		Rate: 2, Scopes: auth.Scopes{SendAs: []jid.Pattern{jid.MustPattern("romeo@example.org")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`"token";r=1;t=1`, `"token";r=0;t=1`, `"token";r=0;t=1`} {
		rs, _ := r.post(secret, `{}`)
		if got := rs.Header.Get("RateLimit"); got != want || rs.Header.Get("RateLimit-Policy") != `"token";q=2;w=1` {
			t.Errorf("request %d: %v", i, rs.Header)
		}
		if limited := rs.StatusCode == 429; limited != (i == 2) || limited != (rs.Header.Get("Retry-After") != "") {
			t.Errorf("request %d: %s %v", i, rs.Status, rs.Header)
		}
	}
	rs, _ := r.post(r.romeo, `{}`)
	if got := rs.Header.Get("RateLimit-Policy"); got != `"token";q=100;w=1` {
		t.Errorf("another token: %s", got)
	}
}

// Pages see the headers that they need.
func TestExposedHeaders(t *testing.T) {
	r := newREST(t, Options{Origins: []string{"https://app.example"}})
	rs, _ := r.do(t, "GET", "/api/v1/openapi.json", "", "Origin", "https://app.example")
	for _, name := range []string{"ETag", "X-Request-Id", "Location", "Retry-After"} {
		if !strings.Contains(rs.Header.Get("Access-Control-Expose-Headers"), name) {
			t.Errorf("%s is not exposed: %v", name, rs.Header)
		}
	}
}

// The page with the documentation loads nothing from elsewhere, and cannot.
func TestDocs(t *testing.T) {
	r := newREST(t, Options{})
	rs, _ := r.do(t, "GET", "/api/v1/docs", "")
	if rs.StatusCode != 301 || rs.Header.Get("Location") != "/api/v1/docs/" {
		t.Errorf("%s %v", rs.Status, rs.Header)
	}
	rs, page := r.do(t, "GET", "/api/v1/docs/", "")
	csp := rs.Header.Get("Content-Security-Policy")
	if rs.StatusCode != 200 || !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "script-src 'self';") || strings.Contains(page, "//") {
		t.Errorf("%s %v %s", rs.Status, rs.Header, page)
	}
	for _, part := range strings.Split(page, `"`) {
		if !strings.HasSuffix(part, ".js") && !strings.HasSuffix(part, ".css") && !strings.HasSuffix(part, ".png") {
			continue
		}
		rs, body := r.do(t, "GET", "/api/v1/docs/"+part, "")
		if rs.StatusCode != 200 || rs.Header.Get("X-Content-Type-Options") != "nosniff" || len(body) == 0 || strings.HasPrefix(body, "\x1f\x8b") {
			t.Errorf("%s: %s", part, rs.Status)
		}
	}
	for _, path := range []string{"oauth2-redirect.html", "../api.go", "docs.js.gz", "index.html/x"} {
		if rs, _ := r.do(t, "GET", "/api/v1/docs/"+path, ""); rs.StatusCode != 404 {
			t.Errorf("%s: %s", path, rs.Status)
		}
	}
	mux := chi.NewRouter()
	mux.Handle("/api/docs", r.api.Docs("/api/v1"))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/api/docs", nil))
	if w.Code != 302 || w.Header().Get("Location") != "/api/v1/docs/" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}
