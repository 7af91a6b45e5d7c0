package kit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"trivium/core/jid"
	"trivium/core/store"
)

// entry is one contact of one user.
type entry struct {
	jid    jid.JID // bare; the gateway itself is one
	state  state
	name   string
	groups []string
}

func (e *entry) empty() bool { return e.state == 0 && e.name == "" && len(e.groups) == 0 }

// book is what the gateway knows of one user. It is immutable.
type book struct {
	registered bool
	contacts   []entry // by address
}

func (b *book) search(contact jid.JID) (int, bool) {
	return slices.BinarySearchFunc(b.contacts, contact, func(e entry, j jid.JID) int {
		return strings.Compare(e.jid.String(), j.String())
	})
}

// entry returns the entry of a contact, an empty one for a stranger.
func (b *book) entry(contact jid.JID) entry {
	if i, ok := b.search(contact); ok {
		return b.contacts[i]
	}
	return entry{jid: contact}
}

func (b *book) state(contact jid.JID) state {
	if i, ok := b.search(contact); ok {
		return b.contacts[i].state
	}
	return 0
}

// with returns b with another entry for one contact.
func (b *book) with(e entry) *book {
	n := *b
	i, found := b.search(e.jid)
	switch {
	case e.empty() && !found:
		return b
	case e.empty():
		n.contacts = slices.Delete(slices.Clone(b.contacts), i, i+1)
	case found:
		n.contacts = slices.Clone(b.contacts)
		n.contacts[i] = e
	default:
		n.contacts = slices.Insert(slices.Clip(b.contacts), i, e)
	}
	return &n
}

var lockSeed = maphash.MakeSeed()

func (g *Gateway) lock(user jid.JID) *sync.Mutex {
	return &g.locks[maphash.String(lockSeed, user.String())%uint64(len(g.locks))]
}

// book returns what is known of a user, a bare address.
func (g *Gateway) book(ctx context.Context, user jid.JID) (*book, error) {
	if b, ok := g.books.GetIfPresent(user); ok {
		return b, nil
	}
	mu := g.lock(user)
	mu.Lock()
	defer mu.Unlock()
	return g.load(ctx, user)
}

// load is book under the user's lock.
func (g *Gateway) load(ctx context.Context, user jid.JID) (*book, error) {
	if b, ok := g.books.GetIfPresent(user); ok {
		return b, nil
	}
	b := &book{}
	one := 0
	err := g.opt.Store.QueryRow(ctx, `SELECT 1 FROM kit_registration WHERE domain = ? AND account = ?`,
		g.domain.Domain(), user.String()).Scan(&one)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	b.registered = one == 1
	rows, err := g.opt.Store.Query(ctx, `SELECT contact, state, name, groupset FROM kit_contact
		WHERE domain = ? AND account = ? ORDER BY contact`, g.domain.Domain(), user.String())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e entry
		var groups string
		if err := rows.Scan(&e.jid, &e.state, &e.name, &groups); err != nil {
			return nil, err
		}
		if groups != "" {
			if err := json.Unmarshal([]byte(groups), &e.groups); err != nil {
				return nil, err
			}
		}
		b.contacts = append(b.contacts, e)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(b.contacts, func(x, y entry) int { return strings.Compare(x.jid.String(), y.jid.String()) })
	g.books.Set(user.Clone(), b)
	return b, nil
}

// change replaces one user's entry for one contact by what f makes of it. f runs
// under the user's lock and must not route. What is returned is what was before and
// what is in the store now.
func (g *Gateway) change(ctx context.Context, user, contact jid.JID, f func(b *book, e entry) (entry, error)) (was, now entry, err error) {
	mu := g.lock(user)
	mu.Lock()
	defer mu.Unlock()
	b, err := g.load(ctx, user)
	if err != nil {
		return was, now, err
	}
	was = b.entry(contact)
	if now, err = f(b, was); err != nil || same(&was, &now) {
		return was, now, err
	}
	now.jid = contact.Clone()
	n := b.with(now)
	if len(n.contacts) > len(b.contacts) && len(b.contacts) >= g.opt.MaxContacts {
		return was, now, ErrTooMany
	}
	if err := g.opt.Store.Write(ctx, func(tx *store.Tx) error { return g.put(tx, user, &now) }); err != nil {
		return was, now, err
	}
	g.books.Set(user.Clone(), n)
	return was, now, nil
}

func same(a, b *entry) bool {
	return a.state == b.state && a.name == b.name && slices.Equal(a.groups, b.groups)
}

// put writes one row.
func (g *Gateway) put(tx *store.Tx, user jid.JID, e *entry) error {
	if e.empty() {
		_, err := tx.Exec(`DELETE FROM kit_contact WHERE domain = ? AND account = ? AND contact = ?`,
			g.domain.Domain(), user.String(), e.jid.String())
		return err
	}
	groups := ""
	if len(e.groups) > 0 {
		raw, err := json.Marshal(e.groups)
		if err != nil {
			return err
		}
		groups = string(raw)
	}
	_, err := tx.Exec(`INSERT INTO kit_contact (domain, account, contact, state, name, groupset) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (domain, account, contact) DO UPDATE SET state = excluded.state, name = excluded.name, groupset = excluded.groupset`,
		g.domain.Domain(), user.String(), e.jid.String(), int64(e.state), e.name, groups)
	return err
}

// Forget drops what is in memory of a user whose rows are being deleted, once that has
// been committed. It may be called in the transaction that deletes them.
func (g *Gateway) Forget(user jid.JID) {
	user = user.Clone()
	g.begin(func() {
		_ = g.opt.Store.Sync(context.Background()) // fails when the store closes: nobody reads any more
		mu := g.lock(user)
		mu.Lock()
		g.books.Invalidate(user)
		mu.Unlock()
		g.presences.forget(user)
		g.online.forget(user)
	})
}
