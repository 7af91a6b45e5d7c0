package hostile

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"trivium/core/c2s"
	"trivium/core/jid"
	"trivium/core/stream"
	"trivium/test/harness"
)

const (
	enable = "<enable xmlns='" + harness.NSSM + "' resume='true'/>"
	ask    = "<r xmlns='" + harness.NSSM + "'/>"
)

// managed logs in with stream management.
func managed(t *testing.T, s *harness.Server, framing, user, resource string) *harness.Client {
	t.Helper()
	c := login(t, s, framing, user, resource)
	must(t, c.Enable(""))
	return c
}

// authenticated is a stream that has logged in and not bound.
func authenticated(t *testing.T, s *harness.Server, framing, user string) *harness.Client {
	t.Helper()
	conn, err := s.Dial(framing)
	must(t, err)
	t.Cleanup(conn.Drop)
	c := &harness.Client{Conn: conn}
	must(t, c.Start("example.org"))
	must(t, c.Authenticate(user, "example.org", harness.Password))
	return c
}

// ending reads up to the end of a stream and returns the condition of its error,
// "" when there is none.
func ending(t *testing.T, c *harness.Client) (condition string, all []*harness.Node) {
	t.Helper()
	for {
		n, err := c.Conn.Receive()
		var ended *harness.Ended
		switch {
		case errors.As(err, &ended):
			if condition == "" {
				condition = ended.Condition
			}
			return condition, all
		case errors.Is(err, harness.ErrEnd):
			return condition, all
		case err != nil:
			t.Fatalf("the stream has not ended in order: %v after %v", err, all)
		}
		all = append(all, n)
		if n.Is(harness.NSStream, "error") && len(n.Children) > 0 {
			condition = n.Children[0].Name.Local
		}
	}
}

// XEP-0198 §3, §4, §6; RFC 6120 §4.9.3: what ends a stream, and how.
func TestAbusedStreamManagement(t *testing.T) {
	s := start(t, harness.Options{})
	a := func(h string) string { return "<a xmlns='" + harness.NSSM + "' h='" + h + "'/>" }
	for _, framing := range harness.Framings {
		for _, tt := range []struct{ name, in, want string }{
			{"enabled twice", enable + enable, "policy-violation"},
			{"enabled twice at once", enable + enable + enable, "policy-violation"},
			{"too high", enable + a("1"), "undefined-condition"},
			{"far too high", enable + a("4294967295"), "undefined-condition"},
			{"no number", enable + a("x"), "bad-format"},
			{"negative", enable + a("-1"), "bad-format"},
			{"beyond 32 bits", enable + a("4294967296"), "bad-format"},
			{"empty", enable + a(""), "bad-format"},
			{"no h", enable + "<a xmlns='" + harness.NSSM + "'/>", "bad-format"},
			{"a before enable", a("0"), "unsupported-stanza-type"},
			{"r before enable", ask, "unsupported-stanza-type"},
			{"enabled from the client", enable + "<enabled xmlns='" + harness.NSSM + "'/>", "unsupported-stanza-type"},
			{"resumed from the client", enable + "<resumed xmlns='" + harness.NSSM + "' h='0' previd='x'/>", "unsupported-stanza-type"},
			{"an old version", "<enable xmlns='urn:xmpp:sm:2'/>", "unsupported-stanza-type"},
		} {
			t.Run(framing+"/"+tt.name, func(t *testing.T) {
				c := login(t, s, framing, "mallory", "")
				for _, el := range strings.SplitAfter(tt.in, "/>") {
					if el != "" {
						_ = c.Conn.Send(el) // the server may have ended the stream
					}
				}
				got, all := ending(t, c)
				if got == "remote-stream-error" { // XEP-0206 §6: the error is inside
					t.Fatalf("no stream error in %v", all)
				}
				if got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			})
		}
	}
}

