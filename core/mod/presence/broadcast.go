package presence

import (
	"context"
	"strconv"
	"strings"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

// check refuses presence that RFC 6121 §4.7.2.3 does not allow.
func check(_ context.Context, p *module.Packet) error {
	_, err := priority(p.Stanza)
	return err
}

// priority returns the priority of available presence, 0 when it has none.
func priority(st *stanza.Stanza) (int8, error) {
	var found *stanza.Element
	n := 0
	st.Each(func(c stanza.Child) bool {
		if c.Is(stanza.NSClient, "priority") {
			n++
			found = c.Element()
		}
		return true
	})
	if n == 0 {
		return 0, nil
	}
	v, err := strconv.ParseInt(strings.TrimSpace(found.Text()), 10, 8)
	if err != nil || n > 1 || found.Child("", "") != nil {
		return 0, stanza.Err(stanza.BadRequest, "the priority is one integer between -128 and +127")
	}
	return int8(v), nil
}

// broadcast takes a session's presence without 'to': RFC 6121 §4.2, §4.4, §4.5.
func (m *Module) broadcast(ctx context.Context, p *module.Packet) error {
	s, st := p.Session, p.Stanza
	before := s.Presence()
	if st.Type == stanza.Unavailable {
		if before == nil && len(m.directed.Get(s)) == 0 {
			return nil // nobody was ever told that it is available
		}
		return m.leave(ctx, p.Turn, s, st)
	}
	prio, err := priority(st)
	if err != nil {
		return err
	}
	s.SetPresence(&module.Presence{Stanza: st, Priority: prio, Since: m.host.Now()})
	if err := m.tell(ctx, p.Turn, s, st); err != nil {
		return err
	}
	m.echo(p.Turn, s, st)
	if before == nil {
		return m.gather(ctx, p.Turn, s) // §4.2.2
	}
	return nil
}

// tell sends st to everybody who sees the account's presence, §4.4.2.
func (m *Module) tell(ctx context.Context, t *module.Turn, s *module.Session, st *stanza.Stanza) error {
	account := s.Account.Bare
	subscribers, err := m.contacts.Subscribers(ctx, account)
	if err != nil {
		return err
	}
	for _, c := range subscribers {
		if m.host.Barred(ctx, account, c) {
			continue
		}
		if c.Local() == "" || !m.host.Router.Hosts(c.Domain()) {
			out := st.Readdressed(s.JID, c)
			if err := m.host.Router.Send(ctx, t, out, nil); err != nil && st.Type == "" {
				m.host.Router.Bounce(ctx, t, out, err)
			}
			continue
		}
		a := m.host.Router.Account(c)
		if a == nil || m.host.Barred(ctx, c, s.JID) {
			continue
		}
		for _, to := range a.Sessions() {
			if to.Available() {
				to.DeliverTo(t, st, c, nil) // §4.4.3
			}
		}
	}
	return nil
}

// echo sends st to the account's own available resources, s among them (§4.2.2,
// §4.4.2, §4.5.2).
func (m *Module) echo(t *module.Turn, s *module.Session, st *stanza.Stanza) {
	if m.host.Router.Session(s.JID) == s && !s.Available() {
		s.DeliverTo(t, st, s.JID, nil) // it has just said that it is unavailable
	}
	for _, own := range m.host.Router.Account(s.Account.Bare).Sessions() {
		if own.Available() {
			own.DeliverTo(t, st, own.JID, nil)
		}
	}
}

// leave makes a session unavailable: st tells those who see the account's
// presence, and those who got directed presence of the session (§4.5.2, §4.6.3).
func (m *Module) leave(ctx context.Context, t *module.Turn, s *module.Session, st *stanza.Stanza) error {
	was := s.Available()
	s.SetPresence(nil)
	directed := m.directed.Get(s)
	if len(directed) > 0 {
		m.directed.Update(s, func([]jid.JID) []jid.JID { return nil })
	}
	subscribers, err := m.contacts.Subscribers(ctx, s.Account.Bare)
	if err != nil {
		return err
	}
	if was {
		if err := m.tell(ctx, t, s, st); err != nil {
			return err
		}
		m.echo(t, s, st)
	}
	for _, to := range directed {
		if was && contains(subscribers, to.Bare()) {
			continue // told already
		}
		if !m.host.Barred(ctx, s.Account.Bare, to) {
			m.send(ctx, t, st, to)
		}
	}
	return nil
}

// gone is what a session that ended without unavailable presence leaves to its
// server: RFC 6121 §4.5.2.
func (m *Module) gone(ctx context.Context, t *module.Turn, s *module.Session) {
	if !s.Available() && len(m.directed.Get(s)) == 0 {
		return
	}
	ctx = context.WithoutCancel(ctx) // the session's own has ended
	if now := m.host.Router.Session(s.JID); now != nil && now.Available() {
		// The resource has been taken over and is available again (RFC 6120 §7.7.2.2):
		// its contacts know that. Those who got directed presence do not.
		s.SetPresence(nil)
	}
	if err := m.leave(ctx, t, s, unavailable(s.JID)); err != nil {
		m.host.Log.Error("unavailable presence was not sent", "jid", s.JID.String(), "err", err)
	}
}

// gather brings to a newly available session the presence of the account's other
// resources and of its contacts: it answers the probes of RFC 6121 §4.3.1 where
// the contact is local, and sends them where it is not.
func (m *Module) gather(ctx context.Context, t *module.Turn, s *module.Session) error {
	account := s.Account.Bare
	for _, own := range s.Account.Sessions() {
		if pr := own.Presence(); pr != nil && own != s {
			s.DeliverTo(t, pr.Stanza, s.JID, nil)
		}
	}
	subscriptions, err := m.contacts.Subscriptions(ctx, account)
	if err != nil {
		return err
	}
	for _, c := range subscriptions {
		if m.host.Barred(ctx, account, c) {
			continue
		}
		if c.Local() == "" || !m.host.Router.Hosts(c.Domain()) {
			m.send(ctx, t, stanza.New(stanza.Presence, stanza.Probe, account, jid.JID{}, ""), c)
			continue
		}
		a := m.host.Router.Account(c)
		if a == nil {
			continue // §4.3.2: an answer is not mandatory, and silence means unavailable
		}
		ok, err := m.contacts.Subscribed(ctx, c, account)
		if err != nil {
			return err
		}
		switch {
		case m.host.Barred(ctx, c, account):
		case ok:
			for _, from := range a.Sessions() {
				if pr := from.Presence(); pr != nil {
					s.DeliverTo(t, pr.Stanza, s.JID, nil)
				}
			}
		default: // §4.3.2, rule 1: the rosters disagree
			m.send(ctx, t, stanza.New(stanza.Presence, stanza.Unsubscribed, c, jid.JID{}, ""), account)
		}
	}
	return nil
}
