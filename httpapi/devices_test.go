package httpapi

import (
	"encoding/json"
	"net/http"
	"testing"

	"trivium/core/admin"
)

// A token that may speak for an account sees and ends its sessions, and no other's.
func TestDevices(t *testing.T) {
	ops := new(admin.Registry)
	r := newREST(t, Options{Operations: ops})
	ops.Add(admin.Sessions(r.users, r.Host)...)
	r.online("romeo@example.org/orchard")
	r.online("romeo@example.org/Client/a b")
	var list SessionList
	rs, body := r.call(http.MethodGet, "/api/v1/accounts/romeo@example.org/sessions", r.romeo, "", "")
	if err := json.Unmarshal([]byte(body), &list); err != nil || rs.StatusCode != http.StatusOK || len(list.Sessions) != 2 ||
		list.Sessions[0].JID != "romeo@example.org/orchard" || list.Sessions[0].Presence != "available" {
		t.Errorf("%s, %v: %s", rs.Status, err, body)
	}
	for _, tt := range []struct {
		method, path, token string
		status              int
		body                string
	}{
		{"GET", "romeo@example.org/clients", r.romeo, 200, `{"clients":[]}`},
		{"GET", "juliet@example.org/sessions", r.romeo, 403, ""},
		{"GET", "romeo@example.org/sessions", "", 401, ""},
		{"GET", "romeo@example.org/sessions", r.any, 403, ""},
		{"GET", "nobody@bots.example.org/sessions", r.any, 404, ""},
		{"GET", "bots.example.org/sessions", r.any, 404, ""},
		{"GET", "romeo%40example.org%2Forchard/sessions", r.romeo, 404, ""},
		{"DELETE", "romeo@example.org/sessions/none", r.romeo, 404, ""},
		{"DELETE", "romeo@example.org/sessions/", r.romeo, 404, ""},
		{"DELETE", "romeo@example.org/clients/none", r.romeo, 404, ""},
		{"DELETE", "romeo%40example.org/sessions/Client%2Fa%20b", r.romeo, 200, `{"sessions":["romeo@example.org/Client/a b"]}`},
		{"DELETE", "romeo@example.org/sessions/orchard", r.romeo, 200, `{"sessions":["romeo@example.org/orchard"]}`},
		{"POST", "romeo@example.org/clients", r.romeo, 405, ""},
	} {
		rs, body := r.call(tt.method, "/api/v1/accounts/"+tt.path, tt.token, "", "")
		if rs.StatusCode != tt.status {
			t.Errorf("%s %s: %s %s", tt.method, tt.path, rs.Status, body)
		}
		if tt.status >= 400 && rs.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %s", tt.method, tt.path, rs.Header.Get("Content-Type"))
		}
		if tt.body != "" && body != tt.body && body != tt.body+"\n" {
			t.Errorf("%s %s: %s", tt.method, tt.path, body)
		}
	}
}
