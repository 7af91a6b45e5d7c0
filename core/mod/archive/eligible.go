package archive

import "trivium/core/stanza"

// contents lists what makes a message worth keeping when it has no <body/>, beside
// hints: what changes or answers a message of a conversation, and what is read
// later (XEP-0313 §6.1.1: "non-conversation messages"). An empty local name is any.
var contents = map[string]string{
	"urn:xmpp:receipts":                   "received",  // XEP-0184
	"urn:xmpp:chat-markers:0":             "",          // XEP-0333; but for markable, below
	NSRetract:                             "",          // XEP-0424 §5: MUST be stored
	"urn:xmpp:fasten:0":                   "apply-to",  // XEP-0422
	"urn:xmpp:reactions:0":                "reactions", // XEP-0444
	"urn:xmpp:message-correct:0":          "replace",   // XEP-0308
	"urn:xmpp:omemo:2":                    "encrypted", // XEP-0384
	"eu.siacs.conversations.axolotl":      "encrypted", // XEP-0384 before 0.4
	"urn:xmpp:openpgp:0":                  "openpgp",   // XEP-0373
	"urn:xmpp:sce:1":                      "envelope",  // XEP-0420
	"jabber:x:conference":                 "x",         // XEP-0249
	"http://jabber.org/protocol/muc#user": "",          // XEP-0045 §7.8: invitations, see below
	"urn:xmpp:jingle-message:0":           "",          // XEP-0353: calls
	"http://jabber.org/protocol/xhtml-im": "html",      // XEP-0071
	"jabber:x:oob":                        "x",         // XEP-0066
	"urn:xmpp:sfs:0":                      "",          // XEP-0447
}

// worth tells whether a message belongs into an archive, by XEP-0313 §6.1.1 and
// the hints of XEP-0334 §4.
func worth(st *stanza.Stanza) bool {
	switch st.Type {
	case stanza.TypeError, stanza.GroupChat, stanza.Headline:
		return false
	}
	keep, forbidden := false, false
	st.Each(func(c stanza.Child) bool {
		switch c.Space {
		case stanza.NSClient:
			keep = keep || c.Local == "body"
		case NSHints:
			switch c.Local {
			case "no-store", "no-permanent-store":
				forbidden = true
			case "store":
				keep = true
			}
		default:
			keep = keep || content(c)
		}
		return !forbidden
	})
	return keep && !forbidden
}

func content(c stanza.Child) bool {
	local, ok := contents[c.Space]
	if !ok || local != "" && local != c.Local {
		return false
	}
	switch c.Space {
	case "urn:xmpp:chat-markers:0":
		return c.Local != "markable" // a request, no marker
	case "http://jabber.org/protocol/muc#user":
		x := c.Element()
		return x.Child(c.Space, "invite") != nil || x.Child(c.Space, "decline") != nil
	}
	return true
}
