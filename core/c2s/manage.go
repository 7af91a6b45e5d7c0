package c2s

import (
	"context"

	"trivium/core/stanza"
)

// NSManage is the namespace of stream management (XEP-0198 §12).
const NSManage = "urn:xmpp:sm:3"

// enable takes <enable/> of a bound session and returns the answer (XEP-0198 §3).
func (s *session) enable(*stanza.Element) stanza.Payload {
	return stanza.El(NSManage, "failed", stanza.El(stanza.NSStanzas, "feature-not-implemented"))
}

// resume takes <resume/> of an authenticated stream that is not bound (XEP-0198
// §5). With ok the stream now belongs to the former session; reply is to be sent
// first, and then resumed is to be called. Otherwise reply is the <failed/> to send.
func (s *session) resume(context.Context, *stanza.Element) (reply stanza.Payload, ok bool) {
	return stanza.El(NSManage, "failed", stanza.El(stanza.NSStanzas, "feature-not-implemented")), false
}

// resumed sends what the peer has not confirmed, and goes on.
func (s *session) resumed() {}
