package router

import (
	"errors"
	"sync"
	"sync/atomic"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// ErrOverflow says that a peer left more unread than its outbox may hold.
var ErrOverflow = errors.New("router: outbox is full")

// outBuffer is what waits to be written.
type outBuffer struct {
	data []byte
	ends []int
	held []queued // the messages in data
}

// Larger buffers are left to the collector.
const (
	keepBuffer = 64 << 10
	keepHeld   = 256
)

var outBuffers = sync.Pool{New: func() any { return &outBuffer{data: make([]byte, 0, 2048)} }}

// recycle gives the buffer back to the pool.
func (b *outBuffer) recycle() {
	if cap(b.data) > keepBuffer || cap(b.held) > keepHeld {
		return
	}
	clear(b.held)
	b.data, b.ends, b.held = b.data[:0], b.ends[:0], b.held[:0]
	outBuffers.Put(b)
}

// queued is a message until its octets have left this process.
type queued struct {
	st *stanza.Stanza
	rc *Receipt
	// share counts the sessions that one message to an account was queued for and
	// that may still get it; nil: this one alone.
	share *atomic.Int32
	copy  bool // of a message that is somewhere else too: no loss
}

// Outbox orders what goes to one peer. Any goroutine may send; nothing waits for
// the peer. What is sent is appended to a buffer; whoever finds the outbox idle
// has the duty to flush it, by its Turn, so that concurrent senders and whole
// batches coalesce into one write.
type Outbox struct {
	mu      sync.Mutex
	conn    stream.Conn
	buf     *outBuffer // nil when nothing waits
	flying  *outBuffer // what conn has taken but not sent
	claimed bool       // somebody will flush, or conn will call drained
	dead    bool
	limit   int
	fail    func(error)    // told once that the peer is lost; called without locks
	rescue  func([]queued) // gets messages that never left; called without locks
	drainFn func(error)    // o.drained, made once
}

// init prepares the outbox; limit is in octets.
func (o *Outbox) init(conn stream.Conn, limit int, fail func(error), rescue func([]queued)) {
	o.conn, o.limit, o.fail, o.rescue = conn, limit, fail, rescue
}

// Turn collects the outboxes that one goroutine has the duty to flush. It
// belongs to that goroutine. The zero value is ready.
type Turn struct{ dirty []*Outbox }

// Flush writes out what was sent in this turn.
func (t *Turn) Flush() {
	for i, o := range t.dirty {
		t.dirty[i] = nil
		o.flush()
	}
	t.dirty = t.dirty[:0]
}

// turnMax bounds how many outboxes wait for one Flush.
const turnMax = 256

func (t *Turn) add(o *Outbox) {
	if len(t.dirty) >= turnMax {
		t.Flush()
	}
	t.dirty = append(t.dirty, o)
}

// begin locks the outbox and returns its buffer, or nil when the peer is lost.
func (o *Outbox) begin(size int) *outBuffer {
	o.mu.Lock()
	if o.dead {
		o.mu.Unlock()
		return nil
	}
	if o.buf == nil {
		o.buf = outBuffers.Get().(*outBuffer)
	}
	// Something large has to get through to a peer that reads, or it would come
	// back with the offline messages and end every session to come.
	if len(o.buf.data)+size > max(o.limit, 2*size) {
		o.mu.Unlock()
		o.lose(ErrOverflow)
		return nil
	}
	return o.buf
}

// end notes the element just appended and unlocks.
func (o *Outbox) end(t *Turn, b *outBuffer) {
	b.ends = append(b.ends, len(b.data))
	mine := !o.claimed
	o.claimed = true
	o.mu.Unlock()
	if mine {
		t.add(o)
	}
}

// send queues a stanza addressed to to. It reports false when the peer is lost;
// the stanza is then the caller's to place elsewhere.
func (o *Outbox) send(t *Turn, q queued, to jid.JID) bool {
	b := o.begin(q.st.Size())
	if b == nil {
		return false
	}
	b.data = q.st.AppendFor(b.data, to)
	if q.st.Kind == stanza.Message {
		q.rc.Hold()
		b.held = append(b.held, q)
	}
	o.end(t, b)
	return true
}

// greet puts the first stanza in front of all others; nobody else knows the
// outbox yet. FlushOut sends it.
func (o *Outbox) greet(st *stanza.Stanza) {
	o.buf = outBuffers.Get().(*outBuffer)
	o.buf.data = st.AppendTo(o.buf.data)
	o.buf.ends = append(o.buf.ends, len(o.buf.data))
}

// write queues one element that is not a stanza.
func (o *Outbox) write(t *Turn, p stanza.Payload) bool {
	b := o.begin(0)
	if b == nil {
		return false
	}
	b.data = p.AppendXML(b.data)
	o.end(t, b)
	return true
}

// flush hands over what waits, until nothing does or the connection would wait.
func (o *Outbox) flush() {
	for {
		o.mu.Lock()
		b := o.buf
		if b == nil || o.dead {
			o.claimed = false
			o.mu.Unlock()
			return
		}
		o.buf, o.flying = nil, b
		conn := o.conn
		if o.drainFn == nil {
			o.drainFn = o.drained
		}
		o.mu.Unlock()

		sent, err := conn.Write(stream.Batch{Data: b.data, Ends: b.ends}, o.drainFn)
		switch {
		case err != nil:
			o.lose(err)
			return
		case !sent: // drained goes on, or has already; it wants but the messages
			(&outBuffer{data: b.data, ends: b.ends}).recycle()
			b.data, b.ends = nil, nil
			return
		case o.landed():
			b.recycle()
		}
	}
}

// landed releases what conn has sent. It reports false when the outbox was lost
// meanwhile.
func (o *Outbox) landed() bool {
	o.mu.Lock()
	b := o.flying
	o.flying = nil
	o.mu.Unlock()
	if b == nil {
		return false
	}
	for i := range b.held {
		b.held[i].rc.Release(nil)
	}
	return true
}

func (o *Outbox) drained(err error) {
	if err != nil {
		o.lose(err)
		return
	}
	o.landed()
	o.flush()
}

// lose ends the outbox: nothing more can be sent, and messages that have not
// left are handed to rescue.
func (o *Outbox) lose(err error) {
	o.mu.Lock()
	if o.dead {
		o.mu.Unlock()
		return
	}
	o.dead = true
	var left []queued
	for _, b := range [...]*outBuffer{o.flying, o.buf} {
		if b != nil {
			left = append(left, b.held...)
		}
	}
	o.flying, o.buf = nil, nil // a Write may still read the one
	fail := o.fail
	o.mu.Unlock()
	if fail != nil && err != nil {
		fail(err)
	}
	if len(left) > 0 {
		o.rescue(left)
	}
}
