package csi

import (
	"strings"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

// Namespaces with rules of their own.
const (
	nsCarbons    = "urn:xmpp:carbons:2"                      // XEP-0280
	nsForward    = "urn:xmpp:forward:0"                      // XEP-0297
	nsChatStates = "http://jabber.org/protocol/chatstates"   // XEP-0085
	nsMarkers    = "urn:xmpp:chat-markers:0"                 // XEP-0333
	nsEvent      = "http://jabber.org/protocol/pubsub#event" // XEP-0060
	nsMDS        = "urn:xmpp:mds:displayed:0"                // XEP-0490
	nsMUCUser    = "http://jabber.org/protocol/muc#user"     // XEP-0045
	nsAxolotl    = "eu.siacs.conversations.axolotl"          // XEP-0384 0.3
	nsOMEMO      = "urn:xmpp:omemo:"                         // XEP-0384, with a version behind
)

// idle are the namespaces of message payloads that nobody has to see at once. A
// message of nothing else can wait; one with any other payload cannot, since it
// may be a call or a question to the user as well.
var idle = [...]string{
	nsChatStates,                         // somebody is typing
	nsMarkers,                            // a message that one has sent was read
	nsEvent,                              // a contact's avatar, mood or keys
	nsMUCUser,                            // a room's configuration has changed
	"urn:xmpp:receipts",                  // XEP-0184: a message that one has sent arrived
	"urn:xmpp:reactions:0",               // XEP-0444
	"urn:xmpp:eme:0",                     // XEP-0380: names the encryption of what stands beside it
	"urn:xmpp:hints",                     // XEP-0334, and so on: these only go with something
	"urn:xmpp:sid:0",                     // XEP-0359
	"urn:xmpp:delay",                     // XEP-0203
	"urn:xmpp:reply:0",                   // XEP-0461
	"urn:xmpp:fallback:0",                // XEP-0428
	"urn:xmpp:occupant-id:0",             // XEP-0421
	"http://jabber.org/protocol/nick",    // XEP-0172
	"http://jabber.org/protocol/address", // XEP-0033
	"http://jabber.org/protocol/shim",    // XEP-0131
}

// rules are the namespaces whose payloads may wait.
type rules map[string]bool

func newRules(urgent []string) rules {
	r := rules{}
	for _, ns := range idle {
		r[ns] = true
	}
	for _, ns := range urgent {
		delete(r, ns)
	}
	return r
}

// Classify decides how soon a session of account that nobody looks at gets a
// stanza. Any goroutine may call it.
func (m *Module) Classify(account jid.JID, st *stanza.Stanza) module.Urgency {
	switch st.Kind {
	case stanza.Presence:
		return presence(st)
	case stanza.Message:
		return m.rules.message(account, st)
	}
	return module.Now // an answer that the client waits for, or a question to it
}

// presence holds back who comes and goes (XEP-0352 §3.2), but not requests for a
// subscription, nor errors, nor what a room says of the user himself: that he has
// joined, or was removed (XEP-0045 §7.2.2, §8.2).
func presence(st *stanza.Stanza) module.Urgency {
	if st.Type != "" && st.Type != stanza.Unavailable {
		return module.Now
	}
	if c, ok := st.Child(nsMUCUser, "x"); ok && strings.Contains(c.Raw, "110") {
		for _, s := range c.Element().Children(nsMUCUser, "status") {
			if s.Attr("code") == "110" {
				return module.Now
			}
		}
	}
	return module.Latest
}

func (r rules) message(account jid.JID, st *stanza.Stanza) module.Urgency {
	if st.Type == stanza.TypeError {
		return module.Now // something that the user sent did not arrive
	}
	own := st.From.Bare() == account
	if own {
		for _, direction := range [...]string{"received", "sent"} {
			if c, ok := st.Child(nsCarbons, direction); ok {
				return r.carbon(c, direction == "sent")
			}
		}
	}
	v := verdict{rules: r, typ: st.Type, own: own}
	st.Each(func(c stanza.Child) bool {
		return v.look(c.Space, c.Local, func(word string) bool { return strings.Contains(c.Raw, word) })
	})
	return v.urgency()
}

// carbon judges the message inside a copy. What the user has sent elsewhere counts
// like what he gets, so that he finds one state of a conversation everywhere.
func (r rules) carbon(c stanza.Child, sent bool) module.Urgency {
	f := c.Element().Child(nsForward, "forwarded")
	if f == nil {
		return module.Now
	}
	m := f.Child(stanza.NSClient, "message")
	if m == nil {
		return module.Now
	}
	v := verdict{rules: r, typ: m.Attr("type"), own: sent}
	for _, k := range m.Children("", "") {
		if !v.look(k.Space, k.Local, func(word string) bool { return strings.Contains(k.String(), word) }) {
			break
		}
	}
	return min(v.urgency(), module.Later) // all copies are from the same address
}

// verdict is what the payloads seen so far say of a message.
type verdict struct {
	rules  rules
	typ    string
	own    bool // by the user himself
	urgent bool
	state  bool // a chat state
	more   bool // something beside that
}

func (v *verdict) urgency() module.Urgency {
	switch {
	case v.urgent:
		return module.Now
	case v.state && !v.more:
		return module.Latest
	}
	return module.Later
}

// look takes one payload into account, of which has tells whether a word stands in
// it; false means that the message is urgent whatever follows.
func (v *verdict) look(space, local string, has func(word string) bool) bool {
	switch {
	case space == stanza.NSClient && local == "thread":
	case space == stanza.NSClient && local == "subject":
		// That of a room says what it is about; without a body it is nobody's message
		// (XEP-0045 §7.2.15).
		v.urgent = v.typ != stanza.GroupChat
		v.more = true
	case space == nsAxolotl, strings.HasPrefix(space, nsOMEMO):
		v.urgent = has("payload") // without one it only brings keys (XEP-0384 §5.5.3)
		v.more = true
	case !v.rules[space]:
		v.urgent = true // above all a body
	case space == nsChatStates:
		v.state = true
	case space == nsMarkers:
		// What the user has read elsewhere need not be shown to him any more.
		v.urgent = v.own && local == "displayed"
		v.more = true
	case space == nsEvent:
		v.urgent = v.own && has(nsMDS)
		v.more = true
	case space == nsMUCUser:
		v.urgent = has("invite") || has("decline") // XEP-0045 §7.8.2
		v.more = true
	case space == "urn:xmpp:receipts", space == "urn:xmpp:reactions:0":
		v.more = true
	}
	return !v.urgent
}
