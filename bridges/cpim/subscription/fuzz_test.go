package subscription_test

import (
	"fmt"
	"testing"
	"time"

	"trivium/bridges/cpim/pidf"
	"trivium/bridges/cpim/subscription"
	"trivium/core/stanza"
)

// FuzzOutgoing: whatever happens in whatever order, a Tick when it is due moves
// on, nothing is shown to a user who has not been told "subscribed" since the last
// "unsubscribed", and every request of the user is answered in the end.
func FuzzOutgoing(f *testing.F) {
	f.Add([]byte{0, 10, 20, 14, 1, 10, 20})
	f.Add([]byte{0, 14, 14, 14, 11, 6, 7, 2, 10, 20, 16})
	f.Fuzz(func(t *testing.T, script []byte) {
		now := time.Unix(0, 0)
		n := 0
		r := &subscription.Rules{NewID: func() string { n++; return fmt.Sprint(n) }, Jitter: func() float64 { return 0 }}
		s, err := subscription.NewOutgoing(alice, bob)
		if err != nil {
			t.Fatal(err)
		}
		shown, open := false, false // open: a subscribe or unsubscribe awaits its answer
		step := func(e subscription.Event) {
			var actions []subscription.Action
			s, actions = s.On(e, r, now)
			for _, a := range actions {
				switch a := a.(type) {
				case subscription.Tell:
					open = false
					shown = a.Type == stanza.Subscribed
				case subscription.Show, subscription.Replay:
					if !shown {
						t.Fatalf("%T after %#v to one who is not subscribed", a, e)
					}
				case subscription.Subscribe:
					if a.SubscriptID == "" || a.TransID == "" || a.Watcher == "" || a.Target == "" {
						t.Fatalf("incomplete %+v", a)
					}
				}
			}
		}
		wait := func(until time.Time) {
			for i := 0; ; i++ {
				due := s.Due()
				if due.IsZero() || due.After(until) {
					break
				}
				if due.After(now) {
					now = due
				}
				if i > 100000 {
					t.Fatalf("due again and again: %+v", s)
				}
				step(subscription.Tick{})
				if next := s.Due(); !next.IsZero() && !next.After(now) {
					t.Fatalf("still due after its Tick: %+v", s)
				}
			}
			now = until
		}
		for _, b := range script {
			switch b % 21 {
			case 0:
				open = open || s.State == subscription.None
				shown = shown && s.State == subscription.Active
				step(subscription.Presence{Type: stanza.Subscribe, ID: "s"})
			case 1:
				open = true
				step(subscription.Presence{Type: stanza.Unsubscribe, ID: "u"})
			case 2:
				step(subscription.Presence{Type: stanza.Probe})
			case 3, 4, 5, 6, 7:
				step(subscription.Response{TransID: s.TransID, Reason: subscription.Reason(b%21 - 3)})
			case 8:
				step(subscription.Online{Now: false})
			case 9:
				step(subscription.Online{Now: true})
			case 10, 11:
				step(subscription.Response{TransID: s.TransID, OK: true, Duration: time.Duration(b) * time.Second})
			case 12:
				step(subscription.Response{TransID: s.FetchTransID, OK: true})
			case 13:
				step(subscription.Response{TransID: s.FetchTransID, Reason: subscription.Denied})
			case 14:
				wait(now.Add(time.Duration(b) * time.Second))
			case 15:
				step(subscription.Notice{Undecided: true})
			case 16, 17:
				step(subscription.Notice{Ended: true, Reason: subscription.Reason(b % 5)})
			case 18:
				step(subscription.Response{TransID: "of nobody", OK: true})
			case 19:
				step(subscription.Tick{})
			case 20:
				step(subscription.Notice{Document: &pidf.Presence{}})
			}
		}
		if s.Away {
			step(subscription.Online{Now: true})
		}
		if s.State == subscription.Pending && s.Expires.IsZero() || s.State == subscription.Expiring {
			wait(now.Add(time.Hour))
			if open {
				t.Fatalf("no answer: %+v", s)
			}
		}
	})
}

