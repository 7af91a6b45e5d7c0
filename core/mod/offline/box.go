package offline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
)

// box is what is known of one account's messages while something happens to
// them, and for some time after that their number.
type box struct {
	account jid.JID
	name    any         // account, as the store takes it
	recount atomic.Bool // count and bytes are not known: read them before use

	mu       sync.Mutex
	dead     bool  // out of the map: find or make another box
	count    int   // messages stored or on their way to the store
	bytes    int   // their octets
	pending  int   // messages on their way to the store
	pendingB int   // their octets
	mail     int   // of these, the ones that a drain has to wait for
	deleting int   // deletions on their way to the store
	unsure   bool  // count was read while something was on its way: read it again
	seq      int64 // counts the ids that were given

	// Rows that are there for no drain, by id: messages that a session is about to
	// have, and those that one has got and whose deletion is on its way.
	first, last *entry
	deletion    *deletion // has not begun yet and takes more

	news     bool    // something was put in since the drain last looked
	rewind   int64   // the lowest id that has become mail since then; 0: none
	draining bool    // a goroutine is bringing the messages to a session
	flight   *flight // what it waits for
}

// flight is one batch on its way to a session.
type flight struct {
	receipt *module.Receipt
	stanzas []*stanza.Stanza
	since   time.Time
	back    []bool // which ones have not left; guarded by box.mu
	hint    int    // where carries looks first
}

// carries tells whether a message is one of the flight's. They are asked for in
// their order, mostly.
func (f *flight) carries(st *stanza.Stanza) bool {
	if f == nil {
		return false
	}
	for range f.stanzas {
		if f.hint >= len(f.stanzas) {
			f.hint = 0
		}
		f.hint++
		if f.stanzas[f.hint-1] == st {
			return true
		}
	}
	return false
}

// open returns an account's box, locked.
func (m *Module) open(account jid.JID) *box {
	for {
		b, ok := m.boxes.Load(account)
		if !ok {
			b, ok = m.boxes.LoadOrCompute(account.Clone(), func() (*box, bool) {
				n := &box{account: account.Clone()}
				n.name = n.account.String()
				n.recount.Store(true)
				return n, false
			})
			if !ok {
				m.known.Add(1)
			}
		}
		b.mu.Lock()
		if !b.dead {
			return b
		}
		b.mu.Unlock()
	}
}

// close unlocks a box, and drops it when it holds nothing worth remembering.
func (m *Module) close(b *box) {
	if b.pending == 0 && b.deleting == 0 {
		if b.unsure {
			b.unsure = false
			b.recount.Store(true)
		}
		if !b.dead && !b.draining && b.first == nil && (b.recount.Load() || m.known.Load() > int64(m.opt.Cache)) {
			b.dead = true
			m.boxes.Delete(b.account)
			m.known.Add(-1)
		}
	}
	b.mu.Unlock()
}

// empty tells whether the account is known to have no messages; the box is locked.
func (b *box) empty() bool {
	return !b.recount.Load() && !b.unsure && b.count == 0 && b.pending == 0 && b.deleting == 0 && b.first == nil
}

// found notes that a reader has found nothing; the box is locked. Whoever has put
// something in meanwhile has counted before.
func (b *box) found() {
	if b.pending == 0 && b.deleting == 0 && b.recount.Swap(false) {
		b.count, b.bytes, b.unsure = 0, 0, false
	}
}

// measure makes the box's count and bytes known. It is called with the box
// locked.
func (m *Module) measure(ctx context.Context, b *box) error {
	if !b.recount.Swap(false) {
		return nil
	}
	err := m.host.Store.QueryRow(ctx, `SELECT count(*), coalesce(sum(length(stanza)), 0) FROM offline WHERE account = ?`,
		b.name).Scan(&b.count, &b.bytes)
	if err != nil {
		b.recount.Store(true)
		return err
	}
	b.count += b.pending
	b.bytes += b.pendingB
	b.unsure = b.pending > 0 || b.deleting > 0
	return nil
}

