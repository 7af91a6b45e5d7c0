package offline

import (
	"context"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Park keeps a message while a session is about to have it, so that it survives
// this process: see router.Hooks. It is an offline message for which no drain
// looks until Return. Nil means that the message is none to be kept, or that
// there is no room for it. safe is called from the store's goroutine, without
// locks.
func (m *Module) Park(account jid.JID, st *stanza.Stanza, safe func(error)) module.Parked {
	if st.To.Bare() != account || eligible(st) != nil {
		return nil
	}
	b := m.open(account)
	defer m.close(b)
	if b.flight.carries(st) {
		return nil // it came out of the store, and is still there
	}
	e := &entry{m: m, box: b, st: st, safe: safe}
	if ok, err := m.reserve(context.Background(), e); !ok {
		if err != nil {
			m.host.Log.Error("offline messages cannot be counted", "account", account.String(), "err", err)
		}
		return nil
	}
	if m.submit(e) != nil {
		return nil
	}
	b.link(e)
	return e
}

// link puts an entry behind all others, whose ids are lower.
func (b *box) link(e *entry) {
	e.prev = b.last
	if b.last == nil {
		b.first = e
	} else {
		b.last.next = e
	}
	b.last = e
}

func (b *box) unlink(e *entry) {
	if e.prev == nil {
		b.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		b.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.next, e.prev = nil, nil
}

// Drop implements router.Parked: a session has the message.
func (e *entry) Drop() {
	b, m := e.box, e.m
	b.mu.Lock()
	switch e.state {
	case failed:
		e.state, e.st = dropped, nil
	case parked:
		b.count--
		b.bytes -= e.size
		e.state = dropped
		if e.pending != nil && e.pending.Cancel() {
			b.pending--
			b.pendingB -= e.size
			e.st = nil
			b.unlink(e)
			e.release()
		} else {
			m.discard(e)
		}
	}
	m.close(b)
}

// Return implements router.Parked: the session is lost, and the message waits for
// any session of the account.
func (e *entry) Return() {
	b, m := e.box, e.m
	b.mu.Lock()
	switch e.state {
	case parked:
		b.unlink(e)
		e.state = mail
		if e.writing != nil {
			b.mail++
		}
		b.news = true
		if b.rewind == 0 || e.id < b.rewind {
			b.rewind = e.id
		}
		m.Stats.Returned.Add(1)
		m.wake(b)
		m.close(b)
	case failed: // its origin knows, but now this is the only place left
		e.state = dropped
		again := &entry{m: m, st: e.st, state: mail}
		e.st = nil
		m.close(b)
		m.again(again, e.at)
	default:
		m.close(b)
	}
}

// again stores a message that could not be written while it was parked.
func (m *Module) again(e *entry, at int64) {
	b := m.open(e.st.To.Bare())
	defer m.close(b)
	e.box = b
	ok, err := m.reserve(context.Background(), e)
	e.at = at
	if ok {
		err = m.submit(e)
	}
	if !ok || err != nil {
		go m.bounce(e.st, err)
		return
	}
	b.mail++
	b.news = true
	m.wake(b)
}

// deletion takes rows that sessions have got out of the store, as many as there
// are when its turn comes.
type deletion struct {
	m    *Module
	box  *box
	seq  int64    // the last one given when it was queued
	gone []*entry // in the order of their deletion; guarded by box.mu until the deletion begins
}

// discard has the row of an entry deleted, some time; the box is locked.
func (m *Module) discard(e *entry) {
	b := e.box
	// A row that is on its way is deleted behind it in the queue.
	if d := b.deletion; d != nil && (e.writing == nil || e.seq <= d.seq) {
		d.gone = append(d.gone, e)
		return
	}
	d := &deletion{m: m, box: b, seq: b.seq, gone: []*entry{e}}
	b.deletion = d
	b.deleting++
	m.insist(d.run, d.done)
}

// insist submits what must not be refused because much else is waiting.
func (m *Module) insist(op store.Op, done func(error)) {
	if m.host.Store.Submit(op, done) != nil {
		go func() { done(m.host.Store.Write(context.Background(), op)) }()
	}
}

// begin ends the time in which the deletion takes more.
func (d *deletion) begin() {
	d.box.mu.Lock()
	if d.box.deletion == d {
		d.box.deletion = nil
	}
	d.box.mu.Unlock()
}

// run is the store's operation. Entries that came one behind the other are one
// range: no other message of the account lies between their ids.
func (d *deletion) run(tx *store.Tx) error {
	d.begin()
	for i := 0; i < len(d.gone); {
		k := i + 1
		for k < len(d.gone) && d.gone[k].seq == d.gone[k-1].seq+1 {
			k++
		}
		_, err := tx.Exec(`DELETE FROM offline WHERE account = ? AND id >= ? AND id <= ?`, d.box.name, d.gone[i].id, d.gone[k-1].id)
		if err != nil {
			return err
		}
		i = k
	}
	return nil
}

// done is called when the rows are gone. When they could not be deleted they come
// once more, with the same stamps.
func (d *deletion) done(err error) {
	d.begin()
	b, m := d.box, d.m
	b.mu.Lock()
	for _, e := range d.gone {
		b.unlink(e)
	}
	b.deleting--
	if err != nil {
		b.recount.Store(true)
	}
	m.close(b)
	if err != nil {
		m.host.Log.Error("delivered messages were not deleted", "account", b.account.String(), "err", err)
	}
}
