package roster

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/store"
)

// contact is what is kept in memory of one contact.
type contact struct {
	jid   jid.JID
	state state
}

// book is what is kept in memory of one roster. It is immutable; names and
// groups stay in the store.
type book struct {
	version, floor int64
	contacts       []contact // by address; unlisted ones among them only while they wait for an answer
	subscribers    []jid.JID // see the account's presence: from, both
	subscriptions  []jid.JID // whose presence the account sees: to, both
	items          int       // listed contacts
	requests       int       // contacts that wait for an answer
}

func weigh(b *book) uint32 { return 1 + uint32(len(b.contacts)) }

func (b *book) search(j jid.JID) (int, bool) {
	return slices.BinarySearchFunc(b.contacts, j, func(c contact, j jid.JID) int {
		return strings.Compare(c.jid.String(), j.String())
	})
}

// state returns the state of a contact, 0 for a stranger.
func (b *book) state(j jid.JID) state {
	if i, ok := b.search(j); ok {
		return b.contacts[i].state
	}
	return 0
}

// with returns b with another state of one contact, at the given version.
func (b *book) with(j jid.JID, s state, version, floor int64) *book {
	i, found := b.search(j)
	n := *b
	n.version, n.floor = version, floor
	switch {
	case s == 0 && !found:
		return &n
	case s == 0:
		n.contacts = slices.Delete(slices.Clone(b.contacts), i, i+1)
	case found:
		n.contacts = slices.Clone(b.contacts)
		n.contacts[i].state = s
	default:
		n.contacts = slices.Insert(slices.Clip(b.contacts), i, contact{j.Clone(), s})
	}
	n.index()
	return &n
}

// index derives the lists and counts from the contacts.
func (b *book) index() {
	b.items, b.requests = 0, 0
	var nFrom, nTo int
	for _, c := range b.contacts {
		if c.state.has(listed) {
			b.items++
		}
		if c.state.has(pendingIn) {
			b.requests++
		}
		if c.state.has(from) {
			nFrom++
		}
		if c.state.has(to) {
			nTo++
		}
	}
	b.subscribers, b.subscriptions = make([]jid.JID, 0, nFrom), make([]jid.JID, 0, nTo)
	for _, c := range b.contacts {
		if c.state.has(from) {
			b.subscribers = append(b.subscribers, c.jid)
		}
		if c.state.has(to) {
			b.subscriptions = append(b.subscriptions, c.jid)
		}
	}
	if slices.Equal(b.subscribers, b.subscriptions) {
		b.subscriptions = b.subscribers // nearly always: friendship is mutual
	}
}

// load reads a roster from the store.
func (m *Module) load(ctx context.Context, account jid.JID) (*book, error) {
	b := &book{}
	err := m.host.Store.QueryRow(ctx, `SELECT version, floor FROM roster WHERE account = ?`, account.String()).Scan(&b.version, &b.floor)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	rows, err := m.host.Store.Query(ctx, `SELECT contact, state FROM roster_contact WHERE account = ? AND state <> 0`, account.String())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c contact
		if err := rows.Scan(&c.jid, &c.state); err != nil {
			return nil, err
		}
		b.contacts = append(b.contacts, c)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(b.contacts, func(x, y contact) int { return strings.Compare(x.jid.String(), y.jid.String()) })
	b.index()
	return b, nil
}

// item is a roster item as a client sees it.
type item struct {
	jid    jid.JID
	state  state
	name   string
	groups []string
}

// element returns the <item/> of RFC 6121 §2.1.2.
func (it *item) element() *stanza.Element {
	e := stanza.El(NS, "item").Set("jid", it.jid.String())
	if !it.state.has(listed) {
		return e.Set("subscription", "remove")
	}
	if it.name != "" {
		e.Set("name", it.name)
	}
	e.Set("subscription", it.state.subscription())
	if it.state.has(pendingOut) {
		e.Set("ask", "subscribe") // §2.1.2.2
	}
	if it.state.has(approved) {
		e.Set("approved", "true") // §2.1.2.1
	}
	for _, g := range it.groups {
		e.Add(stanza.TextEl(NS, "group", g))
	}
	return e
}

