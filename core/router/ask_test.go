package router

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
)

func request(to, id string) *stanza.Stanza {
	return stanza.New(stanza.IQ, stanza.Get, jid.Must("bot@example.org"), jid.Must(to), id, stanza.El("urn:xmpp:ping", "ping"))
}

func reply(from, to, typ, id string) *stanza.Stanza {
	return stanza.New(stanza.IQ, typ, jid.Must(from), jid.Must(to), id)
}

// TestQuestion: the answer comes from whom was asked, by its id, and from nobody else.
func TestQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		balcony := w.bind("juliet@example.org/balcony", 0)
		answers := make(chan *stanza.Stanza, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		go func() {
			a, err := w.Ask(ctx, request("juliet@example.org/balcony", "q1"))
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
		synctest.Wait()
		if got := ids(balcony.conn.elements()); got != "q1" {
			t.Fatalf("delivered %q", got)
		}
		for _, st := range []*stanza.Stanza{
			reply("juliet@example.org/chamber", "bot@example.org", stanza.Result, "q1"), // somebody else
			reply("juliet@example.org/balcony", "bot@example.org", stanza.Result, "q2"), // something else
			reply("juliet@example.org/balcony", "bot@example.org/x", stanza.Result, "q1"),
		} {
			_ = w.send(st, nil)
		}
		synctest.Wait()
		if len(answers) != 0 {
			t.Fatal("a stranger has answered")
		}
		if err := w.send(reply("juliet@example.org/balcony", "bot@example.org", stanza.Result, "q1"), nil); err != nil {
			t.Fatal(err)
		}
		if a := <-answers; a.Type != stanza.Result || a.ID != "q1" {
			t.Errorf("answer %s", a)
		}
		if w.asking.Load() != 0 || w.questions.Size() != 0 {
			t.Error("a question is left")
		}
	})
}

func TestQuestionToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		// RFC 6121 §8.5.3.2.3
		a, err := w.Ask(context.Background(), request("juliet@example.org/gone", "q1"))
		if err != nil || a.Type != stanza.TypeError || !a.Has(stanza.NSClient, "error") {
			t.Errorf("%v, %v", a, err)
		}
		w.bind("juliet@example.org/silent", 0)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if a, err := w.Ask(ctx, request("juliet@example.org/silent", "q1")); err != context.DeadlineExceeded {
			t.Errorf("%v, %v", a, err)
		}
		if w.asking.Load() != 0 || w.questions.Size() != 0 {
			t.Error("a question is left")
		}
	})
}

// TestAgent: what an agent's session is, and that nothing can be sent to it.
func TestAgent(t *testing.T) {
	w := newWorld(t)
	var turn Turn
	for _, from := range []string{"juliet@example.org", "juliet@example.org/rest"} {
		s := w.Agent(jid.Must(from))
		if s.Account.Bare != jid.Must("juliet@example.org") || w.Account(s.Account.Bare) != nil {
			t.Errorf("%s: its account is %s", from, s.Account.Bare)
		}
		if s.Deliver(&turn, message(stanza.Chat, from, "m1"), nil) {
			t.Errorf("%s takes a message", from)
		}
		s.Kick(nil)
		s.Drop()
	}
	// A session without a connection that is bound is seen, and passed over.
	s, err := w.Bind(Binding{JID: jid.Must("juliet@example.org/rest"), Kick: nil})
	if err != nil {
		t.Fatal(err)
	}
	s.SetPresence(&Presence{Priority: -1})
	for i, to := range []string{"juliet@example.org", "juliet@example.org/rest"} {
		if err := w.send(message(stanza.Chat, to, "m"), nil); err != nil || len(w.stored) != i+1 {
			t.Errorf("to %s: %v, stored %v", to, err, w.stored)
		}
	}
	balcony := w.bind("juliet@example.org/balcony", 0)
	if err := w.send(message(stanza.Chat, "juliet@example.org/rest", "n1"), nil); err != nil {
		t.Fatal(err)
	}
	if got := ids(balcony.conn.elements()); got != "n1" {
		t.Errorf("the client got %q", got)
	}
}
