package offline

import (
	"context"
	"slices"

	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// batchBytes bounds one batch in octets: the session's outbox has to hold it.
const batchBytes = 128 << 10

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
	b.draining = true
	b.news = b.pending > 0 // what is committed is in the first read
	d := &drain{m: m, box: b, session: s, stale: b.deleting > 0}
	m.close(b)
	if !d.stale {
		if err := d.read(ctx); err != nil {
			d.fail(err)
			return nil
		}
		if len(d.rows) == 0 && d.finish() {
			return nil // nearly always
		}
	}
	m.drains.Go(func() { d.run(context.WithoutCancel(ctx)) })
	return nil
}

// Wait returns when no messages are on their way to sessions: to be called when
// all sessions have been dropped, before the store closes.
func (m *Module) Wait() { m.drains.Wait() }

// drain brings one account's messages to a session. It belongs to one goroutine.
type drain struct {
	m       *Module
	box     *box
	session *module.Session
	stale   bool  // what is being written has to be waited for before the next read
	cursor  int64 // messages up to this id have left
	rows    []row
	more    bool // the last read was cut off
	turn    module.Turn
}

type row struct {
	id int64
	st *stanza.Stanza // nil: not to be delivered
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
// comes from somebody who has been blocked since (XEP-0191 §3.3), is left out.
func (d *drain) read(ctx context.Context) error {
	d.rows = d.rows[:0]
	rows, err := d.m.host.Store.Query(ctx, `SELECT id, stanza FROM offline WHERE account = ? AND id > ? ORDER BY id LIMIT ?`,
		d.box.account.String(), d.cursor, d.m.opt.Batch)
	if err != nil {
		return err
	}
	defer rows.Close()
	size := 0
	for size < batchBytes && rows.Next() {
		var r row
		var raw []byte
		if err := rows.Scan(&r.id, &raw); err != nil {
			return err
		}
		size += len(raw)
		r.st, err = stanza.ParseDocument(raw)
		if err != nil {
			d.m.host.Log.Error("stored message is damaged", "account", d.box.account.String(), "id", r.id, "err", err)
			r.st = nil
		} else if d.m.host.Barred(ctx, d.box.account, r.st.From) {
			r.st = nil
		}
		d.rows = append(d.rows, r)
	}
	d.more = len(d.rows) == d.m.opt.Batch || size >= batchBytes
	return rows.Err()
}

// deliver sends the batch, waits until it has left and has it deleted. It
// returns false when the session was lost or became unavailable on the way; then
// what has not left is read again.
func (d *drain) deliver() bool {
	left := make(chan struct{})
	f := &flight{since: d.m.host.Now(), stanzas: make([]*stanza.Stanza, len(d.rows)), back: make([]bool, len(d.rows))}
	f.receipt = module.NewReceipt(func(error) { close(left) })
	for i, r := range d.rows {
		f.stanzas[i] = r.st
	}
	d.box.mu.Lock()
	d.box.flight = f
	d.box.mu.Unlock()

	for i, r := range d.rows {
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
	if !slices.Contains(f.back, true) {
		d.m.Stats.Delivered.Add(int64(len(d.rows)))
		after := d.cursor
		d.cursor = d.rows[len(d.rows)-1].id
		d.remove(after, d.cursor)
		return true
	}
	for i, back := range f.back {
		if !back { // the router has found another session for it, or it left in time
			d.m.Stats.Delivered.Add(1)
			d.remove(d.rows[i].id-1, d.rows[i].id)
		}
	}
	d.stale = true
	return false
}

// remove deletes what has left: the messages behind one id, up to another. Nobody
// waits for it: if it does not happen the messages come again, with the same
// stamps.
func (d *drain) remove(after, last int64) {
	account, m := d.box.account, d.m
	note := func(err error) {
		b := m.open(account)
		b.deleting--
		b.recount.Store(true)
		m.close(b)
		if err != nil {
			m.host.Log.Error("delivered messages were not deleted", "account", account.String(), "err", err)
		}
	}
	b := m.open(account)
	b.deleting++
	m.close(b)
	err := m.host.Store.Submit(func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM offline WHERE account = ? AND id > ? AND id <= ?`, account.String(), after, last)
		return err
	}, note)
	if err != nil {
		note(err)
	}
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
	if b.pending > 0 || b.news {
		b.news, d.stale = false, true
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