// keep takes a message that no session may get: XEP-0160 §2.
func (m *Module) keep(ctx context.Context, p *module.Packet) error {
	at := int64(0)
	if e, ok := p.Parked.(*entry); ok {
		if e.giveBack(p.Receipt) == nil {
			return module.ErrHandled // it is in the store, or on its way there
		}
		at = e.at
	}
	account := p.Stanza.To.Bare()
	if p.Receipt != nil && m.returned(account, p) {
		return module.ErrHandled
	}
	if err := eligible(p.Stanza); err != nil {
		return err
	}
	b := m.open(account)
	defer m.close(b)
	err := m.put(ctx, b, p, at)
	if err == module.ErrHandled {
		m.wake(b)
	}
	return err
}

// returned tells whether a message came out of the store and was on its way to a
// session that is lost. It is still there, and is not to be deleted.
func (m *Module) returned(account jid.JID, p *module.Packet) bool {
	b, ok := m.boxes.Load(account)
	if !ok {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.flight
	if f == nil || f.receipt != p.Receipt {
		return false
	}
	for i, st := range f.stanzas {
		if st == p.Stanza {
			f.back[i] = true
			return true
		}
	}
	for i := range f.back { // readdressed by the router: repeat all rather than lose one
		f.back[i] = true
	}
	return true
}

// patience is how long newer messages wait for a session that does not read the
// older ones; then order matters less than the account's other resources.
const patience = 5 * time.Second

// behind tells whether a session that a message is for is still getting older ones.
func (m *Module) behind(p *module.Packet) bool {
	for _, s := range p.Account.Sessions() {
		if s.Has(m.draining) && wants(s) && (p.Stanza.To.IsBare() || p.Stanza.To == s.JID) {
			return true
		}
	}
	return false
}

// queue takes a message for a session that is still getting older ones.
func (m *Module) queue(ctx context.Context, p *module.Packet) error {
	if !m.behind(p) || p.Parked == nil && eligible(p.Stanza) != nil {
		return nil
	}
	b := m.open(p.Stanza.To.Bare())
	defer m.close(b)
	// Without a drain the session is about to look whether there is anything for one.
	if !m.behind(p) || b.flight != nil && m.host.Now().Sub(b.flight.since) > patience {
		return nil
	}
	at := int64(0)
	if e, ok := p.Parked.(*entry); ok && e.box == b {
		if e.toMail(p.Receipt) == nil {
			return module.ErrHandled
		}
		at = e.at
	}
	if err := m.put(ctx, b, p, at); err == module.ErrHandled {
		return err
	}
	return nil // no room: out of order is better than not at all
}

// put stores a message that came at a time in Unix milliseconds, 0 for now; the box is
// locked. It returns ErrHandled when the message has been taken over.
func (m *Module) put(ctx context.Context, b *box, p *module.Packet, at int64) error {
	e := &entry{m: m, box: b, st: p.Stanza, state: mail, receipt: p.Receipt, at: at, archived: p.ArchiveID != 0}
	ok, err := m.reserve(ctx, e)
	if err != nil {
		return err
	}
	if !ok {
		m.Stats.Refused.Add(1)
		return &stanza.Error{Condition: stanza.ServiceUnavailable} // XEP-0160 §2, step 3
	}
	e.receipt.Hold()
	if err := m.submit(e); err != nil {
		e.receipt.Release(nil) // the error tells the sender
		m.Stats.Failed.Add(1)
		return &stanza.Error{Condition: stanza.ResourceConstraint, Cause: err}
	}
	b.mail++
	b.news = true
	return module.ErrHandled
}

// reserve gives a message its size and its place among the account's, whose box is
// locked; false means that there is no room for it.
func (m *Module) reserve(ctx context.Context, e *entry) (bool, error) {
	b := e.box
	if err := m.measure(ctx, b); err != nil {
		return false, err
	}
	if e.at == 0 {
		e.at = m.host.Now().UnixMilli()
	}
	e.size = e.st.Size() + stampSize
	if b.count >= m.opt.Messages || b.bytes+e.size > m.opt.Bytes {
		return false, nil
	}
	e.id = m.last.Add(1) // in the order of submission, since the box is locked
	b.seq++
	e.seq = b.seq
	return true, nil
}
