// Package roster owns rosters and presence subscriptions: RFC 6121 §2, §3 and
// Appendix A.
//
// What the states of a subscription are and how stanzas change them is in
// state.go, which follows the tables of Appendix A. A change is committed to the
// store before anybody is told of it. In memory there is one immutable snapshot
// per account, of contacts and their states only, so that presence finds its
// subscribers without asking the store.
//
//spec:rfc-6121 complete | XMPP: Instant Messaging and Presence | §2, §3, Appendix A: rosters, versioning, subscriptions, pre-approval
package roster

import (
	"context"
	"embed"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Namespaces.
const (
	NS            = "jabber:iq:roster"               // RFC 6121 §2.1
	NSVersioning  = "urn:xmpp:features:rosterver"    // §2.6.1
	NSPreApproval = "urn:xmpp:features:pre-approval" // §3.4
)

// Options of New. Zero fields take the defaults named.
type Options struct {
	Items        int // contacts in one roster: 1000
	Name         int // octets of an item's name: 1024
	Group        int // octets of a group's name: 1024
	Groups       int // groups of one item: 64
	Bytes        int // names and groups of one roster, in octets: 512 times Items, at least 1 MiB
	Requests     int // subscription requests that wait for an account: 200
	RequestBytes int // octets of a request that are kept; a larger one loses its payload: 4096
	Removals     int // removed items that roster versioning remembers: 100
	Cache        int // contacts and rosters kept in memory for accounts without sessions: 500000
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		v   *int
		def int
	}{
		{&o.Items, 1000},
		{&o.Name, 1024},
		{&o.Group, 1024},
		{&o.Groups, 64},
		{&o.Requests, 200},
		{&o.RequestBytes, 4096},
		{&o.Removals, 100},
		{&o.Cache, 500_000},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if o.Bytes <= 0 {
		o.Bytes = max(512*o.Items, 1<<20)
	}
}

// Presence shows what the roster needs of the presence feature.
type Presence interface {
	// Show sends the presence of each available resource of account to a contact,
	// and Hide tells it that they are unavailable.
	Show(ctx context.Context, t *module.Turn, account, contact jid.JID)
	Hide(ctx context.Context, t *module.Turn, account, contact jid.JID)
	// Withdraw makes all of account's resources unavailable.
	Withdraw(ctx context.Context, t *module.Turn, account jid.JID) error
}

// Module is the roster feature. Its methods may be called from any goroutine once
// it is registered.
type Module struct {
	opt      Options
	host     *module.Host
	presence Presence
	books    *module.Snapshots[*book]

	interested module.Flag // the session has asked for the roster: RFC 6121 §2.2
	notified   module.Flag // the session gets subscription requests
}

// New returns the feature.
func New(o Options) *Module {
	o.setDefaults()
	return &Module{opt: o}
}

// ShowWith names who shows presence when a subscription begins and hides it when
// one ends. It is called once, before Register.
func (m *Module) ShowWith(p Presence) { m.presence = p }

//go:embed migrations/*.sql
var migrations embed.FS

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	if err := h.Migrate("roster", migrations); err != nil {
		return err
	}
	m.host = h
	m.interested, m.notified = h.Router.NewFlag(), h.Router.NewFlag()
	m.books = module.NewSnapshots(h, m.opt.Cache, weigh, m.load)

	h.IQ(module.Own, stanza.Get, NS, "query", m.get)
	h.IQ(module.Own, stanza.Set, NS, "query", m.set)
	h.Outbound(module.Rewrite, stanza.Presence, m.send)
	h.Inbound(module.Rewrite, stanza.Presence, m.receive)
	h.Broadcast(module.Observe, m.remind)
	features := stanza.Raw(stanza.El(NSVersioning, "ver").String() + stanza.El(NSPreApproval, "sub").String())
	h.StreamFeature(func(st module.Stage, _ string) stanza.Payload {
		if st != module.AfterLogin {
			return nil
		}
		return features
	})
	h.Leaving(m.farewell)
	h.Removed(func(tx *store.Tx, account jid.JID) error {
		m.books.Forget(account)
		return purge(tx, account)
	})
	return nil
}

// Subscribers returns the contacts that see an account's presence: subscription
// from or both. The slice must not be changed.
func (m *Module) Subscribers(ctx context.Context, account jid.JID) ([]jid.JID, error) {
	b, err := m.books.Get(ctx, account)
	if err != nil {
		return nil, err
	}
	return b.subscribers, nil
}

// Subscriptions returns the contacts whose presence an account sees: subscription
// to or both. The slice must not be changed.
func (m *Module) Subscriptions(ctx context.Context, account jid.JID) ([]jid.JID, error) {
	b, err := m.books.Get(ctx, account)
	if err != nil {
		return nil, err
	}
	return b.subscriptions, nil
}

// Contact is what there is between an account and one address.
type Contact struct {
	JID          jid.JID
	Subscription string // "none", "to", "from" or "both", RFC 6121 §2.1.2.5
	Asked        bool   // the account waits for leave to see the contact's presence
	Pending      bool   // the contact waits for leave to see the account's
}

// Contacts returns everybody on account's roster, and those who wait for its answer,
// by address.
func (m *Module) Contacts(ctx context.Context, account jid.JID) ([]Contact, error) {
	b, err := m.books.Get(ctx, account)
	if err != nil {
		return nil, err
	}
	list := make([]Contact, 0, len(b.contacts))
	for _, c := range b.contacts {
		list = append(list, Contact{c.jid, c.state.subscription(), c.state.has(pendingOut), c.state.has(pendingIn)})
	}
	return list, nil
}

// Listed tells whether contact, a bare address, is on account's roster.
func (m *Module) Listed(ctx context.Context, account, contact jid.JID) (bool, error) {
	b, err := m.books.Get(ctx, account)
	if err != nil {
		return false, err
	}
	return b.state(contact).has(listed), nil
}

// Subscribed tells whether contact, a bare address, sees account's presence.
func (m *Module) Subscribed(ctx context.Context, account, contact jid.JID) (bool, error) {
	b, err := m.books.Get(ctx, account)
	if err != nil {
		return false, err
	}
	return b.state(contact).has(from), nil
}