// Everything that is not a session of one's own that waits is item-not-found, told
// alike; 'h' is told to the owner only (XEP-0198 §5).
func TestResumeOfOthers(t *testing.T) {
	s := start(t, harness.Options{})
	for _, framing := range harness.Framings {
		juliet := managed(t, s, framing, "juliet", "here")
		must(t, juliet.Send("<presence/>"))
		alive(t, juliet)
		once := login(t, s, "tcp", "juliet", "once") // cannot be resumed
		must(t, once.Conn.Send("<enable xmlns='"+harness.NSSM+"'/>"))
		gone := managed(t, s, "tcp", "juliet", "gone")
		must(t, gone.Close())
		_, _ = ending(t, gone)

		evil := authenticated(t, s, framing, "mallory")
		for _, previd := range []string{juliet.SM.ID, gone.SM.ID, "", "0", strings.Repeat("x", 5000), "' OR 1=1 --", "juliet@example.org/here"} {
			for _, h := range []string{"0", "1", "4294967295", "", "x"} {
				must(t, evil.Send("<resume xmlns='"+harness.NSSM+"' previd=\""+previd+"\" h='"+h+"'/>"))
				n, err := evil.Receive()
				must(t, err)
				want := "item-not-found"
				if previd == "" || h == "" || h == "x" {
					want = "bad-request"
				}
				if !n.Is(harness.NSSM, "failed") || n.Child(harness.NSStanzas, want) == nil || n.Attr("h") != "" {
					t.Errorf("%.40q, h %q: %s", previd, h, n)
				}
			}
		}
		must(t, evil.Bind("evil")) // the stream goes on
		must(t, evil.Send("<resume xmlns='"+harness.NSSM+"' previd='"+juliet.SM.ID+"' h='0'/>"))
		if n, err := evil.Receive(); err != nil || n.Child(harness.NSStanzas, "unexpected-request") == nil {
			t.Errorf("bound: %v %v", n, err)
		}
		alive(t, juliet)
		alive(t, evil)
	}
}

// A peer that asks without end, and whose first message cannot be confirmed, has
// nothing remembered but numbers.
func TestFloodBehindUnsafeMessage(t *testing.T) {
	s := start(t, harness.Options{})
	for _, framing := range []string{"tcp", "websocket"} {
		c := managed(t, s, framing, "mallory", "flood")
		c.SM.Answer = true
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range 30 {
			must(t, c.Send("<message to='juliet@example.org'><body>x</body></message>"))
			for range 100 {
				must(t, c.Send("<presence/>"))
				must(t, c.Conn.Send(ask))
			}
			if i%10 == 9 {
				alive(t, c)
				c.Drain()
			}
		}
		must(t, c.AwaitAck(c.SM.Sent))
		c.Drain()
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
			t.Errorf("%s: %d octets are left", framing, grown)
		}
	}
}

// A session that its peer has lost is one of the account's, and does not keep the
// peer from having another.
func TestManyHibernatedSessions(t *testing.T) {
	s := start(t, harness.Options{Sessions: c2s.Options{MaxSessions: 5, Strangers: -1}})
	before := runtime.NumGoroutine()
	for i := range 40 {
		c := managed(t, s, harness.Framings[i%2], "mallory", fmt.Sprint("r", i))
		c.Drop()
		for end := time.Now().Add(harness.Patience); s.Core.Sessions.Stats.Streams.Load() > 0; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatal("the stream does not end")
			}
		}
		if n := s.Core.Router.Sessions(); n > 5 {
			t.Fatalf("%d sessions", n)
		}
	}
	if n := s.Core.Sessions.Stats.Hibernated.Load(); n != 5 {
		t.Errorf("%d wait", n)
	}
	// All that is left ends with the account.
	must(t, s.Auth.RemoveAccount(context.Background(), jid.Must("mallory@example.org")))
	for _, x := range s.Core.Router.Account(jid.Must("mallory@example.org")).Sessions() {
		x.Kick(stream.Err(stream.NotAuthorized, "removed"))
	}
	if n, w := s.Core.Router.Sessions(), s.Core.Sessions.Stats.Hibernated.Load(); n != 0 || w != 0 {
		t.Errorf("%d sessions are left, %d wait", n, w)
	}
	settled(t, before+4)
}

