package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/stream"
	"trivium/core/wire"
)

// feature is a module made of its Register.
type feature func(*Host) error

func (f feature) Register(h *Host) error { return f(h) }

// conn is a connection that records what is written.
type conn struct{ out strings.Builder }

func (c *conn) Read(func()) (stream.Event, error) { return stream.Event{}, io.EOF }
func (c *conn) Open(stream.Header) error          { return nil }
func (c *conn) Restart()                          {}
func (c *conn) Limit(wire.Limits)                 {}
func (c *conn) Close(*stream.Error)               {}
func (c *conn) Abort()                            {}
func (c *conn) Info() stream.Info                 { return stream.Info{} }
func (c *conn) Write(b stream.Batch, _ func(error)) (bool, error) {
	c.out.Write(b.Data)
	return true, nil
}

func (c *conn) take() string {
	s := c.out.String()
	c.out.Reset()
	return s
}

// world is a host of example.org with two sessions; the account nobody is missing.
type world struct {
	*Host
	t             testing.TB
	romeo, juliet *Session
	romeoC        *conn
	julietC       *conn
}

func newHost() *Host {
	r := router.New(router.Options{})
	r.Serve("example.org", r.Local())
	return NewHost(r, nil, slog.New(slog.DiscardHandler), time.Now, []string{"example.org"},
		func(_ context.Context, a jid.JID) (bool, error) { return a.Local() != "nobody", nil })
}

func build(t testing.TB, register func(*Host) error) *world {
	t.Helper()
	w := &world{Host: newHost(), t: t}
	if err := w.Build(feature(register)); err != nil {
		t.Fatal(err)
	}
	w.romeo, w.romeoC = w.session("romeo@example.org/orchard")
	w.juliet, w.julietC = w.session("juliet@example.org/balcony")
	return w
}

func (w *world) session(full string) (*Session, *conn) {
	w.t.Helper()
	c := &conn{}
	s, err := w.Router.Bind(router.Binding{JID: jid.Must(full), Conn: c, OutboxLimit: 1 << 20, Kick: func(*stream.Error) {}})
	if err != nil {
		w.t.Fatal(err)
	}
	s.SetPresence(&Presence{})
	return s, c
}

// send brings romeo's stanza on its way, as a session does, and returns the
// condition of the error that he is told.
func (w *world) send(st *stanza.Stanza) string {
	w.t.Helper()
	var turn Turn
	p := &Packet{Stanza: st, Session: w.romeo, Turn: &turn}
	err := w.Out(w.t.Context(), p)
	if err == nil {
		err = w.Router.Route(w.t.Context(), p)
	}
	turn.Flush()
	var e *stanza.Error
	switch {
	case err == nil, errors.Is(err, ErrHandled):
		return ""
	case errors.As(err, &e):
		return string(e.Condition)
	}
	return err.Error()
}

func (w *world) iq(typ, to string, payload ...stanza.Payload) *stanza.Stanza {
	return stanza.New(stanza.IQ, typ, w.romeo.JID, jid.Must(to), "1", payload...)
}

var query = stanza.El("urn:x", "query")

func answer(context.Context, *Request) (stanza.Payload, error) {
	return stanza.El("urn:x", "answer"), nil
}