// items calls f for the contacts of an account that had a roster push after
// version since, in that order; since 0 gives them all.
func (m *Module) items(ctx context.Context, account jid.JID, since int64, f func(it *item, version int64)) error {
	rows, err := m.host.Store.Query(ctx, `SELECT contact, state, version, name, groupset FROM roster_contact
		WHERE account = ? AND version > ? ORDER BY version`, account.String(), since)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var it item
		var groups string
		var version int64
		if err := rows.Scan(&it.jid, &it.state, &version, &it.name, &groups); err != nil {
			return err
		}
		if it.groups, err = decodeGroups(groups); err != nil {
			return err
		}
		f(&it, version)
	}
	return rows.Err()
}

// item reads the name and groups of a contact.
func (m *Module) item(ctx context.Context, account, j jid.JID) (*item, error) {
	it := &item{jid: j}
	var groups string
	err := m.host.Store.QueryRow(ctx, `SELECT name, groupset FROM roster_contact WHERE account = ? AND contact = ?`,
		account.String(), j.String()).Scan(&it.name, &groups)
	if errors.Is(err, sql.ErrNoRows) {
		return it, nil
	}
	if err != nil {
		return nil, err
	}
	it.groups, err = decodeGroups(groups)
	return it, err
}

func encodeGroups(groups []string) string {
	if len(groups) == 0 {
		return ""
	}
	b, _ := json.Marshal(groups) // strings always marshal
	return string(b)
}

func decodeGroups(s string) (groups []string, err error) {
	if s != "" {
		err = json.Unmarshal([]byte(s), &groups)
	}
	return groups, err
}

// save writes one contact and makes the change durable. It returns the new book.
// request is what to keep of a subscription request while one is pending, nil for
// what is kept already. modified tells that clients can see the change.
func (m *Module) save(ctx context.Context, account jid.JID, b *book, it *item, request []byte, modified bool) (*book, error) {
	version, floor := b.version, b.floor
	if modified {
		// RFC 6121 §2.6.3: unique and ascending. The time keeps the versions of an account
		// apart from those of one that had its name before.
		version = max(version+1, m.host.Now().UnixMicro())
		if b.version == 0 {
			floor = version
		}
	}
	state := it.state
	err := m.host.Store.Write(ctx, func(tx *store.Tx) error {
		row := struct {
			version int64
			request []byte
		}{}
		err := tx.QueryRow(`SELECT version, request FROM roster_contact WHERE account = ? AND contact = ?`,
			account.String(), it.jid.String()).Scan(&row.version, &row.request)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if request != nil {
			row.request = request
		}
		if !state.has(pendingIn) {
			row.request = nil
		}
		if modified {
			row.version = version
		}
		if state == 0 && row.version == 0 {
			_, err := tx.Exec(`DELETE FROM roster_contact WHERE account = ? AND contact = ?`, account.String(), it.jid.String())
			return err
		}
		_, err = tx.Exec(`INSERT INTO roster_contact (account, contact, state, version, name, groupset, request)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (account, contact) DO UPDATE
			SET state = ?3, version = ?4, name = ?5, groupset = ?6, request = ?7`,
			account.String(), it.jid.String(), int64(state), row.version, it.name, encodeGroups(it.groups), row.request)
		if err != nil || !modified {
			return err
		}
		if !state.has(listed) {
			if floor, err = m.prune(tx, account, b.floor); err != nil {
				return err
			}
		}
		_, err = tx.Exec(`INSERT INTO roster (account, version, floor) VALUES (?1, ?2, ?3)
			ON CONFLICT (account) DO UPDATE SET version = ?2, floor = ?3`, account.String(), version, floor)
		return err
	})
	if err != nil {
		return nil, err
	}
	return b.with(it.jid, state, version, floor), nil
}

// prune forgets the oldest removals beyond the limit and returns the version from
// which changes can still be told.
func (m *Module) prune(tx *store.Tx, account jid.JID, floor int64) (int64, error) {
	var last int64
	err := tx.QueryRow(`SELECT version FROM roster_contact WHERE account = ? AND state = 0
		ORDER BY version DESC LIMIT 1 OFFSET ?`, account.String(), m.opt.Removals).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return floor, nil
	}
	if err != nil {
		return floor, err
	}
	_, err = tx.Exec(`DELETE FROM roster_contact WHERE account = ? AND state = 0 AND version <= ?`, account.String(), last)
	return max(floor, last), err
}

func purge(tx *store.Tx, account jid.JID) error {
	if _, err := tx.Exec(`DELETE FROM roster_contact WHERE account = ?`, account.String()); err != nil {
		return err
	}
	_, err := tx.Exec(`DELETE FROM roster WHERE account = ?`, account.String())
	return err
}
