package roster

import (
	"context"
	"strconv"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

func isSubscription(typ string) bool {
	switch typ {
	case stanza.Subscribe, stanza.Subscribed, stanza.Unsubscribe, stanza.Unsubscribed:
		return true
	}
	return false
}

// tell sends a subscription stanza on an account's behalf. If it cannot be
// delivered there is nobody to tell: the states differ until the next probe.
func (m *Module) tell(ctx context.Context, t *module.Turn, st *stanza.Stanza) {
	_ = m.host.Router.Send(ctx, t, st, nil)
}

// send takes the subscription stanzas of local sessions: RFC 6121 §3 and A.2.
func (m *Module) send(ctx context.Context, p *module.Packet) error {
	typ := p.Stanza.Type
	if !isSubscription(typ) {
		return nil
	}
	account, contact := p.Session.Account.Bare, p.Stanza.To.Bare()
	if account == contact {
		return module.ErrHandled // an account sees its own presence, §4.2.2
	}
	p.Turn.Flush() // the store may make us wait; nobody else should
	ctx = context.WithoutCancel(ctx)
	var old state
	var route bool
	err := m.books.Change(ctx, account, func(b *book) (*book, error) {
		old = b.state(contact)
		var next state
		next, route = sent(typ, old)
		if next == old {
			return b, nil
		}
		if next.has(listed) && !old.has(listed) && b.items >= m.opt.Items {
			return nil, full()
		}
		return m.move(ctx, p.Turn, account, b, contact, next, nil, nil)
	})
	if err != nil {
		return err
	}
	if !route {
		return module.ErrHandled
	}
	// §3: the bare address of the sender, and §3.1.2: of the recipient.
	p.Stanza = p.Stanza.Readdressed(account, contact)
	switch {
	case m.presence == nil:
	case typ == stanza.Unsubscribed && old.has(from):
		m.presence.Hide(ctx, p.Turn, account, contact) // §3.2.2: before the stanza
	case typ == stanza.Subscribed:
		if err := m.host.Router.Send(ctx, p.Turn, p.Stanza, nil); err != nil {
			return err
		}
		m.presence.Show(ctx, p.Turn, account, contact) // §3.1.5: behind the stanza
		return module.ErrHandled
	}
	return nil
}

// move saves a contact's new subscription state, has its stanza delivered, if any,
// and pushes the item where a client can see the change. It is called under the
// account's lock.
func (m *Module) move(ctx context.Context, t *module.Turn, account jid.JID, b *book, contact jid.JID,
	next state, request []byte, st *stanza.Stanza,
) (*book, error) {
	it := &item{jid: contact}
	if b.state(contact).has(listed) {
		var err error
		if it, err = m.item(ctx, account, contact); err != nil {
			return nil, err
		}
	}
	it.state = next
	modified := b.state(contact)&visible != next&visible
	n, err := m.save(ctx, account, b, it, request, modified)
	if err != nil {
		return nil, err
	}
	// RFC 6121 §3.1.6, §3.2.3, §3.3.3: the stanza comes before the push.
	if st != nil {
		m.deliver(t, account, st)
	}
	if modified {
		m.pushAll(t, account, it, n.version)
	}
	return n, nil
}

// receive takes subscription stanzas for local accounts: RFC 6121 §3 and A.3.
func (m *Module) receive(ctx context.Context, p *module.Packet) error {
	typ := p.Stanza.Type
	if !isSubscription(typ) {
		return nil
	}
	account, contact := p.Stanza.To.Bare(), p.Stanza.From.Bare()
	if account == contact {
		return module.ErrHandled
	}
	st := p.Stanza
	if st.To != account || st.From != contact {
		st = st.Readdressed(contact, account) // §3.1.3
	}
	p.Turn.Flush()
	ctx = context.WithoutCancel(ctx)
	var old state
	var reply string
	err := m.books.Change(ctx, account, func(b *book) (*book, error) {
		old = b.state(contact)
		next, deliver, answer := received(typ, old)
		reply = answer
		var request []byte
		if next.has(pendingIn) && !old.has(pendingIn) {
			if b.requests >= m.opt.Requests {
				return b, nil // §3.1.3, Security Warning: dropped
			}
			request = m.keep(st)
		}
		if next == old {
			return b, nil
		}
		if !deliver {
			return m.move(ctx, p.Turn, account, b, contact, next, request, nil)
		}
		return m.move(ctx, p.Turn, account, b, contact, next, request, st)
	})
	if err != nil {
		return err
	}
	if typ == stanza.Unsubscribe && old.has(from) && m.presence != nil {
		m.presence.Hide(ctx, p.Turn, account, contact) // §3.3.3
	}
	if reply != "" {
		m.tell(ctx, p.Turn, stanza.New(stanza.Presence, reply, account, contact, st.ID))
		if reply == stanza.Subscribed && m.presence != nil {
			m.presence.Show(ctx, p.Turn, account, contact)
		}
	}
	return module.ErrHandled
}

// keep returns what is stored of a subscription request: all of it (§3.1.3), or
// only the request itself when its payload is too large.
func (m *Module) keep(st *stanza.Stanza) []byte {
	if st.Size() > m.opt.RequestBytes {
		st = stanza.New(st.Kind, st.Type, st.From, st.To, st.ID)
	}
	return st.AppendDocument(nil)
}

// deliver brings a request to the available resources and everything else to the
// interested ones, RFC 6121 §3.1.2, Implementation Note.
func (m *Module) deliver(t *module.Turn, account jid.JID, st *stanza.Stanza) {
	for _, s := range m.host.Router.Account(account).Sessions() {
		if st.Type == stanza.Subscribe {
			if s.Available() && s.Has(m.notified) {
				s.Deliver(t, st, nil)
			}
		} else if s.Has(m.interested) {
			s.Deliver(t, st, nil)
		}
	}
}

// remind gives a session that has become available the requests that wait for an
// answer (§3.1.3), and repeats the account's own requests to other servers, which
// might never have arrived (§3.1.2).
func (m *Module) remind(ctx context.Context, p *module.Packet) error {
	s := p.Session
	if !s.Available() {
		s.Set(m.notified, false)
		return nil
	}
	if s.Has(m.notified) {
		return nil
	}
	account := s.Account.Bare
	var again []jid.JID
	err := m.books.Change(ctx, account, func(b *book) (*book, error) {
		s.Set(m.notified, true)
		for _, c := range b.contacts {
			if c.state.has(pendingOut) && !m.host.Router.Hosts(c.jid.Domain()) {
				again = append(again, c.jid)
			}
		}
		if b.requests == 0 {
			return b, nil
		}
		return b, m.requests(ctx, p)
	})
	if err != nil {
		return err
	}
	for i, contact := range again {
		m.tell(ctx, p.Turn, stanza.New(stanza.Presence, stanza.Subscribe, account, contact, "again-"+strconv.Itoa(i)))
	}
	return nil
}

// requests delivers the stored requests to one session.
func (m *Module) requests(ctx context.Context, p *module.Packet) error {
	account := p.Session.Account.Bare
	rows, err := m.host.Store.Query(ctx, `SELECT contact, request FROM roster_contact
		WHERE account = ? AND request IS NOT NULL ORDER BY contact`, account.String())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var contact jid.JID
		var raw []byte
		if err := rows.Scan(&contact, &raw); err != nil {
			return err
		}
		if m.host.Barred(ctx, account, contact) {
			continue
		}
		st, err := stanza.ParseDocument(raw)
		if err != nil {
			return err
		}
		p.Session.Deliver(p.Turn, st, nil)
	}
	return rows.Err()
}
