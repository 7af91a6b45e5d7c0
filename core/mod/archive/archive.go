// Package archive keeps the messages of accounts and gives them back: XEP-0313.
//
// A message that is worth keeping gets an id and a row on its way (record.go,
// journal.go); the id goes with it to the recipient's sessions and offline storage,
// into carbons and into the answers to queries, and its Receipt waits for the
// commit. Rows are the octets to be sent: a page of results is read in the order of
// ids and copied, without parsing (query.go, page.go, answer.go).
//
// What an account wants kept it says in its preferences (prefs.go), and senders
// with hints. Retracted messages become tombstones (retract.go), old ones are
// deleted in the background (retention.go), and accounts that search have the words
// of their messages indexed when they do (search.go).
//
//spec:xep-0313 1.1.3 partial | Message Archive Management | archives of accounts with all of #extended; none of rooms or nodes, no groupchat messages
//spec:xep-0441 0.2.0 complete | Message Archive Management Preferences | always, never and roster, with lists
//spec:xep-0359 0.7.0 complete | Unique and Stable Stanza IDs | ids of archived messages; forged ones are removed
//spec:xep-0334 - partial | | no-store, no-permanent-store and store in archives
//spec:xep-0431 0.2.0 complete | Full Text Search in MAM | words, prefixes and phrases, indexed when an account searches
//spec:xep-0424 0.4.2 complete | Message Retraction | retractions are archived and leave tombstones
//spec:xep-0203 - partial | | stamps of archived messages
package archive

import (
	"context"
	"embed"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/rsm"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/xdata"
)

// Namespaces and features.
const (
	NS          = "urn:xmpp:mam:2"
	NSExtended  = "urn:xmpp:mam:2#extended"        // XEP-0313 §7
	NSGroupchat = "urn:xmpp:mam:2#groupchat-field" // XEP-0313 §7
	NSID        = "urn:xmpp:sid:0"                 // XEP-0359
	NSHints     = "urn:xmpp:hints"                 // XEP-0334
	NSForward   = "urn:xmpp:forward:0"             // XEP-0297
	NSDelay     = "urn:xmpp:delay"                 // XEP-0203
	NSFullText  = "urn:xmpp:fulltext:0"            // XEP-0431
	NSRetract   = "urn:xmpp:message-retract:1"     // XEP-0424
	NSTombstone = "urn:xmpp:message-retract:1#tombstone"
)

// Contacts tells who is on a roster.
type Contacts interface {
	// Listed tells whether contact, a bare address, is on the roster of account.
	Listed(ctx context.Context, account, contact jid.JID) (bool, error)
}

// Options of New. Zero fields take the defaults named.
type Options struct {
	// Default is what is kept for accounts that have not said: Always.
	Default Policy
	// Contacts is asked for accounts that keep what they exchange with their roster;
	// nil: rosters are empty.
	Contacts Contacts
	// Exists tells whether an account is there to stay. Sessions may have an address
	// without one (SASL ANONYMOUS); nothing is kept for them. Nil: all are.
	Exists func(ctx context.Context, account jid.JID) (bool, error)

	Page      int // results in a page when the client does not say: 50
	PageMax   int // results in a page at most: 250
	PageBytes int // octets in a page at most, but for the first message: 256 KiB
	PrefsMax  int // addresses in each list of preferences: 1000

	MaxAge   time.Duration // older messages are deleted; 0: none
	MaxBytes int64         // of one account's messages; the oldest beyond are deleted; 0: no limit
	Sweep    time.Duration // how often that is looked for: 1 hour

	FullText bool // offer full-text search

	// Waiting bounds the rows that are on their way to the store, and WaitingBytes
	// their octets; beyond, messages are refused: 32768, 64 MiB. From a quarter of it
	// on sessions that send are held up, for Pause at most: 2 seconds.
	Waiting      int
	WaitingBytes int
	Pause        time.Duration

	Cache int // accounts without sessions whose preferences are remembered: 65536
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		v   *int
		def int
	}{
		{&o.Page, 50},
		{&o.PageMax, 250},
		{&o.PageBytes, 256 << 10},
		{&o.PrefsMax, 1000},
		{&o.Waiting, 32768},
		{&o.WaitingBytes, 64 << 20},
		{&o.Cache, 1 << 16},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	o.Page = min(o.Page, o.PageMax)
	if o.Default == "" {
		o.Default = Always
	}
	if o.Pause <= 0 {
		o.Pause = 2 * time.Second
	}
	if o.Sweep <= 0 {
		o.Sweep = time.Hour
	}
}

// Stats counts what happened since the start.
type Stats struct {
	Stored, Refused, Failed, Undone atomic.Int64 // rows: committed; the queue was full; the disk refused; taken back
	Queries, Results                atomic.Int64
	Tombstones, Expired             atomic.Int64
}

