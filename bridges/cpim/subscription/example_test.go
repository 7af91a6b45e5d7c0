package subscription_test

import (
	"fmt"
	"time"

	"trivium/bridges/cpim/pidf"
	"trivium/bridges/cpim/subscription"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// A user of ours watches someone on the other side.
func ExampleOutgoing() {
	n := 0
	rules := &subscription.Rules{
		NewID:  func() string { n++; return fmt.Sprint("id", n) },
		Jitter: func() float64 { return 0.5 },
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s, err := subscription.NewOutgoing(jid.Must("alice@xmpp.example"), jid.Must("bob@im.example"))
	if err != nil {
		fmt.Println(err)
		return
	}
	var actions []subscription.Action
	for _, event := range []subscription.Event{
		subscription.Presence{Type: stanza.Subscribe, ID: "s1"},
		subscription.Response{TransID: "id2", OK: true, Duration: 10 * time.Minute},
		subscription.Notice{Document: &pidf.Presence{}},
	} {
		s, actions = s.On(event, rules, now)
		for _, a := range actions {
			switch a := a.(type) {
			case subscription.Subscribe:
				fmt.Printf("ask %s for %v, SubscriptID %s, TransID %s\n", a.Target, a.Duration, a.SubscriptID, a.TransID)
			case subscription.Tell:
				fmt.Printf("tell the user: %s\n", a.Type)
			case subscription.Show:
				fmt.Println("show the user the document")
			}
		}
	}
	fmt.Printf("%s, come back in %v\n", s.State, s.Due().Sub(now))
	// Output:
	// ask pres:bob@im.example for 1h0m0s, SubscriptID id1, TransID id2
	// tell the user: subscribed
	// show the user the document
	// active, come back in 8m0s
}
