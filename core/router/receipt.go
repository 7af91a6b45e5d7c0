package router

import "sync/atomic"

// Receipt tells the origin of a message when it is safe: written to every socket
// it was queued for, or held by a committed row. Whoever takes the message over
// calls Hold before it returns and Release when it is safe; the origin holds it
// from the start. A nil Receipt takes part in nothing.
type Receipt struct {
	pending atomic.Int32
	err     atomic.Pointer[error]
	done    func(error)
}

// NewReceipt returns a Receipt that the caller holds. done is called once, from
// whatever goroutine releases last, with the first error or nil; it must not
// block.
func NewReceipt(done func(error)) *Receipt {
	r := &Receipt{done: done}
	r.pending.Store(1)
	return r
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
