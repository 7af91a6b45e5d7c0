package httpapi

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// RFC 9110 §8.4: a body with a content coding is not what its type says, and
// none is undone here.
func TestContentEncoding(t *testing.T) {
	r := newREST(t, Options{})
	r.online("juliet@example.org/balcony")
	for _, tt := range []struct {
		lines  []string
		status int
	}{
		{nil, 202},
		{[]string{""}, 202},
		{[]string{"identity"}, 202},
		{[]string{"Identity"}, 202},
		{[]string{"identity, identity"}, 202},
		{[]string{"gzip"}, 415},
		{[]string{"GZIP"}, 415},
		{[]string{"br"}, 415},
		{[]string{"unknown"}, 415},
		{[]string{"identity, gzip"}, 415},
		{[]string{"identity", "deflate"}, 415},
	} {
		rq, err := http.NewRequest(http.MethodPost, r.http.URL+"/api/v1/messages", strings.NewReader(`{"to":"juliet@example.org","body":"hi"}`))
		if err != nil {
			t.Fatal(err)
		}
		rq.Header.Set("Authorization", "Bearer "+r.romeo)
		rq.Header.Set("Content-Type", "application/json")
		rq.Header["Content-Encoding"] = tt.lines
		rs, err := r.http.Client().Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(rs.Body)
		rs.Body.Close()
		if err != nil || rs.StatusCode != tt.status {
			t.Errorf("%q: status %d, %v; want %d", tt.lines, rs.StatusCode, err, tt.status)
		}
		if tt.status != 415 {
			continue
		}
		var p Problem
		err = json.Unmarshal(all, &p)
		if got := rs.Header.Get("Content-Type"); err != nil || got != "application/problem+json" || p.Status != 415 {
			t.Errorf("%q: %s, %s, %v", tt.lines, got, all, err)
		}
		if got := rs.Header.Get("Accept-Encoding"); got != "identity" { // RFC 9110 §12.5.3
			t.Errorf("%q: Accept-Encoding %q", tt.lines, got)
		}
	}
}
