package kit

import (
	"testing"

	"trivium/core/stanza"
)

// The nine states of RFC 6121 Appendix A.1, of a gateway's contact: there it is "the
// user" and the user "the contact".
var states = map[string]state{
	"None":                  0,
	"None + Pending Out":    pendingOut,
	"None + Pending In":     pendingIn,
	"None + Pending Out+In": pendingOut | pendingIn,
	"To":                    sees,
	"To + Pending In":       sees | pendingIn,
	"From":                  shown,
	"From + Pending Out":    shown | pendingOut,
	"Both":                  sees | shown,
}

const (
	noChange    = "no state change"
	preApproval = "pre-approval"
)

type row struct{ existing, rule, next string }

func (r row) want() state {
	switch r.next {
	case noChange:
		return states[r.existing]
	case preApproval:
		return states[r.existing] | approved
	}
	return states[r.next]
}

// Tables 2 to 5 of RFC 6121 Appendix A.2.
func TestSentFollowsTheTables(t *testing.T) {
	for typ, table := range map[string][]row{
		stanza.Subscribe: {
			{"None", "MUST", "None + Pending Out"},
			{"None + Pending Out", "MUST", noChange},
			{"None + Pending In", "MUST", "None + Pending Out+In"},
			{"None + Pending Out+In", "MUST", noChange},
			{"To", "MUST", noChange},
			{"To + Pending In", "MUST", noChange},
			{"From", "MUST", "From + Pending Out"},
			{"From + Pending Out", "MUST", noChange},
			{"Both", "MUST", noChange},
		},
		stanza.Unsubscribe: {
			{"None", "MUST", noChange},
			{"None + Pending Out", "MUST", "None"},
			{"None + Pending In", "MUST", noChange},
			{"None + Pending Out+In", "MUST", "None + Pending In"},
			{"To", "MUST", "None"},
			{"To + Pending In", "MUST", "None + Pending In"},
			{"From", "MUST", noChange},
			{"From + Pending Out", "MUST", "From"},
			{"Both", "MUST", "From"},
		},
		stanza.Subscribed: {
			{"None", "M.N.", preApproval},
			{"None + Pending Out", "M.N.", preApproval},
			{"None + Pending In", "MUST", "From"},
			{"None + Pending Out+In", "MUST", "From + Pending Out"},
			{"To", "M.N.", preApproval},
			{"To + Pending In", "MUST", "Both"},
			{"From", "M.N.", noChange},
			{"From + Pending Out", "M.N.", noChange},
			{"Both", "M.N.", noChange},
		},
		stanza.Unsubscribed: {
			{"None", "S.N.", noChange},
			{"None + Pending Out", "S.N.", noChange},
			{"None + Pending In", "MUST", "None"},
			{"None + Pending Out+In", "MUST", "None + Pending Out"},
			{"To", "S.N.", noChange},
			{"To + Pending In", "MUST", "To"},
			{"From", "MUST", "None"},
			{"From + Pending Out", "MUST", "None + Pending Out"},
			{"Both", "MUST", "To"},
		},
	} {
		if len(table) != len(states) {
			t.Fatalf("%s: %d rows", typ, len(table))
		}
		for _, r := range table {
			next, route := sent(typ, states[r.existing])
			if next != r.want() || route != (r.rule == "MUST") {
				t.Errorf("%s in %q: %06b, routed %v; want %s, %s", typ, r.existing, next, route, r.next, r.rule)
			}
		}
	}
}

// Tables 6 to 9 of RFC 6121 Appendix A.3. [2] and the note of Table 7 are what is
// answered at once.
func TestReceivedFollowsTheTables(t *testing.T) {
	for typ, table := range map[string][]row{
		stanza.Subscribe: {
			{"None", "MUST", "None + Pending In"},
			{"None + Pending Out", "MUST", "None + Pending Out+In"},
			{"None + Pending In", "S.N.", noChange},
			{"None + Pending Out+In", "S.N.", noChange},
			{"To", "MUST", "To + Pending In"},
			{"To + Pending In", "S.N.", noChange},
			{"From", "S.N. subscribed", noChange},
			{"From + Pending Out", "S.N. subscribed", noChange},
			{"Both", "S.N. subscribed", noChange},
		},
		stanza.Unsubscribe: {
			{"None", "S.N.", noChange},
			{"None + Pending Out", "S.N.", noChange},
			{"None + Pending In", "MUST unsubscribed", "None"},
			{"None + Pending Out+In", "MUST unsubscribed", "None + Pending Out"},
			{"To", "S.N.", noChange},
			{"To + Pending In", "MUST unsubscribed", "To"},
			{"From", "MUST unsubscribed", "None"},
			{"From + Pending Out", "MUST unsubscribed", "None + Pending Out"},
			{"Both", "MUST unsubscribed", "To"},
		},
		stanza.Subscribed: {
			{"None", "S.N.", noChange},
			{"None + Pending Out", "MUST", "To"},
			{"None + Pending In", "S.N.", noChange},
			{"None + Pending Out+In", "MUST", "To + Pending In"},
			{"To", "S.N.", noChange},
			{"To + Pending In", "S.N.", noChange},
			{"From", "S.N.", noChange},
			{"From + Pending Out", "MUST", "Both"},
			{"Both", "S.N.", noChange},
		},
		stanza.Unsubscribed: {
			{"None", "S.N.", noChange},
			{"None + Pending Out", "MUST", "None"},
			{"None + Pending In", "S.N.", noChange},
			{"None + Pending Out+In", "MUST", "None + Pending In"},
			{"To", "MUST", "None"},
			{"To + Pending In", "MUST", "None + Pending In"},
			{"From", "S.N.", noChange},
			{"From + Pending Out", "MUST", "From"},
			{"Both", "MUST", "From"},
		},
	} {
		if len(table) != len(states) {
			t.Fatalf("%s: %d rows", typ, len(table))
		}
		for _, r := range table {
			next, tell, reply := received(typ, states[r.existing])
			rule := "S.N."
			if tell {
				rule = "MUST"
			}
			if reply != "" {
				rule += " " + reply
			}
			if next != r.want() || rule != r.rule {
				t.Errorf("%s in %q: %06b, %s; want %s, %s", typ, r.existing, next, rule, r.next, r.rule)
			}
		}
	}
}

// RFC 6121 §3.4.2: what is granted beforehand is granted once, and ended in silence.
func TestApproval(t *testing.T) {
	for name, s := range states {
		if s.has(shown) || s.has(pendingIn) {
			continue
		}
		s, routed := sent(stanza.Subscribed, s)
		if routed || !s.has(approved) {
			t.Errorf("%s: routed %v, %06b", name, routed, s)
		}
		if n, routed := sent(stanza.Unsubscribed, s); routed || n.has(approved) {
			t.Errorf("%s: an approval ended with a word, or not at all", name)
		}
		n, _, reply := received(stanza.Subscribe, s)
		if reply != stanza.Subscribed || !n.has(shown) || n.has(approved) || n.has(pendingIn) {
			t.Errorf("%s: %q, %06b", name, reply, n)
		}
	}
}