func TestDispatch(t *testing.T) {
	fails := func(err error) Handler {
		return func(context.Context, *Request) (stanza.Payload, error) { return nil, err }
	}
	w := build(t, func(h *Host) error {
		h.IQ(Server, stanza.Get, "urn:x", "query", answer)
		h.IQ(Own, stanza.Set, "urn:x", "query", answer)
		h.IQ(Account|Server, stanza.Get, "urn:x", "both", answer)
		h.IQ(Account, stanza.Get, "urn:x", "split", answer)
		h.IQ(Server, stanza.Get, "urn:x", "split", fails(stanza.Err(stanza.Gone, "")))
		h.IQ(Server, stanza.Set, "urn:x", "fails", fails(stanza.Err(stanza.NotAcceptable, "")))
		h.IQ(Server, stanza.Set, "urn:x", "breaks", fails(io.ErrUnexpectedEOF))
		h.IQ(Server, stanza.Set, "urn:x", "empty", fails(nil))
		return nil
	})
	const own, other, server = "romeo@example.org", "juliet@example.org", "example.org"
	el := func(local string) []stanza.Payload { return []stanza.Payload{stanza.El("urn:x", local)} }
	for _, tt := range []struct {
		name, typ, to string
		payload       []stanza.Payload
		want          string // a condition, or "answer"
	}{
		{"server", stanza.Get, server, el("query"), "answer"},
		{"server, another type", stanza.Set, server, el("query"), "service-unavailable"}, // RFC 6120 §8.4
		{"server, another namespace", stanza.Get, server, []stanza.Payload{stanza.El("urn:y", "query")}, "service-unavailable"},
		{"server's, to an account", stanza.Get, own, el("query"), "service-unavailable"}, // RFC 6121 §8.5.2.1.3
		{"own", stanza.Set, own, el("query"), "answer"},
		{"own, of another", stanza.Set, other, el("query"), "forbidden"}, // RFC 6121 §2.3.3
		{"both, server", stanza.Get, server, el("both"), "answer"},
		{"both, another account", stanza.Get, other, el("both"), "answer"},
		{"one handler each, account", stanza.Get, other, el("split"), "answer"},
		{"one handler each, server", stanza.Get, server, el("split"), "gone"},
		{"a stanza error", stanza.Set, server, el("fails"), "not-acceptable"},
		{"another error", stanza.Set, server, el("breaks"), "unexpected EOF"},
		{"an empty result", stanza.Set, server, el("empty"), "empty"},
		{"no child, RFC 6120 §8.2.3", stanza.Get, server, nil, "bad-request"},
		{"two children", stanza.Get, server, append(el("query"), el("query")...), "bad-request"},
		{"an answer to the server ends there", stanza.Result, server, nil, ""},
		{"an answer to an account, too", stanza.Result, own, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := w.send(w.iq(tt.typ, tt.to, tt.payload...))
			out := w.romeoC.take()
			want := ""
			switch tt.want {
			case "answer":
				want = "<iq from='" + tt.to + "' to='romeo@example.org/orchard' type='result' id='1'><answer xmlns='urn:x'/></iq>"
			case "empty":
				want = "<iq from='" + tt.to + "' to='romeo@example.org/orchard' type='result' id='1'/>"
			default:
				if got != tt.want {
					t.Errorf("error %q, want %q", got, tt.want)
				}
			}
			if out != want {
				t.Errorf("got  %s\nwant %s", out, want)
			}
			if s := w.julietC.take(); s != "" {
				t.Errorf("juliet got %s", s)
			}
		})
	}
}

// RFC 6121 §8.5.1, §11: a stranger cannot tell by the answer whether an account is
// there, has sessions or not.
func TestStrangersCannotTell(t *testing.T) {
	w := build(t, func(h *Host) error {
		h.IQ(Own, stanza.Get, "urn:x", "own", answer)
		h.IQ(Own, stanza.Set, "urn:x", "own", answer)
		h.IQ(Server, stanza.Get, "urn:x", "servers", answer)
		h.IQ(Account, stanza.Get, "urn:x", "friends", func(context.Context, *Request) (stanza.Payload, error) {
			return nil, &stanza.Error{Condition: stanza.ServiceUnavailable} // the rule for handlers
		})
		return nil
	})
	payloads := [][]stanza.Payload{nil, {query, query}, {query}}
	for _, local := range []string{"own", "servers", "friends"} {
		payloads = append(payloads, []stanza.Payload{stanza.El("urn:x", local)})
	}
	for _, resource := range []string{"", "/gone"} {
		for _, typ := range []string{stanza.Get, stanza.Set, stanza.Result, stanza.TypeError} {
			for i, payload := range payloads {
				var first string
				for n, account := range []string{"nobody", "juliet", "tybalt"} { // missing, online, offline
					got := w.send(w.iq(typ, account+"@example.org"+resource, payload...))
					if n == 0 {
						first = got
					} else if got != first {
						t.Errorf("iq %s %d to %s%s: %q; to nobody: %q", typ, i, account, resource, got, first)
					}
				}
			}
		}
	}
	for _, typ := range []string{stanza.Chat, stanza.GroupChat, stanza.Headline, stanza.TypeError, ""} {
		st := stanza.New(stanza.Message, typ, w.romeo.JID, jid.Must("nobody@example.org/x"), "1")
		if a, b := w.send(st), w.send(st.Readdressed(st.From, jid.Must("tybalt@example.org/x"))); a != b {
			t.Errorf("message %q: %q to nobody, %q to tybalt", typ, a, b)
		}
	}
}

