package offline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// box is what is known of one account's messages while something happens to
// them, and for some time after that their number.
type box struct {
	account jid.JID
	recount atomic.Bool // count and bytes are not known: read them before use

	mu       sync.Mutex
	dead     bool // out of the map: find or make another box
	count    int  // messages stored or on their way to the store
	bytes    int
	pending  int     // messages on their way to the store
	pendingB int     // their octets
	deleting int     // deletions on their way to the store
	news     bool    // something was put in since the drain last looked
	draining bool    // a goroutine is bringing the messages to a session
	flight   *flight // what it waits for
}

// flight is one batch on its way to a session.
type flight struct {
	receipt *module.Receipt
	stanzas []*stanza.Stanza
	since   time.Time
	back    []bool // which ones have not left; guarded by box.mu
}

// open returns an account's box, locked.
func (m *Module) open(account jid.JID) *box {
	for {
		b, ok := m.boxes.Load(account)
		if !ok {
			b, ok = m.boxes.LoadOrCompute(account.Clone(), func() (*box, bool) {
				n := &box{account: account.Clone()}
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
	if !b.dead && b.pending == 0 && b.deleting == 0 && !b.draining && (b.recount.Load() || m.known.Load() > int64(m.opt.Cache)) {
		b.dead = true
		m.boxes.Delete(b.account)
		m.known.Add(-1)
	}
	b.mu.Unlock()
}

// measure makes the box's count and bytes known. It is called with the box
// locked.
func (m *Module) measure(ctx context.Context, b *box) error {
	if !b.recount.Swap(false) {
		return nil
	}
	err := m.host.Store.QueryRow(ctx, `SELECT count(*), coalesce(sum(length(stanza)), 0) FROM offline WHERE account = ?`,
		b.account.String()).Scan(&b.count, &b.bytes)
	if err != nil {
		b.recount.Store(true)
		return err
	}
	b.count += b.pending
	b.bytes += b.pendingB
	return nil
}

// keep takes a message that no session may get: XEP-0160 §2.
func (m *Module) keep(ctx context.Context, p *module.Packet) error {
	account := p.Stanza.To.Bare()
	if p.Receipt != nil && m.returned(account, p) {
		return module.ErrHandled
	}
	if err := eligible(p.Stanza); err != nil {
		return err
	}
	b := m.open(account)
	defer m.close(b)
	return m.put(ctx, b, p)
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

// queue takes a message for a session that is still getting older ones.
func (m *Module) queue(ctx context.Context, p *module.Packet) error {
	behind := false
	for _, s := range p.Account.Sessions() {
		if s.Has(m.draining) && wants(s) && (p.Stanza.To.IsBare() || p.Stanza.To == s.JID) {
			behind = true
		}
	}
	if !behind || eligible(p.Stanza) != nil {
		return nil
	}
	b := m.open(p.Stanza.To.Bare())
	defer m.close(b)
	if !b.draining || b.flight != nil && m.host.Now().Sub(b.flight.since) > patience {
		return nil
	}
	if err := m.put(ctx, b, p); err == module.ErrHandled {
		return err
	}
	return nil // no room: out of order is better than not at all
}

// put stores a message; the box is locked. It returns ErrHandled when the
// message has been taken over.
func (m *Module) put(ctx context.Context, b *box, p *module.Packet) error {
	if err := m.measure(ctx, b); err != nil {
		return err
	}
	e := &entry{m: m, box: b, original: p.Stanza, receipt: p.Receipt}
	e.raw = m.stamped(p.Stanza)
	if b.count >= m.opt.Messages || b.bytes+len(e.raw) > m.opt.Bytes {
		m.Stats.Refused.Add(1)
		return &stanza.Error{Condition: stanza.ServiceUnavailable} // XEP-0160 §2, step 3
	}
	e.id = m.last.Add(1)
	e.receipt.Hold()
	if err := m.host.Store.Submit(e.insert, e.done); err != nil {
		e.receipt.Release(nil) // the error tells the sender
		m.Stats.Failed.Add(1)
		return &stanza.Error{Condition: stanza.ResourceConstraint, Cause: err}
	}
	b.count++
	b.bytes += len(e.raw)
	b.pending++
	b.pendingB += len(e.raw)
	b.news = true
	return module.ErrHandled
}

// stamped returns the octets to keep of a message: with the time at which it was
// kept (XEP-0160 §2, XEP-0203 §3).
func (m *Module) stamped(st *stanza.Stanza) []byte {
	b := make([]byte, 0, 160)
	b = append(b, "<delay xmlns='"+NSDelay+"' from='"...)
	b = append(b, st.To.Domain()...) // never needs escaping: RFC 7622 §3.2
	b = append(b, "' stamp='"...)
	b = m.host.Now().UTC().AppendFormat(b, time.RFC3339)
	b = append(b, "'>Offline Storage</delay>"...)
	st = st.Append(stanza.Raw(b))
	return st.AppendDocument(make([]byte, 0, st.Size()+32))
}

// entry is one message on its way to the store.
type entry struct {
	m        *Module
	box      *box
	id       int64
	raw      []byte
	original *stanza.Stanza
	receipt  *module.Receipt
}

func (e *entry) insert(tx *store.Tx) error {
	_, err := tx.Exec(`INSERT INTO offline (account, id, stanza) VALUES (?, ?, ?)`, e.box.account.String(), e.id, e.raw)
	return err
}

// done is called by the store when the message is safe, or cannot be kept.
func (e *entry) done(err error) {
	b := e.box
	b.mu.Lock()
	b.pending--
	b.pendingB -= len(e.raw)
	if err != nil {
		b.count--
		b.bytes -= len(e.raw)
	}
	e.m.close(b)
	e.receipt.Release(err)
	if err == nil {
		e.m.Stats.Stored.Add(1)
		return
	}
	e.m.Stats.Failed.Add(1)
	e.m.host.Log.Error("offline message was not stored", "account", b.account.String(), "err", err)
	go func() { // the store's own goroutine must not wait for what a bounce may read
		var t module.Turn
		e.m.host.Router.Bounce(context.Background(), &t, e.original, &stanza.Error{Condition: stanza.ResourceConstraint, Cause: err})
		t.Flush()
	}()
}
