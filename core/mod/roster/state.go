package roster

import "trivium/core/stanza"

// state is what the server knows of one contact of one account: the nine
// subscription states of RFC 6121 Appendix A.1, and what goes with them.
type state uint8

const (
	to         state = 1 << iota // the account sees the contact's presence
	from                         // the contact sees the account's presence
	pendingOut                   // the account has asked and waits: 'ask'
	pendingIn                    // the contact has asked and waits
	approved                     // a request of the contact is granted beforehand, §3.4
	listed                       // the contact is an item of the roster

	// visible is what a client gets to see of a state, so that a change of it is a
	// roster modification (§2.6.3).
	visible = to | from | pendingOut | approved | listed
)

func (s state) has(bit state) bool { return s&bit != 0 }

// subscription returns the attribute of RFC 6121 §2.1.2.5.
func (s state) subscription() string {
	switch s & (to | from) {
	case to:
		return "to"
	case from:
		return "from"
	case to | from:
		return "both"
	}
	return "none"
}

// sent returns the state after the account has sent a subscription stanza to the
// contact, and whether the stanza is routed: RFC 6121 A.2.
func sent(typ string, s state) (next state, route bool) {
	switch typ {
	case stanza.Subscribe: // A.2.1
		if !s.has(to) {
			s |= pendingOut | listed
		}
		return s, true
	case stanza.Unsubscribe: // A.2.2
		return s &^ (to | pendingOut), true
	case stanza.Subscribed: // A.2.3
		switch {
		case s.has(from):
			return s, false
		case s.has(pendingIn):
			return s&^(pendingIn|approved) | from | listed, true
		}
		return s | approved | listed, false // §3.4.2
	case stanza.Unsubscribed: // A.2.4
		// §3.2.2: a pre-approval ends without a word to the contact.
		return s &^ (from | pendingIn | approved), s.has(from) || s.has(pendingIn)
	}
	return s, true
}

// received returns the state after the contact has sent a subscription stanza to
// the account, whether the account's sessions get the stanza, and the type of
// what is answered on the account's behalf ("": nothing): RFC 6121 A.3.
func received(typ string, s state) (next state, deliver bool, reply string) {
	switch typ {
	case stanza.Subscribe: // A.3.1
		switch {
		case s.has(from):
			return s, false, stanza.Subscribed
		case s.has(pendingIn):
			return s, false, ""
		case s.has(approved):
			// §3.4.2: granted beforehand; the approval is used up by it.
			return s&^approved | from | listed, false, stanza.Subscribed
		}
		return s | pendingIn, true, ""
	case stanza.Unsubscribe: // A.3.2
		if s.has(from) || s.has(pendingIn) {
			return s &^ (from | pendingIn), true, stanza.Unsubscribed
		}
	case stanza.Subscribed: // A.3.3
		if s.has(pendingOut) {
			return s&^pendingOut | to, true, ""
		}
	case stanza.Unsubscribed: // A.3.4
		if s.has(to) || s.has(pendingOut) {
			return s &^ (to | pendingOut), true, ""
		}
	}
	return s, false, ""
}