// Module is the archive feature.
type Module struct {
	Stats Stats

	opt     Options
	fields  *xdata.Form // of queries
	host    *module.Host
	books   *module.Snapshots[*book]
	journal journal
	covered module.Flag // the session gets its messages from the archive

	unsettled atomic.Int64 // changes of stored rows that are on their way
	retracted chan retraction
	removed   chan struct{} // capacity 1: an account's messages are to be deleted
	indexing  chan struct{} // capacity 1: held while words are indexed
	work      sync.WaitGroup
}

// New returns the feature.
func New(o Options) *Module {
	o.setDefaults()
	return &Module{
		opt: o, fields: fields(o.FullText),
		retracted: make(chan retraction, 256), removed: make(chan struct{}, 1), indexing: make(chan struct{}, 1),
	}
}

//go:embed migrations/*.sql
var migrations embed.FS

// Register implements module.Module. This module comes before offline storage,
// which keeps messages with the id they have here, and before carbons.
func (m *Module) Register(h *module.Host) error {
	if err := h.Migrate("archive", migrations); err != nil {
		return err
	}
	m.host = h
	if err := m.journal.open(context.Background(), m); err != nil {
		return err
	}
	m.covered = h.Router.NewFlag()
	m.books = module.NewSnapshots(h, m.opt.Cache, (*book).weight, m.load)

	h.Inbound(module.Rewrite, stanza.Message, m.receive)
	h.Outbound(module.Rewrite, stanza.Message, m.send)
	h.Refused(m.refused)
	h.Welcome(m.welcome)
	h.IQ(module.Own, stanza.Get, NS, "query", m.form)
	h.IQ(module.Own, stanza.Set, NS, "query", m.query)
	h.IQ(module.Own, stanza.Get, NS, "metadata", m.metadata)
	h.IQ(module.Own, stanza.Get, NS, "prefs", m.prefs)
	h.IQ(module.Own, stanza.Set, NS, "prefs", m.setPrefs)

	// XEP-0313 §7: announced by the address that has the archive.
	h.Feature(module.Account, NS, NSExtended, NSGroupchat, NSID, NSTombstone, rsm.NS)
	h.Feature(module.Server|module.Account, NSRetract) // XEP-0424 §2
	if m.opt.FullText {
		h.Feature(module.Account, NSFullText)
	}
	h.Removed(m.remove)
	h.Figure(
		module.Figure{Name: "trivium.archive.messages", Unit: "{message}", Text: "Messages brought into archives.", Read: m.Stats.Stored.Load},
		module.Figure{Name: "trivium.archive.refused", Unit: "{message}", Text: "Messages refused because too many waited for the store.", Read: m.Stats.Refused.Load},
		module.Figure{Name: "trivium.archive.failed", Unit: "{message}", Text: "Messages that the disk refused.", Read: m.Stats.Failed.Load},
		module.Figure{Name: "trivium.archive.expired", Unit: "{message}", Text: "Messages deleted for their age or the size of their archive.", Read: m.Stats.Expired.Load},
		module.Figure{Name: "trivium.archive.queries", Unit: "{query}", Text: "Queries answered.", Read: m.Stats.Queries.Load},
		module.Figure{Name: "trivium.archive.results", Unit: "{message}", Text: "Messages in their answers.", Read: m.Stats.Results.Load},
	)

	ctx, stop := context.WithCancel(context.Background())
	m.work.Go(func() { m.background(ctx) })
	h.OnStop(func() {
		stop()
		m.work.Wait()
	})
	return nil
}

// Covers tells whether a session gets from the archive what waited for it: it has
// asked for what has come before it became available, or knows by Bind 2 where to
// begin. Messages that have an id in the archive need not be delivered to it again
// (XEP-0313 §6.1.1).
func (m *Module) Covers(s *module.Session) bool { return s.Has(m.covered) }

// settle waits until a reader of the store sees every message that an account's
// sessions may have been told of.
func (m *Module) settle(ctx context.Context, b *book) error {
	if b.last.Load() <= m.journal.safe.Load() && m.unsettled.Load() == 0 {
		return nil
	}
	return m.host.Store.Sync(ctx)
}

// change submits a change of rows that are there already. done may be nil.
func (m *Module) change(op store.Op, what string) {
	m.unsettled.Add(1)
	done := func(err error) {
		m.unsettled.Add(-1)
		if err != nil {
			m.host.Log.Error("the archive was not changed", "change", what, "err", err)
		}
	}
	if err := m.host.Store.Submit(op, done); err != nil {
		// A full queue refuses what may be repeated. This may not: wait, elsewhere.
		m.work.Go(func() { done(m.host.Store.Write(context.Background(), op)) })
	}
}
