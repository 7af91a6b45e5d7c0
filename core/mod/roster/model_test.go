package roster_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/module"
)

// TestBothSidesAgree: whatever two local accounts send each other, one is
// subscribed to the other exactly when the other's roster says that it is, and
// both rosters in memory are what the store holds.
func TestBothSidesAgree(t *testing.T) {
	r := roster.New(roster.Options{})
	p := presence.New(r, presence.Options{})
	r.ShowWith(p)
	s := modtest.New(t, r, p)
	fresh := roster.New(roster.Options{})
	h := module.NewHost(s.Router, s.Store, s.Host.Log, s.Now, s.Host.Hosts, nil)
	if err := fresh.Register(h); err != nil {
		t.Fatal(err)
	}
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		var clients [2]*modtest.Client
		for i, name := range []string{"a", "b"} {
			clients[i] = s.Connect(fmt.Sprintf("%s%d@example.org/x", name, run))
			clients[i].Send(`<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>`)
			clients[i].Send(`<presence/>`)
		}
		a, b := clients[0].JID.Bare(), clients[1].JID.Bare()
		actions := []string{"subscribe", "subscribed", "unsubscribe", "unsubscribed", "add", "remove"}
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			who := rapid.IntRange(0, 1).Draw(t, "who")
			other := []jid.JID{b, a}[who].String()
			switch action := rapid.SampledFrom(actions).Draw(t, "action"); action {
			case "add":
				clients[who].Send(set(`<item jid='` + other + `' name='x'/>`))
			case "remove":
				clients[who].Send(set(`<item jid='` + other + `' subscription='remove'/>`))
			default:
				clients[who].Send(`<presence to='` + other + `' type='` + action + `'/>`)
			}
			ctx := t.Context()
			for _, pair := range [][2]jid.JID{{a, b}, {b, a}} {
				sees, err := r.Subscriptions(ctx, pair[0])
				if err != nil {
					t.Fatal(err)
				}
				granted, err := r.Subscribed(ctx, pair[1], pair[0])
				if err != nil {
					t.Fatal(err)
				}
				if slices.Contains(sees, pair[1]) != granted {
					t.Fatalf("%s sees %v, %s grants %v", pair[0], sees, pair[1], granted)
				}
			}
		}
		for i, account := range []jid.JID{a, b} {
			sees, err := r.Subscriptions(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			stored, err := fresh.Subscriptions(t.Context(), account) // read for the first time
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(stored, sees) {
				t.Fatalf("in memory %v, stored %v", sees, stored)
			}
			clients[i].Close()
		}
	})
}
