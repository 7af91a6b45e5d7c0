package blocking

import (
	"context"
	"maps"
	"strconv"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// get returns the list, XEP-0191 §3.2.
func (m *Module) get(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	if rq.Session != nil {
		rq.Session.Set(m.asked, true)
	}
	l, err := m.lists.Get(ctx, rq.To())
	if err != nil {
		return nil, err
	}
	return items("blocklist", l.sorted()), nil
}

func items(name string, list []jid.JID) *stanza.Element {
	e := stanza.El(NS, name)
	for _, j := range list {
		e.Add(stanza.El(NS, "item").Set("jid", j.String()))
	}
	return e
}

// parse reads the addresses of a command.
func parse(rq *module.Request) ([]jid.JID, error) {
	var out []jid.JID
	for _, el := range rq.Element().Children("", "") {
		if !el.Is(NS, "item") || el.Attr("jid") == "" {
			return nil, stanza.Err(stanza.BadRequest, "want items with a jid")
		}
		j, err := jid.Parse(el.Attr("jid"))
		if err != nil {
			return nil, &stanza.Error{Condition: stanza.JIDMalformed, Cause: err}
		}
		out = append(out, j)
	}
	return out, nil
}

// block adds addresses to the list, §3.3. The result promises that the change is
// durable.
func (m *Module) block(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	wanted, err := parse(rq)
	if err != nil {
		return nil, err
	}
	if len(wanted) == 0 {
		return nil, stanza.Err(stanza.BadRequest, "nobody to block")
	}
	ctx = context.WithoutCancel(ctx) // a change that has begun is finished
	account := rq.To()
	var added []jid.JID
	err = m.lists.Change(ctx, account, func(old list) (list, error) {
		next := maps.Clone(old)
		if next == nil {
			next = list{}
		}
		for _, j := range wanted {
			if _, ok := next[j]; !ok {
				next[j] = struct{}{}
				added = append(added, j)
			}
		}
		if len(added) > 0 && len(next) > m.opt.Items {
			return nil, &stanza.Error{Type: stanza.Cancel, Condition: stanza.ResourceConstraint, Text: "the blocking list is full"}
		}
		if err := m.write(ctx, account, `INSERT INTO blocking (account, blocked) VALUES (?, ?)`, added); err != nil {
			return nil, err
		}
		m.push(rq.Turn, account, items("block", wanted))
		return next, nil
	})
	if err != nil || m.presence == nil {
		return nil, err
	}
	for _, j := range added {
		if err := m.presence.Vanish(ctx, rq.Turn, account, j); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// unblock takes addresses from the list, §3.4, or all of them, §3.5.
func (m *Module) unblock(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	wanted, err := parse(rq)
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	account := rq.To()
	var removed []jid.JID
	err = m.lists.Change(ctx, account, func(old list) (list, error) {
		var next list
		if len(wanted) == 0 {
			removed = old.sorted()
			if err := m.writeAll(ctx, account); err != nil {
				return nil, err
			}
		} else {
			next = maps.Clone(old)
			for _, j := range wanted {
				if _, ok := next[j]; ok {
					delete(next, j)
					removed = append(removed, j)
				}
			}
			if err := m.write(ctx, account, `DELETE FROM blocking WHERE account = ? AND blocked = ?`, removed); err != nil {
				return nil, err
			}
			if len(next) == 0 {
				next = nil
			}
		}
		m.push(rq.Turn, account, items("unblock", wanted))
		return next, nil
	})
	if err != nil || m.presence == nil {
		return nil, err
	}
	for _, j := range removed {
		if err := m.presence.Appear(ctx, rq.Turn, account, j); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (m *Module) write(ctx context.Context, account jid.JID, query string, addresses []jid.JID) error {
	if len(addresses) == 0 {
		return nil
	}
	return m.host.Store.Write(ctx, func(tx *store.Tx) error {
		for _, j := range addresses {
			if _, err := tx.Exec(query, account.String(), j.String()); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *Module) writeAll(ctx context.Context, account jid.JID) error {
	return m.host.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM blocking WHERE account = ?`, account.String())
		return err
	})
}

// push tells the sessions that have asked for the list of a change. It is called
// under the account's lock, so that they learn of changes in order.
func (m *Module) push(t *module.Turn, account jid.JID, what *stanza.Element) {
	id := "block-" + strconv.FormatInt(m.host.Now().UnixNano(), 36)
	st := stanza.New(stanza.IQ, stanza.Set, account, jid.JID{}, id, what)
	for _, s := range m.host.Router.Account(account).Sessions() {
		if s.Has(m.asked) {
			s.DeliverTo(t, st, s.JID, nil)
		}
	}
}
