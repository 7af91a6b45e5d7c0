package roster

import (
	"context"
	"strconv"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

// formatVersion and parseVersion write and read the 'ver' attribute, which is
// opaque to clients (RFC 6121 §2.1.1).
func formatVersion(v int64) string { return strconv.FormatInt(v, 36) }

func parseVersion(s string) (int64, bool) {
	v, err := strconv.ParseInt(s, 36, 64)
	return v, err == nil && v >= 0 && formatVersion(v) == s
}

// get answers a roster get, RFC 6121 §2.1.3, §2.2 and §2.6.
func (m *Module) get(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	query := rq.Element()
	if query.Child(NS, "item") != nil {
		return nil, stanza.Err(stanza.BadRequest, "a roster get has no items") // §2.1.3
	}
	account := rq.To()
	ver, versioned := query.Lookup("ver")
	var answer stanza.Payload
	err := m.books.Change(ctx, account, func(b *book) (*book, error) {
		if rq.Session == nil {
			full, err := m.full(ctx, account, b)
			answer = full
			return b, err
		}
		// From here on the session gets every push, and none before the answer: both
		// happen under the account's lock.
		rq.Session.Set(m.interested, true)
		have, known := parseVersion(ver)
		if versioned && known && (have == b.version || have >= b.floor && have < b.version) {
			return b, m.catchUp(ctx, rq, b, have)
		}
		full, err := m.full(ctx, account, b)
		if err != nil {
			return nil, err
		}
		rq.Session.Deliver(rq.Turn, rq.Stanza.Result(full), nil)
		return b, nil
	})
	switch {
	case err != nil:
		return nil, err
	case answer != nil:
		return answer, nil
	}
	return nil, module.ErrHandled
}

// full returns the whole roster, §2.1.4.
func (m *Module) full(ctx context.Context, account jid.JID, b *book) (stanza.Payload, error) {
	query := stanza.El(NS, "query").Set("ver", formatVersion(b.version))
	err := m.items(ctx, account, 0, func(it *item, _ int64) {
		if it.state.has(listed) {
			query.Add(it.element())
		}
	})
	return query, err
}

// catchUp answers with an empty result and pushes what has changed since a
// version, §2.6.3; or with the whole roster when that is shorter.
func (m *Module) catchUp(ctx context.Context, rq *module.Request, b *book, have int64) error {
	type change struct {
		it      *item
		version int64
	}
	var changes []change
	if have < b.version {
		err := m.items(ctx, rq.To(), have, func(it *item, version int64) { changes = append(changes, change{it, version}) })
		if err != nil {
			return err
		}
	}
	if len(changes) > max(8, b.items/2) {
		full, err := m.full(ctx, rq.To(), b)
		if err != nil {
			return err
		}
		rq.Session.Deliver(rq.Turn, rq.Stanza.Result(full), nil)
		return nil
	}
	rq.Session.Deliver(rq.Turn, rq.Stanza.Result(nil), nil)
	for _, c := range changes {
		rq.Session.Deliver(rq.Turn, push(rq.To(), c.it, c.version).Readdressed(rq.To(), rq.Session.JID), nil)
	}
	return nil
}

// push returns a roster push from the bare account, §2.1.6.
func push(account jid.JID, it *item, version int64) *stanza.Stanza {
	v := formatVersion(version)
	query := stanza.El(NS, "query", it.element()).Set("ver", v)
	return stanza.New(stanza.IQ, stanza.Set, account, jid.JID{}, "push-"+v, query)
}

// pushAll sends a roster push to all interested resources, §2.1.6. It is called
// under the account's lock, so that pushes come in the order of their versions.
func (m *Module) pushAll(t *module.Turn, account jid.JID, it *item, version int64) {
	var st *stanza.Stanza
	for _, s := range m.host.Router.Account(account).Sessions() {
		if !s.Has(m.interested) {
			continue
		}
		if st == nil {
			st = push(account, it, version)
		}
		s.DeliverTo(t, st, s.JID, nil)
	}
}

// set answers a roster set, RFC 6121 §2.3 to §2.5. The result promises that the
// change is durable.
func (m *Module) set(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	it, remove, err := m.parseSet(rq)
	if err != nil {
		return nil, err
	}
	// What is being changed is finished even if the session goes away meanwhile.
	ctx = context.WithoutCancel(ctx)
	if remove {
		return nil, m.remove(ctx, rq.Turn, rq.To(), it.jid)
	}
	return nil, m.books.Change(ctx, rq.To(), func(b *book) (*book, error) {
		it.state = b.state(it.jid)
		if !it.state.has(listed) {
			if b.items >= m.opt.Items {
				return nil, full()
			}
			it.state |= listed
		}
		if err := m.room(ctx, rq.To(), it); err != nil {
			return nil, err
		}
		n, err := m.save(ctx, rq.To(), b, it, nil, true)
		if err == nil {
			m.pushAll(rq.Turn, rq.To(), it, n.version)
		}
		return n, err
	})
}

// room refuses an item whose name and groups would make the roster larger than it
// may be: every answer to a roster get holds all of it (XEP-0205 §2). Items that
// take no more than their share need not be counted.
func (m *Module) room(ctx context.Context, account jid.JID, it *item) error {
	size := len(it.name) + len(encodeGroups(it.groups))
	if size <= m.opt.Bytes/m.opt.Items {
		return nil
	}
	var others int
	err := m.host.Store.QueryRow(ctx, `SELECT coalesce(sum(octet_length(name) + octet_length(groupset)), 0)
		FROM roster_contact WHERE account = ? AND contact <> ?`, account.String(), it.jid.String()).Scan(&others)
	if err == nil && others+size > m.opt.Bytes {
		return full()
	}
	return err
}

func full() error {
	return &stanza.Error{Type: stanza.Cancel, Condition: stanza.ResourceConstraint, Text: "the roster is full"}
}

// parseSet checks a roster set against RFC 6121 §2.3.3.
func (m *Module) parseSet(rq *module.Request) (it *item, remove bool, err error) {
	query := rq.Element()
	all := query.Children("", "")
	if len(all) != 1 || !all[0].Is(NS, "item") {
		return nil, false, stanza.Err(stanza.BadRequest, "a roster set has exactly one item")
	}
	el := all[0]
	addr, err := jid.Parse(el.Attr("jid"))
	switch {
	case el.Attr("jid") == "":
		return nil, false, stanza.Err(stanza.BadRequest, "the item has no jid")
	case err != nil:
		return nil, false, &stanza.Error{Condition: stanza.JIDMalformed, Cause: err}
	case addr.IsFull():
		return nil, false, stanza.Err(stanza.BadRequest, "a contact is a bare address")
	case addr == rq.To():
		return nil, false, stanza.Err(stanza.NotAllowed, "an account is not its own contact") // §2.3.3, Interoperability Note
	}
	it = &item{jid: addr, name: el.Attr("name")}
	if el.Attr("subscription") == "remove" { // §2.1.2.5: any other value is ignored
		return it, true, nil
	}
	if len(it.name) > m.opt.Name {
		return nil, false, stanza.Err(stanza.NotAcceptable, "the name is too long")
	}
	seen := map[string]bool{}
	for _, g := range el.Children(NS, "group") {
		name := g.Text()
		switch {
		case name == "":
			return nil, false, stanza.Err(stanza.NotAcceptable, "a group has no name")
		case len(name) > m.opt.Group:
			return nil, false, stanza.Err(stanza.NotAcceptable, "the name of a group is too long")
		}
		key := name
		if p, err := jid.PrepareResource(name); err == nil {
			key = p
		}
		if seen[key] {
			return nil, false, stanza.Err(stanza.BadRequest, "a group is named twice")
		}
		seen[key] = true
		it.groups = append(it.groups, name)
	}
	if len(it.groups) > m.opt.Groups {
		return nil, false, stanza.Err(stanza.NotAcceptable, "too many groups")
	}
	return it, false, nil
}

// remove deletes an item and ends the subscriptions that go with it, §2.5.
func (m *Module) remove(ctx context.Context, t *module.Turn, account, contact jid.JID) error {
	var old state
	err := m.books.Change(ctx, account, func(b *book) (*book, error) {
		old = b.state(contact)
		if !old.has(listed) {
			return nil, &stanza.Error{Type: stanza.Modify, Condition: stanza.ItemNotFound} // §2.5.3
		}
		it := &item{jid: contact}
		n, err := m.save(ctx, account, b, it, nil, true)
		if err == nil {
			m.pushAll(t, account, it, n.version)
		}
		return n, err
	})
	if err != nil {
		return err
	}
	m.cancel(ctx, t, account, contact, old)
	return nil
}

// farewell ends all subscriptions of an account that is about to be removed
// (XEP-0077 §3.2), as if it removed every item.
func (m *Module) farewell(ctx context.Context, t *module.Turn, account jid.JID) error {
	b, err := m.books.Get(ctx, account)
	if err != nil {
		return err
	}
	if m.presence != nil {
		// Once, and before the subscriptions end: what the sessions do in the short time
		// that is left to them concerns nobody any more.
		if err := m.presence.Withdraw(ctx, t, account); err != nil {
			return err
		}
	}
	for _, c := range b.contacts {
		m.cancel(ctx, t, account, c.jid, c.state)
	}
	return nil
}

// cancel tells a contact that the subscriptions between the two end.
func (m *Module) cancel(ctx context.Context, t *module.Turn, account, contact jid.JID, old state) {
	// §2.5.2. Requests that still wait for an answer end as well, or the contact
	// would be left with one that nobody remembers.
	if old.has(to) || old.has(pendingOut) {
		m.tell(ctx, t, stanza.New(stanza.Presence, stanza.Unsubscribe, account, contact, ""))
	}
	if old.has(from) && m.presence != nil {
		m.presence.Hide(ctx, t, account, contact) // §3.2.2
	}
	if old.has(from) || old.has(pendingIn) {
		m.tell(ctx, t, stanza.New(stanza.Presence, stanza.Unsubscribed, account, contact, ""))
	}
}
