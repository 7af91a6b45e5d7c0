package router

import (
	"sync"
	"sync/atomic"

	"trivium/core/stanza"
)

// transit is a message on its way to one or several sessions of an account, as
// far as anybody has to know: its origin, which waits for it to be safe, or the
// sessions, one of which is to get it.
//
// It is safe when a session has it, or when it is parked in the store.
type transit struct {
	rc   *Receipt     // held once until it is safe; may be nil
	safe atomic.Bool  // rc has been released, or will be by whoever has set this
	left atomic.Int32 // sessions that may still get it

	solo bool // it is in one ledger and nowhere else, unless it was tried

	mu     sync.Mutex
	got    bool // a session has it, or nobody will
	tried  bool // it was parked, or cannot be
	parked Parked
}

// newTransit holds rc and counts one session.
func newTransit(rc *Receipt, parked Parked) *transit {
	rc.Hold()
	t := &transit{rc: rc, parked: parked, tried: parked != nil}
	t.left.Store(1)
	return t
}

// arrived says that a session has the message.
func (t *transit) arrived() {
	if t == nil {
		return
	}
	t.release(nil)
	t.mu.Lock()
	t.got = true
	p := t.parked
	t.parked = nil
	t.mu.Unlock()
	if p != nil {
		p.Drop()
	}
}

// release tells the origin, once.
func (t *transit) release(err error) {
	if !t.safe.Swap(true) {
		t.rc.Release(err)
	}
}

// kept is told by the store. A message that it could not keep is still on its way.
func (t *transit) kept(err error) {
	if err == nil {
		t.release(nil)
	}
}

// park has the message kept, unless it is already.
func (t *transit) park(a *Account, st *stanza.Stanza) {
	keep := a.router.hooks.Park
	if keep == nil || t.rc != nil && t.rc.Stored {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.got || t.tried {
		return
	}
	t.tried = true
	if t.parked = keep(a.Bare, st, t.kept); t.parked == nil {
		t.release(nil) // nobody wants it kept: it is nothing to lose
	}
}

// lost says that a session will not get the message. It reports true to the last
// one, which then has what is parked and the duty to release the receipt, if
// owed.
func (t *transit) lost() (last bool, parked Parked, rc *Receipt, owed bool) {
	if t.left.Add(-1) > 0 {
		return false, nil, nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.got = true
	parked, t.parked = t.parked, nil
	return true, parked, t.rc, !t.safe.Swap(true)
}

// abandon takes back the count of whoever made the transit. When no session will
// get the message it reports true, and what is parked is the maker's again.
func (t *transit) abandon() (last bool, parked Parked) {
	last, parked, rc, owed := t.lost()
	if owed {
		rc.Release(nil)
	}
	return last, parked
}
