package offline

import (
	"context"
	"database/sql"
	"slices"
	"sync"

	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// flushBytes is how much of a batch is sent at a time: what outboxes have buffers
// for.
const flushBytes = 32 << 10

// announced makes messages wait for the answer to whether there are older ones.
func (m *Module) announced(_ context.Context, p *module.Packet) error {
	if p.Stanza.Type == "" && !p.Session.Has(m.checked) {
		p.Session.Set(m.draining, true)
	}
	return nil
}

// arrived brings an account's messages to a session that has become available
// for them, XEP-0160 §2 step 5.
func (m *Module) arrived(ctx context.Context, p *module.Packet) error {
	s := p.Session
	if !wants(s) {
		s.Set(m.checked|m.draining, false)
		return nil
	}
	if s.Has(m.checked) {
		return nil
	}
	s.Set(m.checked|m.draining, true)
	b := m.open(s.Account.Bare)
	if b.draining {
		m.close(b) // another resource has them
		return nil
	}
	if b.empty() {
		s.Set(m.draining, false)
		m.close(b)
		return nil
	}
	b.draining = true
	b.news = b.mail > 0 // what is committed is in the first read
	b.rewind = 0
	d := &drain{m: m, box: b, session: s, stale: b.deleting > 0}
	m.close(b)
	if !d.stale {
		if err := d.read(ctx); err != nil {
			d.fail(err)
			return nil
		}
		if len(d.rows) == 0 {
			b.mu.Lock()
			b.found()
			b.mu.Unlock()
			if d.finish() {
				return nil // nearly always
			}
		}
	}
	m.drains.run(func() { d.run(context.WithoutCancel(ctx)) })
	return nil
}

// wake starts a drain when a session is there that has looked for messages before
// there were these; the box is locked.
func (m *Module) wake(b *box) {
	if b.draining {
		return
	}
	for _, s := range m.host.Router.Account(b.account).Sessions() {
		if s.Has(m.checked) && wants(s) {
			s.Set(m.draining, true)
			b.draining, b.news, b.rewind = true, false, 0
			d := &drain{m: m, box: b, session: s, stale: true}
			m.drains.run(func() { d.run(context.Background()) })
			return
		}
	}
}

// Wait returns when no messages are on their way to sessions: to be called when
// all sessions have been dropped, before the store closes.
func (m *Module) Wait() { m.drains.wait() }

// drains counts goroutines. Unlike a sync.WaitGroup, it lets them start while
// somebody waits.
type drains struct {
	mu    sync.Mutex
	n     int
	ended chan struct{} // closed when n is 0 again; nil when nobody waits
}

func (w *drains) run(f func()) {
	w.mu.Lock()
	w.n++
	w.mu.Unlock()
	go func() {
		f()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.n--; w.n == 0 && w.ended != nil {
			close(w.ended)
			w.ended = nil
		}
	}()
}

func (w *drains) wait() {
	w.mu.Lock()
	if w.n > 0 && w.ended == nil {
		w.ended = make(chan struct{})
	}
	ended := w.ended
	w.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// drain brings one account's messages to a session. It belongs to one goroutine.
type drain struct {
	m       *Module
	box     *box
	session *module.Session
	stale   bool  // what is being written has to be waited for before the next read
	cursor  int64 // messages up to this id have left
	rows    []row
	skip    []int64 // ids that are not the drain's
	more    bool    // the last read was cut off
	turn    module.Turn
}

type row struct {
	id   int64
	st   *stanza.Stanza // nil: not to be delivered
	size int            // in octets
	skip bool           // not the drain's: it stays
}

func (d *drain) run(ctx context.Context) {
	for {
		switch {
		case d.stale:
			if err := d.m.host.Store.Sync(ctx); err != nil {
				d.fail(err)
				return
			}
			d.stale, d.more = false, true
		case len(d.rows) == 0:
			if d.finish() {
				return
			}
			continue
		case d.deliver():
		case d.handOver():
			continue // stale
		default:
			return
		}
		if !d.more {
			d.rows = d.rows[:0]
		} else if err := d.read(ctx); err != nil {
			d.fail(err)
			return
		}
	}
}

// fail ends the drain. The sessions' next presence tries again.
func (d *drain) fail(err error) {
	d.m.host.Log.Error("offline messages cannot be read", "account", d.box.account.String(), "err", err)
	d.box.mu.Lock()
	d.end(d.m.checked | d.m.draining)
}

// read fetches the next batch. A message that cannot be understood, or that
// comes from somebody who has been blocked since (XEP-0191 §3.3), is left out,
// and so is what the session gets from the archive.
func (d *drain) read(ctx context.Context) error {
	m := d.m
	d.rows, d.skip = d.rows[:0], d.skip[:0]
	// Of messages that sessions are about to have, those are known that have an id
	// by now. Later ones are not read.
	d.box.mu.Lock()
	for e := d.box.first; e != nil; e = e.next {
		d.skip = append(d.skip, e.id)
	}
	last := m.last.Load()
	d.box.mu.Unlock()
	covered := m.opt.Covered != nil && m.opt.Covered(d.session)

	// SQLite plans by the value of a bare parameter in LIMIT, each time anew.
	rows, err := m.host.Store.Query(ctx, `SELECT id, stanza, archived FROM offline WHERE account = ? AND id > ? AND id <= ? ORDER BY id LIMIT 0+?`,
		d.box.name, d.cursor, last, m.opt.Batch)
	if err != nil {
		return err
	}
	defer rows.Close()
	var id int64
	var raw sql.RawBytes
	var archived bool
	columns := []any{&id, &raw, &archived}
	size, skip := 0, d.skip
	for size < d.m.opt.BatchBytes && rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return err
		}
		r := row{id: id, size: len(raw)}
		for len(skip) > 0 && skip[0] < r.id {
			skip = skip[1:]
		}
		switch {
		case len(skip) > 0 && skip[0] == r.id:
			r.skip = true
		case covered && archived:
			m.Stats.Covered.Add(1)
		default:
			size += len(raw)
			r.st = d.parse(ctx, r.id, raw)
		}
		d.rows = append(d.rows, r)
	}
	d.more = len(d.rows) == m.opt.Batch || size >= d.m.opt.BatchBytes
	return rows.Err()
}

