package roster

import (
	"testing"

	"trivium/core/stanza"
)

// The nine states of RFC 6121 Appendix A.1.
var states = map[string]state{
	"None":                  listed,
	"None + Pending Out":    listed | pendingOut,
	"None + Pending In":     listed | pendingIn,
	"None + Pending Out+In": listed | pendingOut | pendingIn,
	"To":                    listed | to,
	"To + Pending In":       listed | to | pendingIn,
	"From":                  listed | from,
	"From + Pending Out":    listed | from | pendingOut,
	"Both":                  listed | to | from,
}

const (
	noChange    = "no state change"
	preApproval = "pre-approval"
)

// TestSent holds sent against Tables 2 to 5 of RFC 6121 Appendix A.2.
func TestSent(t *testing.T) {
	type row struct{ existing, route, next string }
	for typ, table := range map[string][]row{
		stanza.Subscribe: { // Table 2
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
		stanza.Unsubscribe: { // Table 3
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
		stanza.Subscribed: { // Table 4
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
		stanza.Unsubscribed: { // Table 5
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
			t.Errorf("%s: %d rows", typ, len(table))
		}
		for _, r := range table {
			was := states[r.existing]
			want := was
			switch r.next {
			case noChange:
			case preApproval:
				want |= approved
			default:
				want = states[r.next]
			}
			next, route := sent(typ, was)
			if next != want || route != (r.route == "MUST") {
				t.Errorf("sent %s in %q: %08b, route %v; want %08b (%s), %s", typ, r.existing, next, route, want, r.next, r.route)
			}
		}
	}
}

// TestReceived holds received against Tables 6 to 9 of RFC 6121 Appendix A.3.
func TestReceived(t *testing.T) {
	type row struct{ existing, deliver, reply, next string }
	for typ, table := range map[string][]row{
		stanza.Subscribe: { // Table 6
			{"None", "MUST", "", "None + Pending In"},
			{"None + Pending Out", "MUST", "", "None + Pending Out+In"},
			{"None + Pending In", "S.N.", "", noChange},
			{"None + Pending Out+In", "S.N.", "", noChange},
			{"To", "MUST", "", "To + Pending In"},
			{"To + Pending In", "S.N.", "", noChange},
			{"From", "S.N.", "subscribed", noChange},
			{"From + Pending Out", "S.N.", "subscribed", noChange},
			{"Both", "S.N.", "subscribed", noChange},
		},
		stanza.Unsubscribe: { // Table 7
			{"None", "S.N.", "", noChange},
			{"None + Pending Out", "S.N.", "", noChange},
			{"None + Pending In", "MUST", "unsubscribed", "None"},
			{"None + Pending Out+In", "MUST", "unsubscribed", "None + Pending Out"},
			{"To", "S.N.", "", noChange},
			{"To + Pending In", "MUST", "unsubscribed", "To"},
			{"From", "MUST", "unsubscribed", "None"},
			{"From + Pending Out", "MUST", "unsubscribed", "None + Pending Out"},
			{"Both", "MUST", "unsubscribed", "To"},
		},
		stanza.Subscribed: { // Table 8
			{"None", "S.N.", "", noChange},
			{"None + Pending Out", "MUST", "", "To"},
			{"None + Pending In", "S.N.", "", noChange},
			{"None + Pending Out+In", "MUST", "", "To + Pending In"},
			{"To", "S.N.", "", noChange},
			{"To + Pending In", "S.N.", "", noChange},
			{"From", "S.N.", "", noChange},
			{"From + Pending Out", "MUST", "", "Both"},
			{"Both", "S.N.", "", noChange},
		},
		stanza.Unsubscribed: { // Table 9
			{"None", "S.N.", "", noChange},
			{"None + Pending Out", "MUST", "", "None"},
			{"None + Pending In", "S.N.", "", noChange},
			{"None + Pending Out+In", "MUST", "", "None + Pending In"},
			{"To", "MUST", "", "None"},
			{"To + Pending In", "MUST", "", "None + Pending In"},
			{"From", "S.N.", "", noChange},
			{"From + Pending Out", "MUST", "", "From"},
			{"Both", "MUST", "", "From"},
		},
	} {
		if len(table) != len(states) {
			t.Errorf("%s: %d rows", typ, len(table))
		}
		for _, r := range table {
			was := states[r.existing]
			want := was
			if r.next != noChange {
				want = states[r.next]
			}
			next, deliver, reply := received(typ, was)
			if next != want || deliver != (r.deliver == "MUST") || reply != r.reply {
				t.Errorf("received %s in %q: %08b, deliver %v, reply %q; want %08b (%s), %s, %q",
					typ, r.existing, next, deliver, reply, want, r.next, r.deliver, r.reply)
			}
		}
	}
}

// TestPreApproval is RFC 6121 §3.4.2 and §3.2.2.
func TestPreApproval(t *testing.T) {
	for _, tt := range []struct {
		was, after string
		pending    state
	}{{"None", "From", 0}, {"To", "Both", 0}, {"None + Pending Out", "From + Pending Out", 0}} {
		was := states[tt.was] | approved
		next, deliver, reply := received(stanza.Subscribe, was)
		if next != states[tt.after] || deliver || reply != stanza.Subscribed {
			t.Errorf("a pre-approved request in %q: %08b, deliver %v, reply %q", tt.was, next, deliver, reply)
		}
		next, route := sent(stanza.Unsubscribed, was)
		if next != states[tt.was] || route {
			t.Errorf("cancelling the pre-approval in %q: %08b, route %v", tt.was, next, route)
		}
		if next, deliver, reply := received(stanza.Unsubscribe, was); next != was || deliver || reply != "" {
			t.Errorf("unsubscribe in %q: %08b, deliver %v, reply %q", tt.was, next, deliver, reply)
		}
	}
	// A stranger becomes an item by pre-approval and by a request of the account's
	// own (§3.4.2 rule 4, §3.1.2), not by one that comes in (§3.1.3).
	for typ, want := range map[string]state{
		stanza.Subscribed: listed | approved, stanza.Subscribe: listed | pendingOut, stanza.Unsubscribe: 0, stanza.Unsubscribed: 0,
	} {
		if next, _ := sent(typ, 0); next != want {
			t.Errorf("sent %s to a stranger: %08b, want %08b", typ, next, want)
		}
	}
	if next, deliver, _ := received(stanza.Subscribe, 0); next != pendingIn || !deliver {
		t.Errorf("a stranger's request: %08b, deliver %v", next, deliver)
	}
}