func TestDuplicateHandlers(t *testing.T) {
	for _, tt := range []struct {
		name     string
		register func(*Host)
		ok       bool
	}{
		{"the same scope", func(h *Host) {
			h.IQ(Server, stanza.Get, "urn:x", "q", answer)
			h.IQ(Server|Account, stanza.Get, "urn:x", "q", answer)
		}, false},
		{"account and own", func(h *Host) {
			h.IQ(Account, stanza.Get, "urn:x", "q", answer)
			h.IQ(Own, stanza.Get, "urn:x", "q", answer)
		}, false},
		{"before authentication", func(h *Host) {
			h.BeforeAuth(stanza.Get, "urn:x", "q", answer)
			h.BeforeAuth(stanza.Get, "urn:x", "q", answer)
		}, false},
		{"different ones", func(h *Host) {
			h.IQ(Server, stanza.Get, "urn:x", "q", answer)
			h.IQ(Server, stanza.Set, "urn:x", "q", answer)
			h.IQ(Own, stanza.Get, "urn:x", "q", answer)
			h.IQ(Server, stanza.Get, "urn:y", "q", answer)
			h.BeforeAuth(stanza.Get, "urn:x", "q", answer)
			h.BeforeAuth(stanza.Set, "urn:x", "q", answer)
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := newHost().Build(feature(func(h *Host) error { tt.register(h); return nil }))
			if (err == nil) != tt.ok {
				t.Errorf("Build: %v", err)
			}
		})
	}
	if err := newHost().Build(feature(func(*Host) error { return io.EOF })); !errors.Is(err, io.EOF) {
		t.Errorf("a module that cannot register: %v", err)
	}
}

func TestPhases(t *testing.T) {
	var seen []string
	note := func(what string) Step {
		return func(_ context.Context, p *Packet) error {
			seen = append(seen, fmt.Sprintf("%s:%d", what, len(p.Targets)))
			return nil
		}
	}
	w := build(t, func(h *Host) error {
		// In no order: the phases make it.
		h.Inbound(Observe, stanza.Message, note("in observe"))
		h.Inbound(Guard, stanza.Any, note("in guard"))
		h.Outbound(Observe, stanza.Message, note("out observe"))
		h.Outbound(Rewrite, stanza.Message, func(_ context.Context, p *Packet) error {
			seen = append(seen, "out rewrite")
			p.Stanza = p.Stanza.Append(stanza.El("urn:x", "stamp"))
			return nil
		})
		h.Outbound(Guard, stanza.Message|stanza.IQ, note("out guard"))
		h.Outbound(Guard, stanza.Message, note("out guard, second"))
		h.Inbound(Rewrite, stanza.Message, func(_ context.Context, p *Packet) error {
			if !p.Stanza.Has("urn:x", "stamp") || p.Received != p.Stanza {
				t.Error("the stanza is not the one that went out")
			}
			seen = append(seen, "in rewrite")
			return nil
		})
		h.Broadcast(Observe, note("broadcast observe"))
		h.Broadcast(Guard, note("broadcast guard"))
		return nil
	})
	if got := w.send(stanza.New(stanza.Message, stanza.Chat, w.romeo.JID, jid.Must("juliet@example.org"), "1")); got != "" {
		t.Error(got)
	}
	want := "out guard:0, out guard, second:0, out rewrite, out observe:0, in guard:0, in rewrite, in observe:1"
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := w.julietC.take(); !strings.Contains(got, "<stamp xmlns='urn:x'/>") {
		t.Errorf("juliet got %s", got)
	}
	seen = nil
	if err := w.Announce(t.Context(), &Packet{Stanza: stanza.New(stanza.Presence, "", w.romeo.JID, jid.JID{}, ""), Session: w.romeo}); err != nil {
		t.Error(err)
	}
	if got := strings.Join(seen, ", "); got != "broadcast guard:0, broadcast observe:0" {
		t.Errorf("announced: %s", got)
	}
}

