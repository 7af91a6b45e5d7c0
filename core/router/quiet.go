package router

import "trivium/core/stanza"

// Urgency says how soon a session that is not being looked at wants a stanza.
type Urgency uint8

// The urgencies.
const (
	Now    Urgency = iota // at once, and behind everything that was held back
	Later                 // with the next stanza that is sent
	Latest                // like Later; presence, and only the last from a full JID
)

// Quiet holds back what classify does not call urgent, until something urgent
// comes or Quiet(nil) ends it (XEP-0352 §5). classify is called under a lock: it
// must not use the session.
func (s *Session) Quiet(classify func(*stanza.Stanza) Urgency) {}