// FuzzIncoming: every request is answered exactly once, only who is authorized is
// shown anything, and nobody is told more after the end.
func FuzzIncoming(f *testing.F) {
	f.Add([]byte{0, 4, 7, 6, 1, 0})
	f.Add([]byte{0, 7, 5, 8, 0, 9, 2, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		now := time.Unix(0, 0)
		n := 0
		r := &subscription.Rules{NewID: func() string { n++; return fmt.Sprint("n", n) }}
		var s subscription.Incoming
		waiting := map[string]bool{}
		authorized, blocked := false, false
		step := func(e subscription.Event) {
			var actions []subscription.Action
			s, actions = s.On(e, r, now)
			for _, a := range actions {
				switch a := a.(type) {
				case subscription.Answer:
					if !waiting[a.TransID] {
						t.Fatalf("%+v answers nothing, or again", a)
					}
					delete(waiting, a.TransID)
				case subscription.Notify:
					if a.What == subscription.Current && (!authorized || blocked) {
						t.Fatalf("%+v after %#v to one who may not see it", a, e)
					}
				}
			}
		}
		wait := func(until time.Time) {
			for {
				due := s.Due(r)
				if due.IsZero() || due.After(until) {
					break
				}
				if due.After(now) {
					now = due
				}
				step(subscription.Tick{})
				if next := s.Due(r); !next.IsZero() && !next.After(now) {
					t.Fatalf("still due after its Tick: %+v", s)
				}
			}
			now = until
		}
		for i, b := range script {
			trans := fmt.Sprint("t", i)
			switch b % 10 {
			case 0, 1, 2, 3:
				waiting[trans] = true
				step(subscription.Request{Duration: time.Duration(b%4) * 50 * time.Second, SubscriptID: fmt.Sprint("B", b%3), TransID: trans})
			case 4:
				authorized = true
				step(subscription.Presence{Type: stanza.Subscribed})
			case 5:
				authorized = false
				step(subscription.Presence{Type: stanza.Unsubscribed})
			case 6:
				step(subscription.Changed{})
			case 7:
				wait(now.Add(time.Duration(b) * time.Second))
			case 8:
				blocked = true
				step(subscription.Blocked{Now: true})
			case 9:
				step(subscription.Blocked{Now: false})
				blocked = false
			}
		}
		wait(now.Add(48 * time.Hour))
		if len(waiting) > 0 {
			t.Fatalf("not answered: %v", waiting)
		}
		if s.State() != subscription.None {
			t.Fatalf("lives for ever: %+v", s)
		}
	})
}

func TestDefaults(t *testing.T) {
	now := time.Unix(0, 0)
	var r subscription.Rules
	seen := map[string]bool{}
	for range 100 {
		s, err := subscription.NewOutgoing(alice, bob)
		if err != nil {
			t.Fatal(err)
		}
		s, actions := s.On(subscription.Presence{Type: stanza.Subscribe}, &r, now)
		op := actions[0].(subscription.Subscribe)
		for _, id := range []string{op.SubscriptID, op.TransID} {
			if seen[id] || len(id) > 40 || id == "" { // RFC 3859 §3.2
				t.Fatalf("identifier %q", id)
			}
			seen[id] = true
		}
		s, _ = s.On(subscription.Response{TransID: op.TransID, OK: true, Duration: 1000 * time.Second}, &r, now)
		if at := s.Due().Sub(now); at < 720*time.Second || at > 880*time.Second { // 80 %, give or take a tenth
			t.Errorf("refresh after %v", at)
		}
	}
}

func TestUnmappableAddresses(t *testing.T) {
	if _, err := subscription.NewOutgoing(alice, bob.Host()); err == nil {
		t.Error("a host has no pres: address")
	}
	if _, err := subscription.NewOutgoing(alice.Host(), bob); err == nil {
		t.Error("a host has no pres: address")
	}
}
