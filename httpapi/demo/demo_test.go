package demo

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(h http.Handler, host, path string) (*http.Response, string) {
	rq := httptest.NewRequest(http.MethodGet, path, nil)
	rq.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, rq)
	b, _ := io.ReadAll(w.Result().Body)
	return w.Result(), string(b)
}

func TestPage(t *testing.T) {
	h := Handler(Options{Accounts: []Account{{"romeo@localhost", "p"}, {"juliet@localhost", "q"}}, Token: "t"})
	for path, ct := range map[string]string{"/": "text/html", "/demo.js": "text/javascript", "/demo.css": "text/css"} {
		rs, body := get(h, "localhost:5280", path)
		if rs.StatusCode != 200 || !strings.HasPrefix(rs.Header.Get("Content-Type"), ct) {
			t.Errorf("%s: %s %s", path, rs.Status, rs.Header.Get("Content-Type"))
		}
		csp := rs.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "ws://localhost:5280 ") {
			t.Errorf("%s: %s", path, csp)
		}
		// Nothing from elsewhere, nothing that the policy would stop.
		if m := regexp.MustCompile(`(src|href|url|import)\s*[=(]?\s*["']?(https?:)?//|<script>|<style|\son[a-z]+=|style=`).FindString(body); m != "" {
			t.Errorf("%s has %q", path, m)
		}
	}
	_, body := get(h, "127.0.0.1:5280", "/demo.json")
	var s struct {
		Accounts        []Account
		Token           string
		REST, WebSocket string
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil || len(s.Accounts) != 2 || s.Accounts[1].Password != "q" ||
		s.Token != "t" || s.REST != "/api/v1/messages" || s.WebSocket != "/xmpp-websocket" {
		t.Errorf("%v in %s", err, body)
	}
}

// A name that only DNS ties to this machine gets nothing.
func TestRebinding(t *testing.T) {
	h := Handler(Options{Token: "canary", Hosts: []string{"dev.example"}})
	for host, want := range map[string]int{
		"localhost": 200, "localhost:5280": 200, "127.0.0.1:5280": 200, "[::1]:5280": 200, "[::1]": 200, "192.0.2.1": 200, "dev.example:80": 200, "LOCALHOST": 200,
		"evil.example": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421, "": 421, "a b": 421, "[fe80::1%25x';]": 421,
	} {
		rs, body := get(h, host, "/demo.json")
		if rs.StatusCode != want || strings.Contains(body, "canary") != (want == 200) {
			t.Errorf("%q: %s", host, rs.Status)
		}
	}
}
