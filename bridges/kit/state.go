package kit

import "trivium/core/stanza"

// state is what a gateway knows of one contact and one user: the nine states of
// RFC 6121 Appendix A.1, on the contact's side. There the contact is "the user" and the
// user "the contact"; the gateway is the contact's server.
type state uint8

const (
	shown      state = 1 << iota // "From": the user sees the contact's presence
	sees                         // "To": the contact sees the user's presence
	pendingIn                    // the user has asked and waits for the contact
	pendingOut                   // the contact has asked and waits for the user
	approved                     // a request of the user is granted beforehand, §3.4
	listed                       // the gateway has put the contact on the user's list
)

func (s state) has(bit state) bool { return s&bit != 0 }

// subscription is the state as the user's roster names it (RFC 6121 §2.1.2.5).
func (s state) subscription() string {
	switch s & (shown | sees) {
	case shown:
		return "to"
	case sees:
		return "from"
	case shown | sees:
		return "both"
	}
	return "none"
}

// sent returns the state after the contact has sent a subscription stanza to the
// user, and whether it is routed: RFC 6121 Appendix A.2.
func sent(typ string, s state) (next state, route bool) {
	switch typ {
	case stanza.Subscribe: // A.2.1
		if !s.has(sees) {
			s |= pendingOut
		}
		return s, true
	case stanza.Unsubscribe: // A.2.2
		return s &^ (sees | pendingOut), true
	case stanza.Subscribed: // A.2.3
		if s.has(shown) {
			return s, false
		}
		if s.has(pendingIn) {
			return s&^(pendingIn|approved) | shown, true
		}
		return s | approved, false // §3.4.2
	case stanza.Unsubscribed: // A.2.4; §3.2.2: an approval beforehand ends in silence
		return s &^ (shown | pendingIn | approved), s&(shown|pendingIn) != 0
	}
	return s, false
}

// received returns the state after the user has sent a subscription stanza to the
// contact, whether the network is told, and the type of what is answered at once ("":
// nothing): RFC 6121 Appendix A.3.
func received(typ string, s state) (next state, tell bool, reply string) {
	switch typ {
	case stanza.Subscribe: // A.3.1
		switch {
		case s.has(shown):
			return s, false, stanza.Subscribed
		case s.has(approved): // note 1: granted beforehand
			return s&^(approved|pendingIn) | shown, true, stanza.Subscribed
		case s.has(pendingIn):
			return s, false, ""
		}
		return s | pendingIn, true, ""
	case stanza.Unsubscribe: // A.3.2
		if s&(shown|pendingIn) != 0 {
			return s &^ (shown | pendingIn), true, stanza.Unsubscribed
		}
	case stanza.Subscribed: // A.3.3
		if s.has(pendingOut) {
			return s&^pendingOut | sees, true, ""
		}
	case stanza.Unsubscribed: // A.3.4
		if s&(sees|pendingOut) != 0 {
			return s &^ (sees | pendingOut), true, ""
		}
	}
	return s, false, ""
}

func isSubscription(typ string) bool {
	switch typ {
	case stanza.Subscribe, stanza.Subscribed, stanza.Unsubscribe, stanza.Unsubscribed:
		return true
	}
	return false
}
