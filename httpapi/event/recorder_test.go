package event_test

import (
	"context"
	"errors"
	"testing"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/event"
)

// late lets a log be made once the server of a test has its store.
type late struct{ event.Appender }

// journal is an Appender that keeps what it gets, or refuses it.
type journal struct {
	list   []*event.Event
	refuse error
}

func (j *journal) Append(e *event.Event, _ *router.Receipt) error {
	if j.refuse == nil {
		j.list = append(j.list, e)
	}
	return j.refuse
}

func (j *journal) take() []*event.Event {
	list := j.list
	j.list = nil
	return list
}

// keeper stores what finds nobody, as a module for offline messages does.
type keeper struct{ n int }

func (k *keeper) Register(h *module.Host) error {
	h.NoSession(func(context.Context, *module.Packet) error { k.n++; return module.ErrHandled })
	return nil
}

func patterns(list ...string) []jid.Pattern {
	out := make([]jid.Pattern, len(list))
	for i, s := range list {
		out[i] = jid.MustPattern(s)
	}
	return out
}

func available(t *testing.T, s *modtest.Server, full string) *modtest.Client {
	t.Helper()
	c := s.Connect(full)
	c.Session.SetPresence(&module.Presence{Stanza: modtest.Parse(t, "<presence/>")})
	return c
}

func TestRecorder(t *testing.T) {
	j := &journal{}
	r := event.NewRecorder(j)
	k := &keeper{}
	s := modtest.New(t, r, k)
	romeo := s.Connect("romeo@example.org/orchard")
	juliet := available(t, s, "juliet@example.org/balcony")
	send := func(to string) {
		romeo.Send(`<message to='` + to + `' type='chat' id='x'><body>hi</body></message>`)
	}
	for _, tt := range []struct {
		watch []jid.Pattern
		to    string
		want  bool
	}{
		{nil, "juliet@example.org", false},
		{patterns("juliet@example.org"), "juliet@example.org", true},
		{patterns("juliet@example.org"), "juliet@example.org/balcony", true},
		{patterns("juliet@example.org"), "nurse@example.org", false},
		{patterns("example.org"), "nurse@example.org", true}, // offline
		{patterns("example.com"), "juliet@example.org", false},
		{patterns("jul*@example.org"), "juliet@example.org", true},
		{patterns("jul*@example.org"), "nurse@example.org", false},
		{patterns("juliet@example.org/balcony"), "juliet@example.org/balcony", true},
		{patterns("juliet@example.org/balcony"), "juliet@example.org", false},
		{patterns("juliet@example.org", "example.org", "j*@example.org"), "juliet@example.org", true}, // once
	} {
		r.Watch("hook", tt.watch)
		send(tt.to)
		list := j.take()
		if !tt.want {
			if len(list) != 0 {
				t.Errorf("%v, to %s: %d events", tt.watch, tt.to, len(list))
			}
			continue
		}
		if len(list) != 1 {
			t.Errorf("%v, to %s: %d events", tt.watch, tt.to, len(list))
			continue
		}
		e := list[0]
		st, err := stanza.ParseDocument(e.Stanza)
		if err != nil || st.ID != "x" || e.Type != event.Message || e.Host != "example.org" ||
			e.From != jid.Must("romeo@example.org/orchard") || e.To != jid.Must(tt.to) {
			t.Errorf("%v, to %s: %+v, %v", tt.watch, tt.to, e, err)
		}
	}
	juliet.Take()
	if k.n != 3 {
		t.Errorf("%d messages found nobody", k.n)
	}

	// Owners do not replace each other's lists, and an empty one ends the watch.
	r.Watch("hook", patterns("juliet@example.org"))
	r.Watch("other", patterns("nurse@example.org"))
	send("juliet@example.org")
	r.Watch("hook", nil)
	send("juliet@example.org")
	send("nurse@example.org")
	if n := len(j.take()); n != 2 {
		t.Errorf("%d events", n)
	}

	// Errors are no news, and a copy that finds no place does not hurt the message.
	r.Watch("hook", patterns("example.org"))
	juliet.Take()
	romeo.Send(`<message to='juliet@example.org/balcony' type='error'><error type='cancel'>` +
		`<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`)
	juliet.Expect(`<message from='romeo@example.org/orchard' to='juliet@example.org/balcony' type='error'>` +
		`<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`)
	if n := len(j.take()); n != 0 {
		t.Errorf("%d events of an error", n)
	}
	j.refuse = errors.New("full")
	send("juliet@example.org")
	juliet.Expect(`<message from='romeo@example.org/orchard' to='juliet@example.org' type='chat'><body>hi</body></message>`)
	romeo.Quiet()
	if r.Dropped() != 1 {
		t.Errorf("%d dropped", r.Dropped())
	}
}

// TestRecorderReceipt: the sender's acknowledgement waits for the commit of the
// copy.
func TestRecorderReceipt(t *testing.T) {
	l := &late{}
	r := event.NewRecorder(l)
	s := modtest.New(t, r)
	l.Appender = newLog(t, event.Options{Store: s.Store})
	romeo, juliet := s.Connect("romeo@example.org/orchard"), available(t, s, "juliet@example.org/balcony")
	r.Watch("hook", patterns("juliet@example.org"))
	safe := make(chan error, 1)
	rc := router.NewReceipt(func(err error) { safe <- err })
	romeo.SendStanza(modtest.Parse(t, `<message from='romeo@example.org/orchard' to='juliet@example.org' type='chat'><body>hi</body></message>`), rc)
	rc.Release(nil)
	if err := <-safe; err != nil {
		t.Fatal(err)
	}
	var n int
	if err := s.Store.QueryRow(t.Context(), `SELECT COUNT(*) FROM event_log`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d events when the message was safe, %v", n, err)
	}
	juliet.Next()
}
