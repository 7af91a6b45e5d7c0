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
// looks until Return. Nil means that the message is none to be kept. safe is
// called once the row is committed, from the store's goroutine and without locks;
// when there is no room for the message, or the store is busy, never.
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
	ok, err := m.reserve(context.Background(), e)
	if err != nil {
		m.host.Log.Error("offline messages cannot be counted", "account", account.String(), "err", err)
	}
	if !ok || m.submit(e) != nil {
		e.state = failed // nothing is promised
		return e
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
	if st := e.giveBack(nil); st != nil {
		e.m.again(st, e.at)
	}
}

// giveBack is Return. It returns the message if that is not in the store, nor on
// its way there: then it is the caller's to store. rc is held until it is safe.
func (e *entry) giveBack(rc *module.Receipt) *stanza.Stanza {
	b, m := e.box, e.m
	b.mu.Lock()
	st := e.toMail(rc)
	if !b.dead {
		m.wake(b)
	}
	m.close(b)
	return st
}

// toMail is giveBack with the box locked.
func (e *entry) toMail(rc *module.Receipt) *stanza.Stanza {
	b := e.box
	switch e.state {
	case parked:
		b.unlink(e)
		e.state = mail
		if e.writing != nil {
			b.mail++
			rc.Hold()
			e.receipt = rc
		}
		b.news = true
		if b.rewind == 0 || e.id < b.rewind {
			b.rewind = e.id
		}
		e.m.Stats.Returned.Add(1)
	case failed:
		st := e.st
		e.state, e.st = dropped, nil
		return st
	}
	return nil
}

// again stores a message that could not be written while it was parked.
func (m *Module) again(st *stanza.Stanza, at int64) {
	b := m.open(st.To.Bare())
	defer m.close(b)
	err := m.put(context.Background(), b, &module.Packet{Stanza: st}, at)
	if err == module.ErrHandled {
		m.wake(b)
		return
	}
	go m.bounce(st, err) // the caller may hold locks that a bounce asks for
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
