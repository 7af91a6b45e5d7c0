// Package presence implements the exchange of presence: RFC 6121 §4, and the
// guard of §8.5.3.1 that keeps strangers' requests from a user's resources.
//
// A broadcast goes from the session table straight into the outboxes of the
// contacts' sessions: one stanza, encoded for each recipient, without a route or
// a look into the store for each. Contacts on other servers get theirs through
// the router. Probes of local contacts are never built at all: their sessions
// are looked up and answer at once (§4.3.1).
//
//spec:rfc-6121 complete | XMPP: Instant Messaging and Presence | §4, §8.5.3.1: presence broadcast, probes, directed presence
package presence

import (
	"context"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

// Contacts is what presence needs to know of rosters. The slices are not changed.
type Contacts interface {
	// Subscribers returns who sees account's presence, bare addresses.
	Subscribers(ctx context.Context, account jid.JID) ([]jid.JID, error)
	// Subscriptions returns whose presence account sees, bare addresses.
	Subscriptions(ctx context.Context, account jid.JID) ([]jid.JID, error)
	// Subscribed tells whether contact, a bare address, sees account's presence.
	Subscribed(ctx context.Context, account, contact jid.JID) (bool, error)
}

// Options of New. Zero fields take the defaults named.
type Options struct {
	// Directed bounds how many addresses one session may have sent directed
	// presence to: 500. Beyond it the sender gets resource-constraint.
	Directed int
	// LastSeen returns when an account was last available, for answers to probes
	// (RFC 6121 §4.3.2). Nil, or a zero time: the answers do not tell.
	LastSeen func(ctx context.Context, account jid.JID) (time.Time, error)
}

// Module is the presence feature. Show, Hide and the others may be called from
// any goroutine once it is registered.
type Module struct {
	opt      Options
	contacts Contacts
	host     *module.Host
	directed module.Key[[]jid.JID] // replaced, never edited
}

// New returns the feature.
func New(c Contacts, o Options) *Module {
	if o.Directed <= 0 {
		o.Directed = 500
	}
	return &Module{opt: o, contacts: c, directed: module.NewKey[[]jid.JID]()}
}

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	m.host = h
	h.Broadcast(module.Guard, check)
	h.Broadcast(module.Rewrite, m.broadcast)
	h.Outbound(module.Observe, stanza.Presence, m.direct)
	h.Inbound(module.Guard, stanza.IQ, m.guard)
	h.Inbound(module.Rewrite, stanza.Presence, m.probed)
	h.Inbound(module.Observe, stanza.Presence, m.left)
	h.Unbound(m.gone)
	return nil
}

// guard is RFC 6121 §8.5.3.1: a request to a resource by somebody who does not see
// its presence is answered as if the resource were not there.
func (m *Module) guard(ctx context.Context, p *module.Packet) error {
	st := p.Stanza
	if st.To.IsBare() || st.Type != stanza.Get && st.Type != stanza.Set {
		return nil
	}
	ok, err := m.sees(ctx, p.Account.Session(st.To.Resource()), st.To.Bare(), st.From)
	if err != nil || ok {
		return err
	}
	return &stanza.Error{Condition: stanza.ServiceUnavailable}
}

// sees tells whether other may know that account's session s, nil for none, is
// there: by subscription, by directed presence, or as the account itself or its
// server.
func (m *Module) sees(ctx context.Context, s *module.Session, account, other jid.JID) (bool, error) {
	if other.Bare() == account || other == account.Host() {
		return true, nil
	}
	ok, err := m.contacts.Subscribed(ctx, account, other.Bare())
	return ok || s != nil && m.knows(s, other), err
}

// Show sends the presence of each available resource of account to a contact
// that may see it (RFC 6121 §3.1.5). contact may be a full address.
func (m *Module) Show(ctx context.Context, t *module.Turn, account, contact jid.JID) {
	for _, s := range m.host.Router.Account(account).Sessions() {
		if pr := s.Presence(); pr != nil {
			m.send(ctx, t, pr.Stanza, contact)
		}
	}
}

// Hide tells a contact that each available resource of account is unavailable
// (RFC 6121 §3.2.2, §3.3.3).
func (m *Module) Hide(ctx context.Context, t *module.Turn, account, contact jid.JID) {
	for _, s := range m.host.Router.Account(account).Sessions() {
		if s.Available() {
			m.send(ctx, t, unavailable(s.JID), contact)
		}
	}
}

// Withdraw makes every resource of an account that is being removed unavailable
// to those who see its presence (RFC 6121 §4.5.2).
func (m *Module) Withdraw(ctx context.Context, t *module.Turn, account jid.JID) error {
	for _, s := range m.host.Router.Account(account).Sessions() {
		if !s.Available() {
			continue
		}
		s.SetPresence(nil)
		if err := m.tell(ctx, t, s, unavailable(s.JID)); err != nil {
			return err
		}
	}
	return nil
}

// Appear shows account's presence to everybody it concerns whose address matches
// and who may see it (XEP-0191 §3.4); Vanish hides it (§3.3). match is an address
// as in XEP-0191 §6: full, bare, or a domain.
func (m *Module) Appear(ctx context.Context, t *module.Turn, account, match jid.JID) error {
	return m.each(ctx, account, match, func(s *module.Session, to jid.JID, subscriber bool) {
		if pr := s.Presence(); pr != nil && subscriber {
			m.send(ctx, t, pr.Stanza, to)
		}
	})
}

// Vanish is the opposite of Appear. It reaches those who got directed presence
// too.
func (m *Module) Vanish(ctx context.Context, t *module.Turn, account, match jid.JID) error {
	return m.each(ctx, account, match, func(s *module.Session, to jid.JID, subscriber bool) {
		if s.Available() || !subscriber {
			m.send(ctx, t, unavailable(s.JID), to)
		}
	})
}

// each calls f for each session of account and each address that matches: once,
// as a subscriber if it is one, or as a target of the session's directed presence.
func (m *Module) each(ctx context.Context, account, match jid.JID, f func(s *module.Session, to jid.JID, subscriber bool)) error {
	sessions := m.host.Router.Account(account).Sessions()
	if len(sessions) == 0 || match.Bare() == account {
		return nil
	}
	all, err := m.contacts.Subscribers(ctx, account)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		for _, c := range all {
			switch {
			case c == account:
			case c == match.Bare():
				f(s, match, true)
			case match.IsHost() && c.Domain() == match.Domain():
				f(s, c, true)
			}
		}
		for _, to := range m.directed.Get(s) {
			covered := to == match || to.Bare() == match || match.IsHost() && to.Domain() == match.Domain()
			if covered && !contains(all, to.Bare()) {
				f(s, to, false)
			}
		}
	}
	return nil
}

// send routes presence to one address; what cannot be delivered is lost.
func (m *Module) send(ctx context.Context, t *module.Turn, st *stanza.Stanza, to jid.JID) {
	_ = m.host.Router.Send(ctx, t, st.Readdressed(st.From, to), nil)
}

func unavailable(from jid.JID) *stanza.Stanza {
	return stanza.New(stanza.Presence, stanza.Unavailable, from, jid.JID{}, "")
}

func contains(list []jid.JID, j jid.JID) bool {
	for i := range list {
		if list[i] == j {
			return true
		}
	}
	return false
}
