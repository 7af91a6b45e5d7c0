package kit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/stanza"
)

var subscriptionTypes = []string{stanza.Subscribe, stanza.Subscribed, stanza.Unsubscribe, stanza.Unsubscribed}

// However a user and a contact ask, grant, refuse and end, and whenever the server is
// restarted, the user's roster and the gateway agree on what is between them, the user
// sees presence exactly when both say so (RFC 6121 §3:
// the gateway is one of the two servers of a subscription).
func TestBothSidesAgree(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 100))
			w := start(t, kit.Definition{}, kit.Options{})
			w.up()
			set(w, `<presence from='`+plus1+`'/>`)
			c := w.online(chamber)
			var did []string
			for range 24 {
				typ := subscriptionTypes[r.IntN(len(subscriptionTypes))]
				switch who := r.IntN(8); {
				case who == 0:
					w = w.restart(kit.Definition{})
					w.up()
					c = w.online(chamber)
					did = append(did, "restart")
				case who < 4:
					c.Send(`<presence type='` + typ + `' to='` + plus1 + `'/>`)
					did = append(did, "user "+typ)
				default:
					if _, err := w.gw.Subscribe(context.Background(), typ, contact("+1"), jid.Must(juliet), ""); err != nil {
						t.Fatal(err)
					}
					did = append(did, "contact "+typ)
				}
				// Nothing is under way any more: what a client sends has happened when
				// Send returns, and what a contact says when Subscribe returns.
				c.Take()
				c.Send(`<iq type='get' id='agree'><query xmlns='jabber:iq:roster'/></iq>`)
				got := ""
				for !strings.Contains(got, "'agree'") {
					got = c.Next()
				}
				theirs := attr(got, "subscription", "none")
				asked := attr(got, "ask", "") == "subscribe"
				ours, _, err := w.gw.Contact(context.Background(), jid.Must(juliet), contact("+1"))
				if err != nil {
					t.Fatal(err)
				}
				if ours.Subscription != theirs || ours.Asked != asked {
					t.Fatalf("after %v: the gateway says %s, asked %v; the roster %s", did, ours.Subscription, ours.Asked, got)
				}
				c.Send(`<presence type='probe' to='` + plus1 + `'/>`)
				c.Send(`<iq type='get' id='end' to='` + plus1 + `'><ping xmlns='urn:xmpp:ping'/></iq>`)
				sees := false
				for got = ""; !strings.Contains(got, "'end'"); got = c.Next() {
					sees = sees || strings.HasPrefix(got, "<presence ") && strings.Contains(got, "from='"+plus1+"'") && !strings.Contains(got, " type='")
				}
				if sees != (theirs == "to" || theirs == "both") {
					t.Fatalf("after %v: sees %v with subscription %s", did, sees, theirs)
				}
			}
		})
	}
}

// attr returns an attribute of the contact's roster item.
func attr(roster, name, none string) string {
	_, item, ok := strings.Cut(roster, "<item ")
	if !ok {
		return none
	}
	item, _, _ = strings.Cut(item, ">")
	_, rest, ok := strings.Cut(" "+item, " "+name+"='")
	if !ok {
		return none
	}
	v, _, _ := strings.Cut(rest, "'")
	return v
}
