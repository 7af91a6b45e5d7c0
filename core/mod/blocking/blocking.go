// Package blocking implements XEP-0191 (Blocking Command) 1.3.
//
// An account's list is one immutable set in memory. Guards on both ways of a
// stanza look into it, for nearly all accounts with a single look-up that finds
// no list; whatever reaches sessions by another way asks through
// module.Host.Barred. Subscriptions outlive a block ("polite blocking", §4).
//
//spec:xep-0191 1.3 complete | Blocking Command | blocking, both ways of every stanza
package blocking

import (
	"context"
	"embed"
	"maps"
	"slices"
	"strings"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Namespaces of XEP-0191.
const (
	NS       = "urn:xmpp:blocking"
	NSErrors = "urn:xmpp:blocking:errors"
)

// Presence shows and hides presence when a block ends and begins.
type Presence interface {
	// Appear shows account's presence to those whose address match covers and who
	// may see it; Vanish tells them that it is unavailable.
	Appear(ctx context.Context, t *module.Turn, account, match jid.JID) error
	Vanish(ctx context.Context, t *module.Turn, account, match jid.JID) error
}

// Options of New. Zero fields take the defaults named.
type Options struct {
	Items int // addresses that one account may block: 1000
	Cache int // lists and addresses kept in memory for accounts without sessions: 200000
}

// list is the set of addresses an account has blocked, nil for most. It is never
// changed.
type list map[jid.JID]struct{}

// covers tells whether the list has an address that matches j: XEP-0191 §6.
func (l list) covers(j jid.JID) bool {
	if len(l) == 0 {
		return false
	}
	for _, match := range [...]jid.JID{j, j.Bare(), j.Host()} {
		if _, ok := l[match]; ok {
			return true
		}
	}
	return false
}

// sorted returns the addresses in a stable order.
func (l list) sorted() []jid.JID {
	return slices.SortedFunc(maps.Keys(l), func(a, b jid.JID) int { return strings.Compare(a.String(), b.String()) })
}

// Module is the blocking feature.
type Module struct {
	opt      Options
	presence Presence
	host     *module.Host
	lists    *module.Snapshots[list]
	asked    module.Flag // the session has asked for the list and gets pushes, §3.3
}

// New returns the feature. p may be nil where there is no presence.
func New(p Presence, o Options) *Module {
	if o.Items <= 0 {
		o.Items = 1000
	}
	if o.Cache <= 0 {
		o.Cache = 200_000
	}
	return &Module{opt: o, presence: p}
}

//go:embed migrations/*.sql
var migrations embed.FS

// Register implements module.Module. Guards run in the order of registration:
// this module comes before those whose guards answer strangers.
func (m *Module) Register(h *module.Host) error {
	if err := h.Migrate("blocking", migrations); err != nil {
		return err
	}
	m.host = h
	m.asked = h.Router.NewFlag()
	m.lists = module.NewSnapshots(h, m.opt.Cache, func(l list) uint32 { return 1 + uint32(len(l)) }, m.load)

	h.Feature(module.Server, NS) // §3.1
	h.IQ(module.Own, stanza.Get, NS, "blocklist", m.get)
	h.IQ(module.Own, stanza.Set, NS, "block", m.block)
	h.IQ(module.Own, stanza.Set, NS, "unblock", m.unblock)
	h.Outbound(module.Guard, stanza.Any, m.outbound)
	h.Inbound(module.Guard, stanza.Any, m.inbound)
	h.Barrier(m.barred)
	h.Removed(func(tx *store.Tx, account jid.JID) error {
		m.lists.Forget(account)
		_, err := tx.Exec(`DELETE FROM blocking WHERE account = ?`, account.String())
		return err
	})
	return nil
}

func (m *Module) load(ctx context.Context, account jid.JID) (list, error) {
	rows, err := m.host.Store.Query(ctx, `SELECT blocked FROM blocking WHERE account = ?`, account.String())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var l list
	for rows.Next() {
		var j jid.JID
		if err := rows.Scan(&j); err != nil {
			return nil, err
		}
		if l == nil {
			l = list{}
		}
		l[j] = struct{}{}
	}
	return l, rows.Err()
}

// Blocked tells whether an account has blocked an address. Resources of one
// account never block each other (§5).
func (m *Module) Blocked(ctx context.Context, account, other jid.JID) (bool, error) {
	l, err := m.lists.Get(ctx, account)
	return err == nil && l.blocks(account, other), err
}

// blocks tells whether the account whose list it is has blocked other.
func (l list) blocks(account, other jid.JID) bool {
	return l != nil && other.Bare() != account && l.covers(other)
}

// barred implements module.Host.Barrier. Where the list cannot be read nothing
// passes.
func (m *Module) barred(ctx context.Context, account, other jid.JID) bool {
	blocked, err := m.Blocked(ctx, account, other)
	if err != nil {
		m.host.Log.Error("blocking list cannot be read", "account", account.String(), "err", err)
	}
	return blocked || err != nil
}

// outbound refuses what an account sends to an address that it has blocked, §3.3.
func (m *Module) outbound(ctx context.Context, p *module.Packet) error {
	account := p.Session.Account
	l, err := m.lists.Of(ctx, account, account.Bare)
	if err != nil || !l.blocks(account.Bare, p.Stanza.To) {
		return err
	}
	return &stanza.Error{Type: stanza.Cancel, Condition: stanza.NotAcceptable, App: stanza.El(NSErrors, "blocked")}
}

// inbound keeps what blocked addresses send from an account. To them the account
// looks as if it were offline, §3.3.
func (m *Module) inbound(ctx context.Context, p *module.Packet) error {
	st := p.Stanza
	account := st.To.Bare()
	l, err := m.lists.Of(ctx, p.Account, account)
	if err != nil || !l.blocks(account, st.From) {
		return err
	}
	switch st.Kind {
	case stanza.Message:
		if st.Type != stanza.TypeError && st.Type != stanza.Headline { // as RFC 6121 §8.5.2.2.1
			return &stanza.Error{Condition: stanza.ServiceUnavailable}
		}
	case stanza.IQ:
		if st.Type == stanza.Get || st.Type == stanza.Set {
			return &stanza.Error{Condition: stanza.ServiceUnavailable}
		}
	}
	return module.ErrHandled
}
