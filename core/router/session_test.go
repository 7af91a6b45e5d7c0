package router

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/stream"
)

func TestConflict(t *testing.T) {
	const full = "juliet@example.org/balcony"
	for _, tt := range []struct {
		name   string
		policy Conflict
		err    string
		kicked bool
		want   string // the second session's address
	}{
		{"replace, RFC 6120 §7.7.2.2", ConflictReplace, "", true, full},
		{"refuse", ConflictRefuse, "conflict", false, ""},
		{"rename", ConflictRename, "", false, "juliet@example.org/fresh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			first := w.bind(full, 0)
			second := &peer{conn: &conn{}}
			b := w.binding(full, second)
			b.Conflict, b.MaxSessions = tt.policy, 2
			names := []string{full, "juliet@example.org/fresh"} // a fresh name may be taken, too
			b.Rename = func() jid.JID { n := names[0]; names = names[1:]; return jid.Must(n) }
			s, err := w.Bind(b)
			if condition(err) != tt.err {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			kicks := first.kicked()
			if tt.kicked != (len(kicks) == 1) || tt.kicked && kicks[0].Condition != stream.Conflict {
				t.Errorf("kicked with %v", kicks)
			}
			left := 1
			if tt.err == "" {
				if s.JID.String() != tt.want || w.Session(s.JID) != s || s.Account != w.Account(s.JID.Bare()) {
					t.Errorf("bound as %s", s.JID)
				}
				if !tt.kicked {
					left = 2
				}
			}
			if w.Sessions() != left || len(w.Account(jid.Must("juliet@example.org")).Sessions()) != left {
				t.Errorf("%d sessions, want %d", w.Sessions(), left)
			}
			if w.Unbind(first.Session) == tt.kicked {
				t.Error("a replaced session was unbound, or one that was not was not")
			}
			if w.Unbind(first.Session) {
				t.Error("unbound twice")
			}
		})
	}
}

func TestMaxSessions(t *testing.T) {
	w := newWorld(t)
	try := func(resource string) error {
		b := w.binding("juliet@example.org/"+resource, &peer{conn: &conn{}})
		b.MaxSessions = 2
		_, err := w.Bind(b)
		return err
	}
	for _, tt := range []struct{ resource, want string }{
		{"a", ""},
		{"b", ""},
		{"c", "resource-constraint"}, // RFC 6120 §7.6.2.1
		{"b", ""},                    // replaces, and adds none
	} {
		if err := try(tt.resource); condition(err) != tt.want {
			t.Errorf("%s: %v, want %q", tt.resource, err, tt.want)
		}
	}
	if w.Sessions() != 2 {
		t.Errorf("%d sessions", w.Sessions())
	}
	var seen []string
	for a := range func(yield func(*Account) bool) { w.Accounts(yield) } {
		seen = append(seen, a.Bare.String())
	}
	if strings.Join(seen, " ") != "juliet@example.org" {
		t.Errorf("accounts %v", seen)
	}
}

// Whatever others send as soon as they can see the session comes behind the
// answer to its request to bind.
func TestGreetIsFirst(t *testing.T) {
	w := newWorld(t)
	full := jid.Must("juliet@example.org/balcony")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = w.send(message(stanza.Headline, full.String(), "other"), nil)
				}
			}
		})
	}
	for range 50 {
		p := &peer{conn: &conn{}}
		b := w.binding(full.String(), p)
		b.Held = true
		s, err := w.Bind(b)
		if err != nil {
			t.Fatal(err)
		}
		s.Begin(stanza.Raw(stanza.New(stanza.IQ, stanza.Result, jid.JID{}, jid.JID{}, "bind").String()))
		_ = w.send(message(stanza.Headline, full.String(), "own"), nil)
		if got := ids(p.conn.elements()); !strings.HasPrefix(got, "bind") || strings.Count(got, "bind") != 1 {
			t.Fatalf("got %.100s", got)
		}
		w.Unbind(s)
		s.Drop()
	}
	close(stop)
	wg.Wait()
}

// Many goroutines bind, replace and unbind the same few resources of an account.
func TestBindingUnderContention(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	type fate struct {
		p        *peer
		replaced bool
	}
	fates := make([][]fate, 8)
	for n := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(n)))
			for range 300 {
				p := &peer{conn: &conn{}}
				b := w.binding(fmt.Sprintf("juliet@example.org/%d", rnd.IntN(3)), p)
				b.Conflict = Conflict(rnd.IntN(3))
				b.MaxSessions = 4
				b.Rename = func() jid.JID { return jid.Must(fmt.Sprintf("juliet@example.org/r%d", rnd.Uint64())) }
				s, err := w.Bind(b)
				if err != nil {
					continue
				}
				s.SetPresence(&Presence{})
				if a := w.Account(s.JID.Bare()); a != nil && len(a.Sessions()) > 4 {
					t.Error("more sessions than the account may have")
				}
				_ = w.send(message("chat", "juliet@example.org", "1"), nil)
				found := w.Session(s.JID)
				replaced := !w.Unbind(s)
				if !replaced && found != s {
					t.Error("a bound session was not to be found")
				}
				s.Drop()
				fates[n] = append(fates[n], fate{p, replaced})
			}
		})
	}
	wg.Wait()
	// Who unbinds itself was not replaced. Who was replaced is told, by then at the
	// latest: the kick comes after the table has changed.
	for _, list := range fates {
		for _, f := range list {
			if kicks := f.p.kicked(); f.replaced != (len(kicks) == 1) {
				t.Errorf("replaced %v, kicked %v", f.replaced, kicks)
			}
		}
	}
	if n := w.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	if n := w.accounts.Size(); n != 0 {
		t.Errorf("%d accounts are left", n)
	}
}

// The last session leaves while the first of the next ones comes.
func TestBindingToAnAccountThatEmpties(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			b := w.binding(fmt.Sprintf("juliet@example.org/%d", n), &peer{conn: &conn{}})
			for range 2000 {
				s, err := w.Bind(b)
				if err != nil || w.Session(s.JID) != s {
					t.Errorf("bound, but not to be found: %v", err)
					return
				}
				w.Unbind(s)
			}
		})
	}
	wg.Wait()
	if w.Sessions() != 0 || w.accounts.Size() != 0 {
		t.Errorf("%d sessions, %d accounts are left", w.Sessions(), w.accounts.Size())
	}
}
