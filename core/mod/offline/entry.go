package offline

import (
	"bytes"
	"context"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// state says whose a message in the store is.
type state uint8

const (
	parked  state = iota // a session is about to have it
	mail                 // it waits for any session: an offline message
	dropped              // a session has it; the row is to be deleted, or was never written
	failed               // it could not be written
)

// entry is one message on its way to the store, or parked there. The fields from
// state on are guarded by the box's lock; those above are constant once the entry
// has been submitted.
type entry struct {
	m        *Module
	box      *box
	id       int64
	seq      int64 // of the ids given for the account
	at       int64 // when it was kept, in Unix milliseconds
	safe     func(error)
	archived bool // the account's archive has it, too

	state   state
	receipt *module.Receipt
	st      *stanza.Stanza // the store's goroutine may read it while it writes the row
	size    int            // in octets; an estimate until the row is written
	next    *entry
	prev    *entry
	pending *store.Pending
	writing *writing
}

// writing is an entry's stay in the queue of the store. They are used again, so
// that their method values are made once.
type writing struct {
	entry  *entry
	octets int // of the row; belongs to the store's goroutine
	insert store.Op
	done   func(error)
}

func newWriting() any {
	w := new(writing)
	w.insert = func(tx *store.Tx) error { return w.entry.insert(tx) }
	w.done = func(err error) { w.entry.done(err) }
	return w
}

// submit queues the entry's row; the box is locked.
func (m *Module) submit(e *entry) error {
	w := m.writings.Get().(*writing)
	w.entry = e
	e.writing = w
	var err error
	if e.state == parked {
		e.pending, err = m.host.Store.SubmitCancelable(w.insert, w.done)
	} else {
		err = m.host.Store.Submit(w.insert, w.done)
	}
	if err != nil {
		e.release()
		return err
	}
	b := e.box
	b.count++
	b.bytes += e.size
	b.pending++
	b.pendingB += e.size
	return nil
}

// release gives back what the queue needed.
func (e *entry) release() {
	w := e.writing
	w.entry = nil
	e.m.writings.Put(w)
	e.writing, e.pending = nil, nil
}

// insert is the store's operation. It is called on the store's goroutine only, so
// there is one buffer for all rows.
func (e *entry) insert(tx *store.Tx) error {
	m := e.m
	m.row = e.appendRow(m.row[:0])
	e.writing.octets = len(m.row)
	archived := e.archived || bytes.Contains(m.row, []byte(NSStanzaID)) && hasID(e.st, e.box.account)
	_, err := tx.Exec(`INSERT INTO offline (account, id, stanza, archived) VALUES (?, ?, ?, ?)`, e.box.name, e.id, m.row, archived)
	if cap(m.row) > 64<<10 {
		m.row = nil
	}
	return err
}

// hasID tells whether a message has an id by the account's archive: XEP-0359 §3.
// Ids that others claimed to be the account's have been taken out on the way in.
func hasID(st *stanza.Stanza, account jid.JID) bool {
	found := false
	st.Each(func(c stanza.Child) bool {
		if c.Is(NSStanzaID, "stanza-id") {
			by, err := jid.Parse(c.Element().Attr("by"))
			found = found || err == nil && by == account
		}
		return !found
	})
	return found
}

// stampSize is about what appendRow adds to the Size of a message, which is large.
const stampSize = 80

// appendRow appends the octets to keep of a message: with the time at which it was
// kept (XEP-0160 §2, XEP-0203 §3).
func (e *entry) appendRow(b []byte) []byte {
	const end = "</message>"
	b = e.st.AppendDocument(b)
	if bytes.HasSuffix(b, []byte("/>")) {
		b = append(b[:len(b)-2], '>')
	} else {
		b = b[:len(b)-len(end)]
	}
	b = append(b, "<delay xmlns='"+NSDelay+"' from='"...)
	b = append(b, e.box.account.Domain()...) // never needs escaping: RFC 7622 §3.2
	b = append(b, "' stamp='"...)
	b = time.UnixMilli(e.at).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z") // clients sort by it
	return append(b, "'>Offline Storage</delay>"+end...)
}

// done is called by the store when the message is safe, or cannot be kept.
func (e *entry) done(err error) {
	b, m := e.box, e.m
	b.mu.Lock()
	b.pending--
	b.pendingB -= e.size
	was, st, receipt := e.state, e.st, e.receipt
	switch {
	case was == dropped: // the deletion is behind us in the queue
	case err != nil:
		b.count--
		b.bytes -= e.size
		if was == parked {
			e.state = failed
			b.unlink(e)
		}
	default:
		b.bytes += e.writing.octets - e.size
		e.size = e.writing.octets
	}
	if was == mail {
		b.mail--
	}
	if was != parked || err == nil {
		e.st = nil // the row has it
	}
	e.release()
	m.close(b)

	if was != dropped && e.safe != nil {
		e.safe(err)
	}
	receipt.Release(err)
	switch {
	case err != nil:
		m.Stats.Failed.Add(1)
		m.host.Log.Error("offline message was not stored", "account", b.account.String(), "err", err)
		if was == mail {
			// The store's own goroutine must not wait for what a bounce may read.
			go m.bounce(st, &stanza.Error{Condition: stanza.ResourceConstraint, Cause: err})
		}
	case was == mail:
		m.Stats.Stored.Add(1)
	case was == parked:
		m.Stats.Parked.Add(1)
	}
}

// bounce tells the sender that a message could not be kept.
func (m *Module) bounce(st *stanza.Stanza, err error) {
	var t module.Turn
	m.host.Router.Bounce(context.Background(), &t, st, err)
	t.Flush()
}
