package router

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/stream"
	"trivium/core/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// conn is a connection that records what is written. While it holds it takes a
// batch and does not send it.
type conn struct {
	mu      sync.Mutex
	hold    bool
	err     error // of Write
	batches []stream.Batch
	done    func(error)
	over    bool // a Write began before done was called
}

func (c *conn) Read(func()) (stream.Event, error) { return stream.Event{}, io.EOF }
func (c *conn) Open(stream.Header) error          { return nil }
func (c *conn) Restart()                          {}
func (c *conn) Limit(wire.Limits)                 {}
func (c *conn) Close(*stream.Error)               {}
func (c *conn) Abort()                            {}
func (c *conn) Info() stream.Info                 { return stream.Info{Framing: "test"} }

func (c *conn) Write(b stream.Batch, done func(error)) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false, c.err
	}
	if c.done != nil {
		c.over = true
	}
	c.batches = append(c.batches, stream.Batch{Data: slices.Clone(b.Data), Ends: slices.Clone(b.Ends)})
	if c.hold {
		c.done = done
		return false, nil
	}
	return true, nil
}

// release ends the Write that is held.
func (c *conn) release(err error) {
	c.mu.Lock()
	done := c.done
	c.done = nil
	c.mu.Unlock()
	if done != nil {
		done(err)
	}
}

func (c *conn) set(hold bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold, c.err = hold, err
}

func (c *conn) writes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.batches)
}

// elements returns what was written, one by one.
func (c *conn) elements() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, b := range c.batches {
		at := 0
		for _, end := range b.Ends {
			out = append(out, string(b.Data[at:end]))
			at = end
		}
	}
	return out
}

// world is a router with a virtual host whose accounts exist unless named "nobody".
type world struct {
	*Router
	t      testing.TB
	mu     sync.Mutex
	stored []string // what found no session
	told   []string // what went to other servers: answers, that is
	refuse error    // of NoSession
}

type elsewhere struct{ w *world }

func (e elsewhere) Handle(_ context.Context, p *Packet) error {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.told = append(e.w.told, p.Stanza.String())
	return nil
}

func newWorld(t testing.TB) *world {
	w := &world{t: t}
	w.Router = New(Options{Remote: elsewhere{w}})
	w.Serve("example.org", w.Local())
	w.SetHooks(Hooks{
		Exists: func(_ context.Context, a jid.JID) (bool, error) { return a.Local() != "nobody", nil },
		Before: func(context.Context, *Packet) error { return nil },
		After:  func(context.Context, *Packet) error { return nil },
		Request: func(_ context.Context, p *Packet) error {
			return &stanza.Error{Condition: stanza.FeatureNotImplemented}
		},
		Refuse: func(*stanza.Stanza) error { return &stanza.Error{Condition: stanza.NotAllowed} },
		NoSession: func(_ context.Context, p *Packet) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.refuse != nil {
				return w.refuse
			}
			w.stored = append(w.stored, p.Stanza.ID)
			return ErrHandled
		},
	})
	return w
}

type peer struct {
	*Session
	conn  *conn
	mu    sync.Mutex
	kicks []*stream.Error
}

func (p *peer) kicked() []*stream.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.kicks)
}

const off = -128 // a priority that stands for no presence

func (w *world) binding(full string, p *peer) Binding {
	return Binding{JID: jid.Must(full), Conn: p.conn, OutboxLimit: 1 << 20, Kick: func(e *stream.Error) {
		p.mu.Lock()
		p.kicks = append(p.kicks, e)
		p.mu.Unlock()
	}}
}

// bind binds a session of this priority.
func (w *world) bind(full string, priority int8) *peer {
	w.t.Helper()
	p := &peer{conn: &conn{}}
	s, err := w.Bind(w.binding(full, p))
	if err != nil {
		w.t.Fatal(err)
	}
	p.Session = s
	if priority != off {
		s.SetPresence(&Presence{Priority: priority})
	}
	return p
}

func message(typ, to, id string) *stanza.Stanza {
	return stanza.New(stanza.Message, typ, jid.Must("romeo@example.net/orchard"), jid.Must(to), id,
		stanza.TextEl(stanza.NSClient, "body", "Art thou not Romeo?"))
}

// send routes one stanza in a turn of its own.
func (w *world) send(st *stanza.Stanza, rc *Receipt) error {
	var t Turn
	err := w.Send(context.Background(), &t, st, rc)
	t.Flush()
	return err
}

// ids returns the ids of the stanzas among elements.
func ids(elements []string) string {
	var out []string
	for _, e := range elements {
		if _, rest, ok := strings.Cut(e, " id='"); ok {
			id, _, _ := strings.Cut(rest, "'")
			out = append(out, id)
		}
	}
	return strings.Join(out, " ")
}