// Whoever is put out stays out, though a stream resumes the session in the same
// moment: a kick is not lost.
func TestKickDuringResumption(t *testing.T) {
	s := start(t, harness.Options{Sessions: c2s.Options{Strangers: -1}})
	account := jid.Must("juliet@example.org")
	for i := range 24 {
		c := managed(t, s, harness.Framings[i%3], "juliet", "here")
		must(t, c.Send("<presence/>"))
		alive(t, c)
		peer := s.Core.Router.Session(jid.Must("juliet@example.org/here"))
		next := authenticated(t, s, harness.Framings[(i/3)%3], "juliet")
		if i%2 == 0 {
			c.Drop()
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = next.Send("<resume xmlns='" + harness.NSSM + "' previd='" + c.SM.ID + "' h='0'/>")
			for { // it may have been resumed, but it has to end
				n, err := next.Receive()
				if err != nil || n.Is(harness.NSSM, "failed") {
					return
				}
			}
		})
		wg.Go(func() { peer.Kick(stream.Err(stream.NotAuthorized, "revoked")) })
		wg.Wait()
		next.Drop()
		c.Drop()
		for end := time.Now().Add(harness.Patience); s.Core.Router.Session(peer.JID) == peer; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("round %d: the session is still there: %+v", i, peer.State())
			}
		}
	}
	for end := time.Now().Add(harness.Patience); len(s.Core.Router.Account(account).Sessions()) > 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("sessions are left")
		}
	}
	if n := s.Core.Sessions.Stats.Hibernated.Load(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// Who has logged in and not bound when the account is removed is put out like those
// who have: the account may be somebody else's by now.
func TestLoginOutlivesItsAccount(t *testing.T) {
	ctx := context.Background()
	juliet := jid.Must("juliet@example.org")
	for _, tt := range []struct {
		name string
		do   func(s *harness.Server) error
	}{
		{"removed", func(s *harness.Server) error { return s.Auth.RemoveAccount(ctx, juliet) }},
		{"removed and made anew", func(s *harness.Server) error {
			return errors.Join(s.Auth.RemoveAccount(ctx, juliet), s.Auth.CreateAccount(ctx, juliet, "another"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, harness.Options{})
			c := authenticated(t, s, "tcp", "juliet")
			must(t, tt.do(s))
			if err := c.Bind("ghost"); err == nil {
				t.Errorf("bound as %s", c.JID)
			}
		})
	}
}

// Orderly stop while everybody loses connections and comes back.
func TestShutdownDuringResumption(t *testing.T) {
	var clients []*harness.Client
	t.Run("server", func(t2 *testing.T) {
		s := start(t2, harness.Options{Sessions: c2s.Options{Strangers: -1, MaxSessions: 100}})
		for i := range 12 {
			c := managed(t, s, harness.Framings[i%3], "juliet", fmt.Sprint("r", i))
			must(t2, c.Send("<presence/>"))
			clients = append(clients, c)
		}
		sender := login(t, s, "tcp", "romeo", "x")
		for i := range 12 {
			must(t2, sender.Send(fmt.Sprintf("<message to='juliet@example.org/r%d' type='chat'><body>x</body></message>", i)))
		}
		alive(t2, sender)
		sender.Drop()
		for i, c := range clients {
			c.Drop()
			go func() {
				conn, err := s.Dial(harness.Framings[(i+1)%3])
				if err != nil {
					return
				}
				next := &harness.Client{Conn: conn}
				defer next.Drop()
				if next.Start("example.org") == nil && next.Authenticate("juliet", "example.org", harness.Password) == nil {
					_ = next.Send("<resume xmlns='" + harness.NSSM + "' previd='" + c.SM.ID + "' h='0'/>")
					for err == nil {
						_, err = next.Receive()
					}
				}
			}()
		}
	}) // the server stops when this returns; it must not hang, nor panic
}
