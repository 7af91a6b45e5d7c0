package router

import (
	"errors"
	"sync"

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
}

const keepBuffer = 64 << 10 // larger ones are left to the collector

var outBuffers = sync.Pool{New: func() any { return &outBuffer{data: make([]byte, 0, 2048)} }}

func (b *outBuffer) recycle() {
	if cap(b.data) <= keepBuffer {
		b.data, b.ends = b.data[:0], b.ends[:0]
		outBuffers.Put(b)
	}
}

// queued is a message until its octets have left this process.
type queued struct {
	st *stanza.Stanza
	rc *Receipt
}

// Outbox orders what goes to one peer. Any goroutine may send; nothing waits for
// the peer. What is sent is appended to a buffer; whoever finds the outbox idle
// has the duty to flush it, by its Turn, so that concurrent senders and whole
// batches coalesce into one write.
type Outbox struct {
	mu      sync.Mutex
	conn    stream.Conn
	buf     *outBuffer // nil when nothing waits
	held    []queued   // messages in buf
	flying  []queued   // messages that conn has taken but not sent
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
	for i := 0; i < len(t.dirty); i++ { // a flush that fails may add to dirty
		o := t.dirty[i]
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
	if len(o.buf.data)+size > o.limit {
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
func (o *Outbox) send(t *Turn, st *stanza.Stanza, to jid.JID, rc *Receipt) bool {
	b := o.begin(st.Size())
	if b == nil {
		return false
	}
	b.data = st.AppendFor(b.data, to)
	if st.Kind == stanza.Message {
		rc.Hold()
		o.held = append(o.held, queued{st, rc})
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
		if b == nil || o.dead || o.conn == nil {
			o.claimed = false
			o.mu.Unlock()
			return
		}
		o.buf = nil
		o.flying, o.held = o.held, o.flying[:0]
		conn := o.conn
		if o.drainFn == nil {
			o.drainFn = o.drained
		}
		o.mu.Unlock()

		sent, err := conn.Write(stream.Batch{Data: b.data, Ends: b.ends}, o.drainFn)
		b.recycle()
		if err != nil {
			o.lose(err)
			return
		}
		if !sent {
			return // drained goes on
		}
		o.landed()
	}
}

// landed releases what conn has sent.
func (o *Outbox) landed() {
	o.mu.Lock()
	flying := o.flying
	o.flying = nil
	o.mu.Unlock()
	for i := range flying {
		flying[i].rc.Release(nil)
		flying[i] = queued{}
	}
	o.mu.Lock()
	if o.flying == nil && cap(flying) <= 64 && o.buf != nil {
		o.flying = flying[:0]
	}
	o.mu.Unlock()
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
	left := append(o.flying, o.held...)
	o.flying, o.held = nil, nil
	if o.buf != nil {
		o.buf.recycle()
		o.buf = nil
	}
	fail := o.fail
	o.mu.Unlock()
	if fail != nil && err != nil {
		fail(err)
	}
	if len(left) > 0 {
		o.rescue(left)
	}
}
