package httpapi

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/go-chi/chi/v5"

	"trivium/core/mod/modtest"
)

func lookUp(t *testing.T, h http.Handler, host, path string) (*http.Response, []byte) {
	t.Helper()
	rq := httptest.NewRequest(http.MethodGet, path, nil)
	rq.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, rq)
	rs := w.Result()
	b, err := io.ReadAll(rs.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rs, b
}

func TestHostMeta(t *testing.T) {
	mux := chi.NewRouter()
	HostMeta{Links: func(host string) (ws, bosh []string) {
		if host != "example.org" {
			return nil, nil
		}
		return []string{"wss://example.org:5443/xmpp-websocket"}, []string{"https://example.org:5443/http-bind?a=1&b='2'"}
	}}.Mount(mux)
	// XEP-0156 §3.3: both formats hold the same links.
	type entry struct {
		Rel  string `xml:"rel,attr" json:"rel"`
		Href string `xml:"href,attr" json:"href"`
	}
	want := []entry{
		{"urn:xmpp:alt-connections:xbosh", "https://example.org:5443/http-bind?a=1&b='2'"},
		{"urn:xmpp:alt-connections:websocket", "wss://example.org:5443/xmpp-websocket"},
	}
	for _, host := range []string{"example.org", "EXAMPLE.org:5280"} {
		rs, b := lookUp(t, mux, host, "/.well-known/host-meta")
		var x struct {
			XMLName xml.Name `xml:"http://docs.oasis-open.org/ns/xri/xrd-1.0 XRD"`
			Link    []entry
		}
		if err := xml.Unmarshal(b, &x); err != nil || !reflect.DeepEqual(x.Link, want) {
			t.Errorf("%v: %s", err, b)
		}
		if rs.Header.Get("Content-Type") != "application/xrd+xml" {
			t.Errorf("XRD as %s", rs.Header.Get("Content-Type"))
		}
		rs, b = lookUp(t, mux, host, "/.well-known/host-meta.json")
		var j struct{ Links []entry }
		if err := json.Unmarshal(b, &j); err != nil || !reflect.DeepEqual(j.Links, want) {
			t.Errorf("%v: %s", err, b)
		}
		if rs.Header.Get("Access-Control-Allow-Origin") != "*" || rs.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("CORS: %v", rs.Header)
		}
	}
	if rs, _ := lookUp(t, mux, "other.example", "/.well-known/host-meta"); rs.StatusCode != http.StatusNotFound {
		t.Errorf("unknown host: %s", rs.Status)
	}
}

func TestHealth(t *testing.T) {
	s := modtest.New(t)
	serve := func(h *Health) http.Handler { m := chi.NewRouter(); h.Mount(m); return m }
	expect := func(h http.Handler, path string, want int) {
		t.Helper()
		if rs, b := lookUp(t, h, "example.org", path); rs.StatusCode != want {
			t.Errorf("%s: %s %s", path, rs.Status, b)
		}
	}
	health := NewHealth(s.Store)
	h := serve(health)
	expect(h, "/healthz", 200)
	expect(h, "/readyz", 200)
	health.Stopping()
	expect(h, "/readyz", 503)
	expect(h, "/healthz", 200)
	closed := serve(NewHealth(s.Store))
	if err := s.Store.Close(); err != nil {
		t.Fatal(err)
	}
	expect(closed, "/readyz", 503)
	expect(closed, "/healthz", 200)
}