// A step that has dealt with the stanza, or refuses it, ends its way at any place.
func TestStepsEndTheWay(t *testing.T) {
	for _, tt := range []struct {
		name      string
		err       error
		told      string
		delivered bool
		place     func(*Host, Step)
	}{
		{"handled, outbound guard", ErrHandled, "", false, func(h *Host, s Step) { h.Outbound(Guard, stanza.Message, s) }},
		{"refused, outbound observe", stanza.Err(stanza.NotAllowed, ""), "not-allowed", false, func(h *Host, s Step) { h.Outbound(Observe, stanza.Message, s) }},
		{"handled, inbound rewrite", ErrHandled, "", false, func(h *Host, s Step) { h.Inbound(Rewrite, stanza.Message, s) }},
		{"refused, inbound guard", stanza.Err(stanza.NotAllowed, ""), "not-allowed", false, func(h *Host, s Step) { h.Inbound(Guard, stanza.Message, s) }},
		{"handled, inbound observe", ErrHandled, "", true, func(h *Host, s Step) { h.Inbound(Observe, stanza.Message, s) }},
		{"another kind", stanza.Err(stanza.NotAllowed, ""), "", true, func(h *Host, s Step) { h.Inbound(Guard, stanza.IQ|stanza.Presence, s) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := build(t, func(h *Host) error {
				tt.place(h, func(context.Context, *Packet) error { return tt.err })
				return nil
			})
			if got := w.send(stanza.New(stanza.Message, "", w.romeo.JID, w.juliet.JID, "1")); got != tt.told {
				t.Errorf("told %q, want %q", got, tt.told)
			}
			if got := w.julietC.take(); (got != "") != tt.delivered {
				t.Errorf("juliet got %q", got)
			}
		})
	}
}

func TestNoSession(t *testing.T) {
	var asked []string
	w := build(t, func(h *Host) error {
		h.NoSession(func(_ context.Context, p *Packet) error { asked = append(asked, "first"); return nil })
		h.NoSession(func(_ context.Context, p *Packet) error {
			asked = append(asked, "second")
			if p.Stanza.Type == stanza.Chat {
				return ErrHandled
			}
			return nil
		})
		h.NoSession(func(_ context.Context, p *Packet) error { asked = append(asked, "third"); return nil })
		return nil
	})
	for typ, want := range map[string]string{
		stanza.Chat: "first second/", "": "first second third/service-unavailable", // RFC 6121 §8.5.2.2.1
	} {
		asked = nil
		got := w.send(stanza.New(stanza.Message, typ, w.romeo.JID, jid.Must("tybalt@example.org"), "1"))
		if s := strings.Join(asked, " ") + "/" + got; s != want {
			t.Errorf("type %q: %s, want %s", typ, s, want)
		}
	}
}