func condition(err error) string {
	if e, ok := err.(*stanza.Error); ok {
		return string(e.Condition)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestDelivery is RFC 6121 §8.5 and RFC 6120 §10.5 where no module has a word.
func TestDelivery(t *testing.T) {
	type got map[string]bool
	for _, tt := range []struct {
		name, kind, typ, to string
		want                string // the sessions that get it
		stored              bool
		err                 string
	}{
		// §8.5.2.1.1; high and high2 are "most available".
		{"bare, normal", "message", "", "juliet@example.org", "high high2", false, ""},
		{"bare, chat", "message", "chat", "juliet@example.org", "high high2", false, ""},
		{"bare, headline", "message", "headline", "juliet@example.org", "zero high high2", false, ""},
		{"bare, groupchat", "message", "groupchat", "juliet@example.org", "", false, "service-unavailable"},
		{"bare, error", "message", "error", "juliet@example.org", "", false, ""},
		{"bare, unknown type, §5.2.2", "message", "letter", "juliet@example.org", "high high2", false, ""},
		// §8.5.2.2.1: only negative priorities, or none.
		{"bare, negative", "message", "chat", "nurse@example.org", "", true, ""},
		{"bare, negative, headline", "message", "headline", "nurse@example.org", "", false, ""},
		{"bare, nobody here", "message", "", "tybalt@example.org", "", true, ""},
		// §8.5.3.1: a match gets it whatever its priority or presence.
		{"full, negative", "message", "chat", "juliet@example.org/negative", "negative", false, ""},
		{"full, no presence", "message", "groupchat", "juliet@example.org/silent", "silent", false, ""},
		{"full, error", "message", "error", "juliet@example.org/silent", "silent", false, ""},
		// §8.5.3.2.1: no match.
		{"full, gone, chat", "message", "chat", "juliet@example.org/gone", "high high2", false, ""},
		{"full, gone, normal", "message", "", "juliet@example.org/gone", "", false, "service-unavailable"},
		{"full, gone, headline", "message", "headline", "juliet@example.org/gone", "", false, "service-unavailable"},
		{"full, gone, groupchat", "message", "groupchat", "juliet@example.org/gone", "", false, "service-unavailable"},
		{"full, gone, error", "message", "error", "juliet@example.org/gone", "", false, ""},
		{"full, nobody here, chat", "message", "chat", "tybalt@example.org/gone", "", true, ""},
		// §8.5.1: no such account.
		{"nobody", "message", "chat", "nobody@example.org", "", false, "service-unavailable"},
		{"nobody, headline", "message", "headline", "nobody@example.org", "", false, ""},
		{"nobody, error", "message", "error", "nobody@example.org", "", false, ""},
		{"nobody, presence", "presence", "", "nobody@example.org", "", false, ""},
		{"nobody, subscribe", "presence", "subscribe", "nobody@example.org", "", false, ""},
		{"nobody, get", "iq", "get", "nobody@example.org", "", false, "not-allowed"},
		{"nobody, result", "iq", "result", "nobody@example.org", "", false, ""},
		// §8.5.2.1.2, §8.5.3.1, §8.5.3.2.2
		{"bare, presence", "presence", "", "juliet@example.org", "negative zero high high2", false, ""},
		{"full, presence", "presence", "unavailable", "juliet@example.org/zero", "zero", false, ""},
		{"full, gone, presence", "presence", "", "juliet@example.org/gone", "", false, ""},
		// §8.5.2.1.3, §8.5.3.1, §8.5.3.2.3
		{"bare, get", "iq", "get", "juliet@example.org", "", false, "feature-not-implemented"},
		{"bare, result", "iq", "result", "juliet@example.org", "", false, ""},
		{"full, get", "iq", "get", "juliet@example.org/silent", "silent", false, ""},
		{"full, result", "iq", "result", "juliet@example.org/silent", "silent", false, ""},
		{"full, gone, set", "iq", "set", "juliet@example.org/gone", "", false, "service-unavailable"},
		{"full, gone, error", "iq", "error", "juliet@example.org/gone", "", false, ""},
		// RFC 6120 §10.5.2, §10.5.3
		{"server, get", "iq", "get", "example.org", "", false, "feature-not-implemented"},
		{"server, result", "iq", "result", "example.org", "", false, ""},
		{"server, message", "message", "", "example.org", "", false, "service-unavailable"},
		{"server, message, error", "message", "error", "example.org", "", false, ""},
		{"server, presence", "presence", "", "example.org", "", false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			sessions := map[string]*peer{}
			for name, priority := range map[string]int8{"silent": off, "negative": -1, "zero": 0, "high": 5, "high2": 5} {
				sessions[name] = w.bind("juliet@example.org/"+name, priority)
			}
			w.bind("nurse@example.org/negative", -1)
			st := message(tt.typ, tt.to, "1")
			switch tt.kind {
			case "presence":
				st.Kind = stanza.Presence
			case "iq":
				st.Kind = stanza.IQ
			}
			if err := condition(w.send(st, nil)); err != tt.err {
				t.Errorf("error %q, want %q", err, tt.err)
			}
			want := got{}
			for _, name := range strings.Fields(tt.want) {
				want[name] = true
			}
			for name, s := range sessions {
				elements := s.conn.elements()
				if len(elements) > 1 || (len(elements) == 1) != want[name] {
					t.Errorf("%s got %q", name, elements)
				}
				// §8.5.2.1.1: never rewrite 'to'.
				if len(elements) == 1 && !strings.Contains(elements[0], " to='"+tt.to+"'") {
					t.Errorf("%s got %q", name, elements)
				}
			}
			if (len(w.stored) == 1) != tt.stored {
				t.Errorf("stored %v", w.stored)
			}
		})
	}
}

// §4.3.2, rule 1: who probes an account that is not there is unsubscribed.
func TestProbeOfNobody(t *testing.T) {
	w := newWorld(t)
	st := message(stanza.Probe, "nobody@example.org", "1")
	st.Kind = stanza.Presence
	if err := w.send(st, nil); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(w.told, ""); got != "<presence from='nobody@example.org' to='romeo@example.net/orchard' type='unsubscribed' id='1'/>" {
		t.Errorf("the prober is told %s", got)
	}
}

func TestDomains(t *testing.T) {
	r := New(Options{})
	if err := condition(r.Send(context.Background(), &Turn{}, message("", "a@example.org", "1"), nil)); err != "remote-server-not-found" { // RFC 6120 §10.4
		t.Errorf("error %q", err)
	}
	w := newWorld(t)
	if !w.Serves("example.org") || !w.Hosts("example.org") || w.Serves("example.net") {
		t.Error("the domains are others")
	}
	w.Serve("gateway.example.org", elsewhere{w})
	if !w.Serves("gateway.example.org") || w.Hosts("gateway.example.org") {
		t.Error("a gateway is no virtual host")
	}
	if err := w.send(message("", "+1@gateway.example.org", "1"), nil); err != nil || len(w.told) != 1 {
		t.Errorf("%v, %v", err, w.told)
	}
	w.Serve("gateway.example.org", nil)
	if w.Serves("gateway.example.org") {
		t.Error("the gateway is still there")
	}
}

func TestReceipt(t *testing.T) {
	var none *Receipt
	none.Hold()
	none.Release(io.EOF)

	var calls []error
	rc := NewReceipt(func(err error) { calls = append(calls, err) })
	rc.Hold()
	rc.Hold()
	rc.Release(nil)
	rc.Release(io.EOF)
	if len(calls) != 0 {
		t.Fatal("told before all have released it")
	}
	rc.Release(io.ErrClosedPipe)
	if len(calls) != 1 || calls[0] != io.EOF {
		t.Errorf("told %v, want the first error once", calls)
	}

	var mu sync.Mutex
	n := 0
	rc = NewReceipt(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		n++
	})
	var wg sync.WaitGroup
	for range 100 {
		rc.Hold()
		wg.Go(func() { rc.Release(nil) })
	}
	rc.Release(nil)
	wg.Wait()
	if n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestKeysAndFlags(t *testing.T) {
	w := newWorld(t)
	s := w.bind("juliet@example.org/a", off)
	a, b := w.NewFlag(), w.NewFlag()
	s.Set(a, true)
	if !s.Has(a) || s.Has(b) {
		t.Error("flags are mixed up")
	}
	s.Set(a, false)
	if s.Has(a) {
		t.Error("the flag is still set")
	}
	names, count := NewKey[string](), NewKey[int]()
	if names.Get(s.Session) != "" {
		t.Error("a value before any was stored")
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { count.Update(s.Session, func(n int) int { return n + 1 }) })
	}
	names.Update(s.Session, func(string) string { return "x" })
	wg.Wait()
	if count.Get(s.Session) != 50 || names.Get(s.Session) != "x" {
		t.Errorf("%d %q", count.Get(s.Session), names.Get(s.Session))
	}
	defer func() {
		if recover() == nil {
			t.Error("a 33rd flag")
		}
	}()
	for range 32 {
		w.NewFlag()
	}
}
