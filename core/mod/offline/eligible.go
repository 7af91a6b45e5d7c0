package offline

import (
	"trivium/core/module"
	"trivium/core/stanza"
)

// eligible tells whether a message is to be kept: nil means yes, ErrHandled that
// it is forgotten, since it was of use at once or never, and a stanza error that
// its sender has to know (XEP-0160 §3, XEP-0334 §4).
func eligible(st *stanza.Stanza) error {
	switch st.Type {
	case stanza.TypeError, stanza.Headline:
		return module.ErrHandled // RFC 6121 §8.5.2.2.1; hints do not count in errors (XEP-0334 §5)
	case stanza.GroupChat:
		return &stanza.Error{Condition: stanza.ServiceUnavailable}
	}
	var noStore, always, state, content, body bool
	left := st.Len() // what the server has appended says nothing
	look := func(c stanza.Child) bool {
		left--
		switch {
		case c.Space == NSHints:
			noStore = noStore || c.Local == "no-store"
			always = always || c.Local == "store"
		case c.Space == NSChatStates:
			state = true
		case c.Is(stanza.NSClient, "thread"): // XEP-0085 §5.1: goes with a chat state
		case c.Space == NSStanzaID, c.Space == NSDelay:
		default:
			content = true
			body = body || c.Is(stanza.NSClient, "body")
		}
		return left > 0
	}
	if left > 0 {
		st.Each(look)
	}
	switch {
	case noStore && body:
		return &stanza.Error{Condition: stanza.ServiceUnavailable}
	case noStore, state && !content && !always:
		return module.ErrHandled
	}
	return nil
}
