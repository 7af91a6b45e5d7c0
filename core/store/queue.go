package store

import (
	"context"
	"sync"
	"sync/atomic"
)

// Op changes the database inside a transaction that it may share with others.
//
// An Op may run more than once: when another operation of its batch fails, the
// batch is rolled back and run again. So it must depend only on the database
// and its own inputs, must set (not add to) any result it leaves in captured
// variables, and must have no effect outside tx. What it read in a run that was
// rolled back is void. It must not keep tx, must not wait for another write of
// the same DB nor end the goroutine (runtime.Goexit, a test's FailNow), and a
// returned error undoes what it did, and only that.
type Op func(tx *Tx) error

// counter is a number that several goroutines update.
type counter struct{ n atomic.Int64 }

func (c *counter) add(n int64) { c.n.Add(n) }
func (c *counter) load() int64 { return c.n.Load() }

// entry is one waiting operation.
type entry struct {
	op      Op
	done    func(error)
	pending *Pending // nil when it cannot be withdrawn; else holds op and done
}

// queue holds what waits for the writer, oldest first.
type queue struct {
	max  int
	wake chan struct{} // capacity 1: a token when the writer may have work

	mu       sync.Mutex
	entries  []entry
	head     int // entries[:head] are taken
	canceled int // of entries[head:]
	closed   bool
}

func (q *queue) init(max int) {
	q.max = max
	q.wake = make(chan struct{}, 1)
}

// put appends e. bounded tells whether a full queue refuses it.
func (q *queue) put(e entry, bounded bool) error {
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return ErrClosed
	case bounded && len(q.entries)-q.head-q.canceled >= q.max:
		q.mu.Unlock()
		return ErrBusy
	}
	q.entries = append(q.entries, e)
	q.mu.Unlock()
	q.signal()
	return nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// take waits for work and moves up to max operations to batch, which it returns.
// It returns no operation when the queue is closed and empty.
func (q *queue) take(batch []entry, max int) []entry {
	for {
		q.mu.Lock()
		for q.head < len(q.entries) && len(batch) < max {
			e := q.entries[q.head]
			q.entries[q.head] = entry{}
			q.head++
			if p := e.pending; p != nil {
				if p.canceled {
					q.canceled--
					continue
				}
				e.op, e.done = p.op, p.done
				p.taken, p.op, p.done = true, nil, nil
			}
			batch = append(batch, e)
		}
		q.compact()
		closed := q.closed
		q.mu.Unlock()
		if len(batch) > 0 || closed {
			return batch
		}
		<-q.wake
	}
}

// compact gives back room before head and, when they are the majority, that of
// withdrawn operations. Amortised, it costs each entry one move.
func (q *queue) compact() {
	live := len(q.entries) - q.head
	switch {
	case live == 0:
		q.head = 0
		if cap(q.entries) > 1<<16 {
			q.entries = nil // after a flood
		} else {
			q.entries = q.entries[:0]
		}
		return
	case q.head <= live && q.canceled <= 64+live/2:
		return
	}
	kept := q.entries[:0]
	for _, e := range q.entries[q.head:] {
		if e.pending == nil || !e.pending.canceled {
			kept = append(kept, e)
		}
	}
	clear(q.entries[len(kept):])
	q.entries, q.head, q.canceled = kept, 0, 0
}

func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries) - q.head - q.canceled
}

// Submit queues op and returns at once. done, when not nil, is called once: on
// the writer goroutine, in the order of submission, after the commit that holds
// op, or with the reason why op did not happen. done must not block; it may
// Submit. When the queue is full or closed the error is ErrBusy or ErrClosed
// and done is not called.
func (db *DB) Submit(op Op, done func(error)) error {
	return db.queue.put(entry{op: op, done: done}, true)
}

// Pending is an operation that can still be withdrawn.
type Pending struct {
	queue *queue
	// Guarded by queue.mu.
	op       Op
	done     func(error)
	taken    bool
	canceled bool
}

// SubmitCancelable is Submit for an operation that may become needless, such as
// storing what is about to be delivered.
func (db *DB) SubmitCancelable(op Op, done func(error)) (*Pending, error) {
	p := &Pending{queue: &db.queue, op: op, done: done}
	if err := db.queue.put(entry{pending: p}, true); err != nil {
		return nil, err
	}
	return p, nil
}

// Cancel withdraws the operation. True means that it had not begun and never
// will, and that done is not called; false that it was taken by the writer, or
// withdrawn before.
func (p *Pending) Cancel() bool {
	q := p.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.taken || p.canceled {
		return false
	}
	p.canceled, p.op, p.done = true, nil, nil
	q.canceled++
	q.compact()
	return true
}

// Write runs op in the next group commit and returns after it. Nil means
// durable. The caller's waiting is the back pressure, so a full queue does not
// refuse it. When ctx ends first, an operation that has not begun is withdrawn
// and ctx's error returned; one that has begun is waited for, so that the
// outcome is never in doubt and op never runs after Write returned.
func (db *DB) Write(ctx context.Context, op Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	result := make(chan error, 1)
	done := func(err error) { result <- err }
	if ctx.Done() == nil {
		if err := db.queue.put(entry{op: op, done: done}, false); err != nil {
			return err
		}
		return <-result
	}
	p := &Pending{queue: &db.queue, op: op, done: done}
	if err := db.queue.put(entry{pending: p}, false); err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		if p.Cancel() {
			return ctx.Err()
		}
		return <-result
	}
}

// Sync returns when everything submitted before it is committed or has failed.
func (db *DB) Sync(ctx context.Context) error {
	return db.Write(ctx, func(*Tx) error { return nil })
}
