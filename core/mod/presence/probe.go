package presence

import (
	"context"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

// NSDelay is the namespace of XEP-0203.
const NSDelay = "urn:xmpp:delay"

// probed answers presence probes for local accounts, RFC 6121 §4.3.2.
func (m *Module) probed(ctx context.Context, p *module.Packet) error {
	st := p.Stanza
	if st.Type != stanza.Probe {
		return nil
	}
	account := st.To.Bare()
	sub, err := m.sees(ctx, nil, account, st.From)
	if err != nil {
		return err
	}
	reply := func(out *stanza.Stanza) { m.send(ctx, p.Turn, out, st.From) }
	mirror := func(typ string, from jid.JID, payload stanza.Payload) { // §4.3.2.1
		reply(stanza.New(stanza.Presence, typ, from, jid.JID{}, st.ID, payload))
	}
	switch {
	case sub && st.To.IsFull():
		// Only the resource asked for, and only that it is available.
		if s := p.Account.Session(st.To.Resource()); s != nil && s.Available() {
			mere(s.JID, reply)
		} else {
			mirror(stanza.Unavailable, st.To, nil)
		}
	case sub: // rules 3 and 4
		found := false
		for _, s := range p.Account.Sessions() {
			if pr := s.Presence(); pr != nil {
				found = true
				reply(pr.Stanza) // with its own id
			}
		}
		if !found {
			mirror(stanza.Unavailable, account, m.lastSeen(ctx, account))
		}
	default: // §4.6.6: those who got directed presence
		found := false
		for _, s := range p.Account.Sessions() {
			if (st.To == account || st.To == s.JID) && m.knows(s, st.From) {
				found = true
				mere(s.JID, reply)
			}
		}
		if !found {
			mirror(stanza.Unsubscribed, account, nil) // rule 1
		}
	}
	return module.ErrHandled
}

// mere answers with nothing but the fact that a resource is available.
func mere(from jid.JID, reply func(*stanza.Stanza)) {
	reply(stanza.New(stanza.Presence, "", from, jid.JID{}, ""))
}

// lastSeen returns the <delay/> of §4.3.2 rule 3, or nil.
func (m *Module) lastSeen(ctx context.Context, account jid.JID) stanza.Payload {
	if m.opt.LastSeen == nil {
		return nil
	}
	at, err := m.opt.LastSeen(ctx, account)
	if err != nil || at.IsZero() {
		return nil
	}
	return stanza.El(NSDelay, "delay").Set("stamp", at.UTC().Format(time.RFC3339))
}

// direct notes to whom a session sends directed presence, RFC 6121 §4.6.3.
func (m *Module) direct(ctx context.Context, p *module.Packet) error {
	s, to := p.Session, p.Stanza.To
	switch p.Stanza.Type {
	case stanza.Unavailable:
		m.forget(s, to)
		return nil
	case "":
	default:
		return nil
	}
	if to.Bare() == s.Account.Bare {
		return nil
	}
	if s.Available() {
		// Rule 1: a subscriber gets the broadcast when the session leaves.
		ok, err := m.contacts.Subscribed(ctx, s.Account.Bare, to.Bare())
		if err != nil || ok {
			return err
		}
	}
	full := false
	m.directed.Update(s, func(list []jid.JID) []jid.JID {
		switch {
		case contains(list, to):
			return list
		case len(list) >= m.opt.Directed:
			full = true
			return list
		}
		return append(list[:len(list):len(list)], to.Clone())
	})
	if full {
		return stanza.Err(stanza.ResourceConstraint, "directed presence to too many")
	}
	return nil
}

// left forgets those who have said that they are unavailable, §4.6.1.
func (m *Module) left(_ context.Context, p *module.Packet) error {
	if p.Stanza.Type != stanza.Unavailable {
		return nil
	}
	for _, s := range p.Targets {
		m.forget(s, p.Stanza.From)
	}
	return nil
}

func (m *Module) forget(s *module.Session, to jid.JID) {
	if !contains(m.directed.Get(s), to) {
		return
	}
	m.directed.Update(s, func(list []jid.JID) []jid.JID {
		var kept []jid.JID
		for _, j := range list {
			if j != to {
				kept = append(kept, j)
			}
		}
		return kept
	})
}

// knows tells whether a session has sent directed presence to other or to
// another resource of it: occupants of a room ask each other through it.
func (m *Module) knows(s *module.Session, other jid.JID) bool {
	for _, j := range m.directed.Get(s) {
		if j.Bare() == other.Bare() {
			return true
		}
	}
	return false
}