func TestBeforeAuth(t *testing.T) {
	w := build(t, func(h *Host) error {
		h.BeforeAuth(stanza.Set, "urn:x", "query", answer)
		h.IQ(Server, stanza.Get, "urn:x", "query", answer)
		return nil
	})
	if !w.AnswersBeforeAuth(stanza.Set, "urn:x", "query") || w.AnswersBeforeAuth(stanza.Get, "urn:x", "query") || w.AnswersBeforeAuth(stanza.Set, "urn:y", "query") {
		t.Error("others are answered")
	}
	ask := func(typ string, payload ...stanza.Payload) string {
		st := stanza.New(stanza.IQ, typ, jid.JID{}, jid.Must("example.org"), "1", payload...)
		p, err := w.BeforeAuthRequest(t.Context(), &Request{Stanza: st})
		var e *stanza.Error
		if errors.As(err, &e) {
			return string(e.Condition)
		}
		return string(p.AppendXML(nil))
	}
	for _, tt := range []struct{ typ, got, want string }{
		{stanza.Set, ask(stanza.Set, query), "<answer xmlns='urn:x'/>"},
		{stanza.Get, ask(stanza.Get, query), "not-authorized"},
		{stanza.Set, ask(stanza.Set), "bad-request"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %s, want %s", tt.typ, tt.got, tt.want)
		}
	}
}

func TestAnnouncements(t *testing.T) {
	w := build(t, func(h *Host) error {
		h.Feature(Server, "urn:b", "urn:a")
		h.Feature(Server|Account, "urn:b", "urn:c")
		h.StreamFeature(func(st Stage, host string) stanza.Payload {
			if st != AfterLogin {
				return nil
			}
			return stanza.El("urn:x", host)
		})
		h.Barrier(func(_ context.Context, account, other jid.JID) bool { return other.Local() == "tybalt" })
		return nil
	})
	if got := strings.Join(w.Disco().ServerFeatures, " "); got != "urn:a urn:b urn:c" {
		t.Errorf("server: %s", got)
	}
	if got := strings.Join(w.Disco().AccountFeatures, " "); got != "urn:b urn:c" {
		t.Errorf("account: %s", got)
	}
	if n := len(w.StreamFeatures(BeforeLogin, "example.org")); n != 0 {
		t.Errorf("%d features before login", n)
	}
	if f := w.StreamFeatures(AfterLogin, "example.org"); len(f) != 1 || string(f[0].AppendXML(nil)) != "<example.org xmlns='urn:x'/>" {
		t.Errorf("features %v", f)
	}
	romeo := jid.Must("romeo@example.org")
	if !w.Barred(t.Context(), romeo, jid.Must("tybalt@example.org")) || w.Barred(t.Context(), romeo, jid.Must("juliet@example.org")) {
		t.Error("others are barred")
	}
}

func TestStopOrder(t *testing.T) {
	var got []int
	w := build(t, func(h *Host) error {
		for i := range 3 {
			h.OnStop(func() { got = append(got, i) })
		}
		return nil
	})
	w.Stop()
	if fmt.Sprint(got) != "[2 1 0]" {
		t.Errorf("stopped in the order %v", got)
	}
}

// What one hook has sent goes out although another fails.
func TestAccountLeaving(t *testing.T) {
	w := build(t, func(h *Host) error {
		h.Leaving(func(ctx context.Context, turn *Turn, account jid.JID) error {
			return h.Router.Send(ctx, turn, stanza.New(stanza.Presence, stanza.Unsubscribed, account, jid.Must("juliet@example.org"), ""), nil)
		})
		h.Leaving(func(context.Context, *Turn, jid.JID) error { return io.EOF })
		h.Leaving(func(context.Context, *Turn, jid.JID) error { t.Error("called behind a failure"); return nil })
		return nil
	})
	var turn Turn
	if err := w.AccountLeaving(t.Context(), &turn, jid.Must("tybalt@example.org")); !errors.Is(err, io.EOF) {
		t.Errorf("AccountLeaving: %v", err)
	}
	if got := w.julietC.take(); got != "<presence from='tybalt@example.org' to='juliet@example.org' type='unsubscribed'/>" {
		t.Errorf("juliet got %q", got)
	}
}