// parse returns a stored message, nil when it is not to be delivered.
func (d *drain) parse(ctx context.Context, id int64, raw []byte) *stanza.Stanza {
	st, err := stanza.ParseDocument(raw)
	if err != nil {
		d.m.host.Log.Error("stored message is damaged", "account", d.box.account.String(), "id", id, "err", err)
		return nil
	}
	if d.m.host.Barred(ctx, d.box.account, st.From) {
		return nil
	}
	return st
}

// deliver sends the batch, waits until it has left and has it deleted. It
// returns false when the session was lost or became unavailable on the way; then
// what has not left is read again.
func (d *drain) deliver() bool {
	left := make(chan struct{})
	f := &flight{since: d.m.host.Now(), stanzas: make([]*stanza.Stanza, len(d.rows)), back: make([]bool, len(d.rows))}
	f.receipt = module.NewReceipt(func(error) { close(left) })
	f.receipt.Stored = true
	for i, r := range d.rows {
		f.stanzas[i] = r.st
	}
	d.box.mu.Lock()
	d.box.flight = f
	d.box.mu.Unlock()

	size := 0
	for i, r := range d.rows {
		if size += r.size; size > flushBytes {
			d.turn.Flush()
			size = 0
		}
		if r.st != nil && (!wants(d.session) || !d.session.Deliver(&d.turn, r.st, f.receipt)) {
			d.box.mu.Lock()
			for k := i; k < len(f.back); k++ {
				f.back[k] = true
			}
			d.box.mu.Unlock()
			break
		}
	}
	d.turn.Flush()
	f.receipt.Release(nil)
	<-left

	d.box.mu.Lock()
	d.box.flight = nil
	d.box.mu.Unlock()
	// What is back goes again; of the rest the router has found another session for
	// it, or it left in time.
	for i := 0; i < len(d.rows); {
		k, octets := i, 0
		for k < len(d.rows) && !f.back[k] && !d.rows[k].skip {
			octets += d.rows[k].size
			if d.rows[k].st != nil {
				d.m.Stats.Delivered.Add(1)
			}
			k++
		}
		if k > i {
			d.remove(d.rows[i].id, d.rows[k-1].id, k-i, octets)
		}
		i = max(k, i+1)
	}
	if slices.Contains(f.back, true) {
		d.stale = true
		return false
	}
	d.cursor = d.rows[len(d.rows)-1].id
	return true
}

// remove deletes what has left: so many messages, from one id to another. Nobody
// waits for it: if it does not happen the messages come again, with the same
// stamps.
func (d *drain) remove(first, last int64, n, octets int) {
	b, m := d.box, d.m // the box stays as long as the drain, and as the deletion
	note := func(err error) {
		b.mu.Lock()
		b.deleting--
		if err == nil {
			b.count -= n
			b.bytes -= octets
		} else {
			b.recount.Store(true)
		}
		m.close(b)
		if err != nil {
			m.host.Log.Error("delivered messages were not deleted", "account", b.account.String(), "err", err)
		}
	}
	b.mu.Lock()
	b.deleting++
	m.close(b)
	m.insist(func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM offline WHERE account = ? AND id >= ? AND id <= ?`, b.name, first, last)
		return err
	}, note)
}

// handOver takes another session that may get the rest; without one the drain
// ends, and handOver returns false. A session that becomes available meanwhile is
// found here, or finds in arrived that nobody drains any more.
func (d *drain) handOver() bool {
	d.box.mu.Lock()
	for _, s := range d.m.host.Router.Account(d.box.account).Sessions() {
		if s != d.session && s.Has(d.m.checked) && wants(s) {
			s.Set(d.m.draining, true)
			d.session = s
			d.box.mu.Unlock()
			return true
		}
	}
	d.end(d.m.draining)
	return false
}

// wants tells whether a session may get messages for the account, RFC 6121
// §8.5.2.1.1.
func wants(s *module.Session) bool {
	pr := s.Presence()
	return pr != nil && pr.Priority >= 0
}

// finish ends the drain, unless something was put in since the last read: then
// there is more to do, and finish returns false.
func (d *drain) finish() bool {
	b := d.box
	b.mu.Lock()
	if b.mail > 0 || b.news {
		b.news, d.stale = false, true
		if b.rewind > 0 && b.rewind <= d.cursor {
			d.cursor = b.rewind - 1 // what has left since is deleted before the next read
		}
		b.rewind = 0
		b.mu.Unlock()
		return false
	}
	d.end(d.m.draining)
	return true
}

// end ends the drain and unlocks the box. The account's sessions lose the given
// flags.
func (d *drain) end(flags module.Flag) {
	d.box.draining = false
	for _, s := range d.m.host.Router.Account(d.box.account).Sessions() {
		s.Set(flags, false)
	}
	d.m.close(d.box)
}
