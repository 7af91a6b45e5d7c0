package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/auth"
)

// deadlines is a request whose body may wait, and the deadlines that a handler sets
// for it.
type deadlines struct {
	http.ResponseWriter
	until time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.until = t
	return nil
}

// trickle is a body that comes in drops of so many octets, a pause before each.
type trickle struct {
	d    *deadlines
	left int
	drop int
	wait time.Duration
}

func (r *trickle) Close() error { return nil }

func (r *trickle) Read(b []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	time.Sleep(r.wait) // of the bubble's clock
	if !r.d.until.IsZero() && time.Now().After(r.d.until) {
		return 0, &net.OpError{Op: "read", Err: context.DeadlineExceeded}
	}
	n := min(r.drop, r.left, len(b))
	r.left -= n
	return n, nil
}

// A body that trickles is given up, one that is only large is not.
func TestPaced(t *testing.T) {
	for _, tt := range []struct {
		name        string
		size, drop  int
		wait, pause time.Duration
		ok          bool
		most        time.Duration
	}{
		{"an octet a second", 1 << 20, 1, time.Second, 0, false, time.Minute},
		{"at the pace", 1 << 20, 8 << 10, time.Second, 0, true, 3 * time.Minute},
		{"slow at first", 64 << 10, 8 << 10, 4 * time.Second, 0, true, time.Minute},
		{"stops", 1 << 20, 512 << 10, 2 * time.Minute, 0, false, 3 * time.Minute},
		{"lines now and then", 100, 1, 50 * time.Second, time.Minute, true, 2 * time.Hour},
		{"no more lines", 100, 1, 2 * time.Minute, time.Minute, false, 3 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &deadlines{ResponseWriter: httptest.NewRecorder()}
			start := time.Now()
			_, err := io.Copy(io.Discard, newPaced(d, &trickle{d, tt.size, tt.drop, tt.wait}, tt.pause))
			if took := time.Since(start); (err == nil) != tt.ok || took > tt.most {
				t.Errorf("%s: %v after %v", tt.name, err, took)
			}
			if err == nil && !d.until.IsZero() {
				t.Errorf("%s: the bound is left", tt.name)
			}
		})
	}
}

// A body that came whole leaves no deadline behind: the connection goes on.
func TestRelaxed(t *testing.T) {
	r, _ := newSending(t, Options{})
	for _, tt := range []struct{ path, media, body string }{
		{"/messages", jsonType, hello}, {"/messages/batch", ndjsonType, hello + "\n"},
	} {
		d := &deadlines{ResponseWriter: httptest.NewRecorder(), until: time.Unix(1, 0)}
		rq := httptest.NewRequest(http.MethodPost, "/api/v1"+tt.path, strings.NewReader(tt.body))
		rq.Header.Set("Authorization", "Bearer "+r.romeo)
		rq.Header.Set("Content-Type", tt.media)
		r.http.Config.Handler.ServeHTTP(d, rq)
		if !d.until.IsZero() {
			t.Errorf("%s: until %v", tt.path, d.until)
		}
	}
}

// While a presence document trickled in, nobody else could change what shared its
// lock.
func TestSlowPresenceHoldsNoLock(t *testing.T) {
	r, _ := newSending(t, Options{})
	conn, err := net.Dial("tcp", r.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	path := "/api/v1/presence/romeo@example.org/slow"
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n", path, r.romeo)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("%q, %v", line, err) // the handler reads the body now
	}
	rs, body := r.call(http.MethodPut, path, r.romeo, jsonType, "{}")
	if rs.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", rs.Status, body)
	}
}

// A batch goes on for as long as its token is valid, not longer.
func TestBatchOfRevokedToken(t *testing.T) {
	r, _ := newSending(t, Options{})
	secret := r.token("romeo@example.org")
	token, err := r.users.CheckToken(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	rq := httptest.NewRequest(http.MethodPost, "/", nil)
	rq.Header.Set("Authorization", "Bearer "+secret)
	b := &batch{API: r.api, r: rq, token: &token, checked: time.Now().Add(-recheck)}
	if !b.good(t.Context()) {
		t.Fatal("a valid token is not good")
	}
	if err := r.users.RevokeToken(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	b.checked = time.Now().Add(-recheck)
	if b.good(t.Context()) {
		t.Error("a token that was revoked is good")
	}
	if _, err := r.users.CheckToken(t.Context(), secret); err != auth.ErrToken { //nolint:errorlint // as documented
		t.Error(err)
	}
}
