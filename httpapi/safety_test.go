package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"trivium/core/module"
	"trivium/core/store"
)

// keeper stores messages for accounts that are offline; commit ends the wait.
type keeper struct{ commit chan error }

func (k keeper) Register(h *module.Host) error {
	h.NoSession(func(_ context.Context, p *module.Packet) error {
		p.Receipt.Hold()
		rc := p.Receipt
		go func() { rc.Release(<-k.commit) }()
		return module.ErrHandled
	})
	return nil
}

const toJuliet = `{"to":"juliet@example.org","body":"hi"}`

// 202 waits for the commit, and is not given when it fails.
func TestAcceptedWhenCommitted(t *testing.T) {
	k := keeper{make(chan error, 1)}
	r := newREST(t, Options{}, k)
	for _, tt := range []struct {
		err    error
		status int
	}{
		{nil, http.StatusAccepted},
		{store.ErrFull, http.StatusServiceUnavailable},
		{store.ErrBusy, http.StatusServiceUnavailable},
		{errors.New("canary"), http.StatusInternalServerError},
	} {
		answer := make(chan *http.Response, 1)
		var body string
		go func() {
			var rs *http.Response
			rs, body = r.post(r.romeo, toJuliet)
			answer <- rs
		}()
		for r.Router.Routed.Load() == 0 { // it is on its way
			time.Sleep(time.Millisecond)
		}
		select {
		case rs := <-answer:
			t.Fatalf("%s before the commit", rs.Status)
		default:
		}
		k.commit <- tt.err
		if rs := <-answer; rs.StatusCode != tt.status || strings.Contains(body, "canary") {
			t.Errorf("%v: %s %s", tt.err, rs.Status, body)
		}
		r.Router.Routed.Store(0)
	}
}

// A device that does not read holds the answer up until it has got the message,
// or for Timeout.
func TestAcceptedWhenWritten(t *testing.T) {
	r := newREST(t, Options{})
	juliet := r.online("juliet@example.org/balcony")
	juliet.Stall()
	answer := make(chan *http.Response, 1)
	go func() {
		rs, _ := r.post(r.romeo, toJuliet)
		answer <- rs
	}()
	for r.Router.Routed.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	select {
	case rs := <-answer:
		t.Fatalf("%s before the message was written", rs.Status)
	default:
	}
	for juliet.Resume(); ; juliet.Resume() {
		select {
		case rs := <-answer:
			if rs.StatusCode != http.StatusAccepted {
				t.Fatal(rs.Status)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestTimeout(t *testing.T) {
	r := newREST(t, Options{Timeout: time.Millisecond})
	juliet := r.online("juliet@example.org/balcony")
	juliet.Stall()
	if rs, body := r.post(r.romeo, toJuliet); rs.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("%s: %s", rs.Status, body)
	}
	juliet.Resume() // late, and harmless
	juliet.Expect(`<message from='romeo@example.org' to='juliet@example.org' type='chat'><body>hi</body></message>`)
	if n := r.api.Stats.Failed.Load(); n != 1 {
		t.Errorf("%d failures counted", n)
	}
}
