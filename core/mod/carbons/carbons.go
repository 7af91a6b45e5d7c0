// Package carbons implements XEP-0280 (Message Carbons).
//
// A session that enables carbons gets a copy of every message that its account
// sends or receives elsewhere. What is copied is decided in eligible; copies are
// made after delivery, so carbons never delay a message.
//
//spec:xep-0280 1.0.1 complete | Message Carbons | message carbons with the rules of §6.1
//spec:xep-0297 1.0 complete | Stanza Forwarding | forwarded stanzas, inside carbons
package carbons

import (
	"context"

	"trivium/core/module"
	"trivium/core/stanza"
)

// Namespaces.
const (
	NS        = "urn:xmpp:carbons:2"
	NSRules   = "urn:xmpp:carbons:rules:0" // XEP-0280 §6.2
	NSForward = "urn:xmpp:forward:0"       // XEP-0297
	NSHints   = "urn:xmpp:hints"           // XEP-0334
	nsMUCUser = "http://jabber.org/protocol/muc#user"
)

// Module is the feature.
type Module struct {
	host *module.Host
	on   module.Flag
}

// New returns the feature.
func New() *Module { return &Module{} }

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	m.host = h
	m.on = h.Router.NewFlag()
	h.Feature(module.Server|module.Account, NS, NSRules)
	h.IQ(module.Own, stanza.Set, NS, "enable", m.switchTo(true))
	h.IQ(module.Own, stanza.Set, NS, "disable", m.switchTo(false))
	h.Inline(NS, NS, func(_ context.Context, s *module.Session, _ *module.Turn, el *stanza.Element) (stanza.Payload, error) {
		if el.Local == "enable" { // XEP-0386 §4.2: no response is necessary
			s.Set(m.on, true)
		}
		return nil, nil
	})
	// The request may also be addressed to the server: XEP-0280 §4 has no 'to'.
	h.Outbound(module.Observe, stanza.Message, m.copySent)
	h.Inbound(module.Observe, stanza.Message, m.copyReceived)
	return nil
}

// switchTo answers enable and disable; asking twice is no error (XEP-0280 §10.1).
func (m *Module) switchTo(on bool) module.Handler {
	return func(_ context.Context, rq *module.Request) (stanza.Payload, error) {
		if rq.Session == nil {
			return nil, &stanza.Error{Condition: stanza.NotAllowed}
		}
		rq.Session.Set(m.on, on)
		return nil, nil
	}
}

// eligible decides by the rules of XEP-0280 §6.1. sent tells the two sides of
// private messages in rooms apart.
func eligible(st *stanza.Stanza, sent bool) bool {
	if st.Type == stanza.GroupChat || st.Type == stanza.Headline ||
		st.Has(NS, "private") || st.Has(NSHints, "no-copy") { // XEP-0334 §4.3
		return false
	}
	if c, ok := st.Child(nsMUCUser, "x"); ok {
		if c.Element().Child(nsMUCUser, "invite") != nil {
			return true // a mediated invitation
		}
		if !sent && st.From.Resource() != "" {
			return false // a private message from a room, which the room has copied
		}
	}
	if st.Has("jabber:x:conference", "x") { // XEP-0249
		return true
	}
	if st.Type == stanza.Chat {
		return true
	}
	// Of type normal (unknown types are, RFC 6121 §5.2.2) what belongs to instant
	// messaging. An error answers an eligible message if it names what such a one
	// holds: most clients echo it. Errors otherwise concern the sender alone.
	found := false
	st.Each(func(c stanza.Child) bool {
		switch c.Space {
		case stanza.NSClient:
			found = c.Local == "body"
		case "urn:xmpp:receipts", "http://jabber.org/protocol/chatstates", "urn:xmpp:chat-markers:0":
			found = true
		}
		return !found
	})
	return found
}

// copySent copies a message to the sender's other sessions.
func (m *Module) copySent(_ context.Context, p *module.Packet) error {
	sessions := p.Session.Account.Sessions()
	if len(sessions) == 0 || len(sessions) == 1 && sessions[0] == p.Session || p.Stanza.To.Bare() == p.Session.Account.Bare {
		return nil // what an account sends to itself is copied as received
	}
	var made *stanza.Stanza
	for _, s := range sessions {
		if s == p.Session || !s.Has(m.on) {
			continue
		}
		if made == nil {
			if !eligible(p.Stanza, true) {
				return nil
			}
			sent := p.Sent // with the id that it has in the sender's archive
			if sent == nil {
				sent = p.Stanza
			}
			made = wrap("sent", sent, p.Session)
		}
		s.DeliverTo(p.Turn, made, s.JID, nil)
	}
	return nil
}

// copyReceived copies a delivered message to the account's sessions that did not
// get it.
func (m *Module) copyReceived(_ context.Context, p *module.Packet) error {
	sessions := p.Account.Sessions()
	if len(sessions) < 2 || len(p.Targets) == 0 {
		return nil
	}
	var made *stanza.Stanza
next:
	for _, s := range sessions {
		if !s.Has(m.on) || s == p.Session {
			continue
		}
		for _, got := range p.Targets {
			if s == got {
				continue next
			}
		}
		if made == nil {
			if !eligible(p.Stanza, false) {
				return nil
			}
			made = wrap("received", p.Stanza, s)
		}
		s.DeliverTo(p.Turn, made, s.JID, nil)
	}
	return nil
}

// wrap makes the copy, from the bare JID of the account (XEP-0280 §11) and of the
// type of the original (§7, §8).
func wrap(direction string, st *stanza.Stanza, s *module.Session) *stanza.Stanza {
	return stanza.New(stanza.Message, st.Type, s.Account.Bare, s.JID, "", forwarded{direction, st})
}

// forwarded writes the original inside its envelope; the copy in there declares
// its own namespace (XEP-0297 §3).
type forwarded struct {
	direction string
	st        *stanza.Stanza
}

func (f forwarded) AppendXML(dst []byte) []byte {
	dst = append(dst, '<')
	dst = append(dst, f.direction...)
	dst = append(dst, " xmlns='"+NS+"'><forwarded xmlns='"+NSForward+"'>"...)
	at := len(dst) + len("<message")
	dst = f.st.AppendTo(dst)
	const decl = " xmlns='" + stanza.NSClient + "'"
	dst = append(dst, decl...)
	copy(dst[at+len(decl):], dst[at:])
	copy(dst[at:], decl)
	dst = append(dst, "</forwarded></"...)
	dst = append(dst, f.direction...)
	return append(dst, '>')
}
