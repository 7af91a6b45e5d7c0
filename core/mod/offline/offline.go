// Package offline keeps messages for accounts that cannot get them now:
// XEP-0160 1.0.1, with the stamps of XEP-0203 and the hints of XEP-0334.
//
// A message is written to the store, stamp and all, in a group commit that its
// Receipt waits for. When a resource of the account becomes available with a
// priority that is not negative, one goroutine brings it the messages in batches
// and deletes each batch once its octets have left: a crash in between repeats
// messages with the stamps they had, and loses none. What arrives meanwhile takes
// its place behind.
//
// A message that a session is about to have can be parked here meanwhile: its row
// is written like any other, no drain looks for it, and it is deleted when the
// session has it (Drop) or waits like any other when the session is lost (Return).
// A new process knows of no sessions, so that every row it finds is mail.
//
//spec:xep-0160 1.0.1 complete | Best Practices for Handling Offline Messages | offline messages
//spec:xep-0203 2.0 partial | Delayed Delivery | stamps of offline messages
//spec:xep-0334 1.0.0 partial | Message Processing Hints | no-store and store
package offline

import (
	"context"
	"embed"
	"sync"
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v4"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Namespaces.
const (
	Feature      = "msgoffline"                            // XEP-0160 §4
	NSDelay      = "urn:xmpp:delay"                        // XEP-0203
	NSHints      = "urn:xmpp:hints"                        // XEP-0334
	NSChatStates = "http://jabber.org/protocol/chatstates" // XEP-0085
	NSStanzaID   = "urn:xmpp:sid:0"                        // XEP-0359
)

// Options of New. Zero fields take the defaults named.
type Options struct {
	Messages int // that wait for one account: 1000
	Bytes    int // they may have together, in octets: 16 MiB
	Cache    int // accounts whose number of messages is remembered: 65536
	Batch    int // messages read and deleted at a time: 256
	// BatchBytes bounds them in octets: the session's outbox has to hold it, and what
	// else is sent meanwhile. 128 KiB.
	BatchBytes int
	// Covered tells whether a session gets from the account's archive what it has
	// missed: messages that are there, too, are not brought to it once more but
	// forgotten (XEP-0386 §3.2, XEP-0313 §6.1.1). Nil: none does.
	Covered func(*module.Session) bool
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.Messages, 1000}, {&o.Bytes, 16 << 20}, {&o.Cache, 1 << 16}, {&o.Batch, 256}, {&o.BatchBytes, 128 << 10}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
}

// Stats counts what happened since the start.
type Stats struct {
	Stored, Refused, Failed, Delivered atomic.Int64
	Parked, Returned                   atomic.Int64 // rows written for messages on their way; of lost sessions
	Covered                            atomic.Int64 // left to the archive
}

// Module is the offline feature.
type Module struct {
	Stats Stats

	opt   Options
	host  *module.Host
	last  atomic.Int64 // the id last given
	boxes *xsync.Map[jid.JID, *box]
	known atomic.Int64 // boxes in the map
	row   []byte       // belongs to the store's goroutine

	writings sync.Pool // of *writing

	drains drains

	checked  module.Flag // the session has been given what there was
	draining module.Flag // messages for the session wait behind older ones
}

// New returns the feature.
func New(o Options) *Module {
	o.setDefaults()
	return &Module{opt: o, boxes: xsync.NewMap[jid.JID, *box](), writings: sync.Pool{New: newWriting}}
}

//go:embed migrations/*.sql
var migrations embed.FS

// Register implements module.Module. This module comes before presence, so that
// nothing overtakes older messages in the moment a session becomes available.
func (m *Module) Register(h *module.Host) error {
	if err := h.Migrate("offline", migrations); err != nil {
		return err
	}
	var last int64
	if err := h.Store.QueryRow(context.Background(), `SELECT coalesce(max(id), 0) FROM offline`).Scan(&last); err != nil {
		return err
	}
	m.host = h
	m.last.Store(last)
	m.checked, m.draining = h.Router.NewFlag(), h.Router.NewFlag()

	h.Feature(module.Server, Feature)
	h.NoSession(m.keep)
	h.Park(m.Park)
	h.Inbound(module.Rewrite, stanza.Message, m.queue)
	h.Broadcast(module.Rewrite, m.announced)
	h.Broadcast(module.Observe, m.arrived)
	h.Figure(
		module.Figure{Name: "trivium.offline.stored", Unit: "{message}", Text: "Messages kept for accounts that were away.", Read: m.Stats.Stored.Load},
		module.Figure{Name: "trivium.offline.delivered", Unit: "{message}", Text: "Messages brought to sessions that came.", Read: m.Stats.Delivered.Load},
		module.Figure{Name: "trivium.offline.refused", Unit: "{message}", Text: "Messages refused because too many waited.", Read: m.Stats.Refused.Load},
		module.Figure{Name: "trivium.offline.parked", Unit: "{message}", Text: "Messages written while a session was slow to confirm them.", Read: m.Stats.Parked.Load},
	)
	h.OnStop(m.Wait)
	h.Removed(func(tx *store.Tx, account jid.JID) error {
		if b, ok := m.boxes.Load(account); ok {
			b.recount.Store(true)
		}
		_, err := tx.Exec(`DELETE FROM offline WHERE account = ?`, account.String())
		return err
	})
	return nil
}
