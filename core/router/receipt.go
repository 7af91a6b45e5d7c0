package router

import "sync/atomic"

// Receipt tells the origin of a message when it is safe: written to every socket
// it was queued for, or held by a committed row. Whoever takes the message over
// calls Hold before it returns and Release when it is safe; the origin holds it
// from the start. A nil Receipt takes part in nothing.
type Receipt struct {
	// Prompt says that somebody waits for it: the message is made safe at once rather
	// than after a moment in which the recipient might confirm it.
	Prompt bool
	// Stored says that the message lies in the store until the Receipt is released.
	Stored bool

	pending atomic.Int32
	err     atomic.Pointer[error]
	done    func(error)
}

// NewReceipt returns a Receipt that the caller holds. done is called once, from
// whatever goroutine releases last, with the first error or nil; it must not
// block.
func NewReceipt(done func(error)) *Receipt {
	r := new(Receipt)
	r.Start(done)
	return r
}

// Start makes a Receipt that is new, or has called its done, one that the caller
// holds.
func (r *Receipt) Start(done func(error)) {
	r.done = done
	r.err.Store(nil)
	r.pending.Store(1)
}

// Hold says that one more holder is not done yet.
func (r *Receipt) Hold() {
	if r != nil {
		r.pending.Add(1)
	}
}

// Release ends one Hold. A non-nil err says that the message was not made safe.
func (r *Receipt) Release(err error) {
	if r == nil {
		return
	}
	if err != nil {
		r.fail(err)
	}
	if r.pending.Add(-1) == 0 {
		if p := r.err.Load(); p != nil {
			r.done(*p)
		} else {
			r.done(nil)
		}
	}
}

// fail notes the first error. It is apart so that Release allocates nothing.
func (r *Receipt) fail(err error) { r.err.CompareAndSwap(nil, &err) }
