package router

import (
	"errors"
	"slices"
	"sync"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// errOverflow says that a peer left more unread than its outbox may hold.
var errOverflow = errors.New("router: outbox is full")

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

// add appends an element.
func (b *outBuffer) add(p stanza.Payload) {
	b.data = p.AppendXML(b.data)
	b.ends = append(b.ends, len(b.data))
}

// left says that the messages have left this process.
func (b *outBuffer) left() {
	for i := range b.held {
		b.held[i].t.arrived()
	}
}

// recycle gives the buffer back to the pool.
func (b *outBuffer) recycle() {
	if cap(b.data) > keepBuffer || cap(b.held) > keepHeld {
		return
	}
	clear(b.held)
	b.data, b.ends, b.held = b.data[:0], b.ends[:0], b.held[:0]
	outBuffers.Put(b)
}

// queued is a stanza that has not left this process, or that the peer has not
// acknowledged.
type queued struct {
	st    *stanza.Stanza
	to    jid.JID
	t     *transit // of a message; nil: its origin does not wait, and it goes to this session alone
	copy  bool     // of a message that is somewhere else too: no loss
	since int64    // Unix milliseconds: when it would have been sent had the peer been there; 0: it was sent
}

// Outbox orders what goes to one peer. Any goroutine may send; nothing waits for
// the peer. What is sent is appended to a buffer; whoever finds the outbox idle
// has the duty to flush it, by its Turn, so that concurrent senders and whole
// batches coalesce into one write.
type Outbox struct {
	owner *Session // constant
	limit int      // octets; constant

	mu      sync.Mutex
	conn    stream.Conn // nil while away
	info    stream.Info // of conn, or of the last one
	kick    func(*stream.Error)
	epoch   uint32     // counts connections
	buf     *outBuffer // nil when nothing waits
	flying  *outBuffer // what conn has taken but not sent
	claimed bool       // somebody will flush
	writing bool       // somebody does, or conn will call drained
	dead    bool
	away    bool        // the peer may come back: only with a ledger
	ledger  *ledger     // nil without stream management
	hold    *hold       // nil while the session is active
	drainFn func(error) // drained for this epoch, made once
}

// init prepares the outbox; limit is in octets. Without a connection it is dead
// from the start.
func (o *Outbox) init(owner *Session, conn stream.Conn, limit int, kick func(*stream.Error)) {
	o.owner, o.conn, o.limit, o.kick, o.dead = owner, conn, limit, kick, conn == nil
	if conn != nil {
		o.info = conn.Info()
	}
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

// send queues a stanza. It reports false when the peer is lost; the stanza is then
// the caller's to place elsewhere. rc is of a message that goes to this session
// alone; nil when its origin does not wait, or waits by q.t.
func (o *Outbox) send(t *Turn, q queued, rc *Receipt) bool {
	o.mu.Lock()
	if o.dead {
		o.mu.Unlock()
		return false
	}
	if o.hold != nil {
		if o.hold.back(q) {
			o.mu.Unlock()
			if q.t != nil {
				q.t.release(nil) // what can wait is nothing to lose
			}
			return true
		}
		o.unhold()
	}
	if o.full(q.st.Size()) {
		o.mu.Unlock()
		o.lose(errOverflow)
		return false
	}
	if rc != nil && q.st.Kind == stanza.Message {
		q.t = o.transit(rc)
	}
	o.put(q)
	watch, prompt := false, o.ledger != nil && q.t != nil && q.t.rc != nil && q.t.rc.Prompt
	if l := o.ledger; l != nil && q.st.Kind == stanza.Message && !l.watched && !o.away {
		l.watched, watch = true, true
	}
	mine := !o.away && o.claim()
	o.mu.Unlock()
	if mine {
		t.add(o)
	}
	if watch {
		o.owner.Account.router.watch(o)
	}
	if prompt {
		q.t.park(o.owner.Account, q.st)
	}
	return true
}

// full tells whether size more octets are too many. Something large has to get
// through to a peer that reads, or it would come back with the offline messages
// and end every session to come. o.mu is held.
func (o *Outbox) full(size int) bool {
	waiting := 0
	if o.buf != nil {
		waiting = len(o.buf.data)
	}
	if l := o.ledger; l != nil {
		if l.len() >= l.max {
			return true
		}
		waiting = max(waiting, l.bytes)
	}
	return waiting+size > max(o.limit, 2*size)
}

// buffer returns what is to be appended to. o.mu is held.
func (o *Outbox) buffer() *outBuffer {
	if o.buf == nil {
		o.buf = outBuffers.Get().(*outBuffer)
	}
	return o.buf
}

// claim takes on the duty to flush, and reports false when somebody has it. o.mu is
// held.
func (o *Outbox) claim() bool {
	mine := !o.claimed
	o.claimed = true
	return mine
}

// put appends a stanza. o.mu is held.
func (o *Outbox) put(q queued) {
	if o.away {
		o.keep(&q, o.owner.Account.router.now())
		o.ledger.push(q)
		return
	}
	b := o.buffer()
	b.data = q.st.AppendFor(b.data, q.to)
	b.ends = append(b.ends, len(b.data))
	if o.ledger != nil {
		o.ledger.push(q)
	} else if q.st.Kind == stanza.Message {
		b.held = append(b.held, q)
	}
}

// begin puts first in front of what waits, and opens an outbox that was held by
// being claimed.
func (o *Outbox) begin(first []stanza.Payload) {
	o.mu.Lock()
	if o.dead || o.away {
		o.mu.Unlock()
		return
	}
	var head outBuffer
	for _, p := range first {
		head.add(p)
	}
	b := o.buffer()
	for i := range b.ends {
		b.ends[i] += len(head.data)
	}
	b.data = slices.Insert(b.data, 0, head.data...)
	b.ends = slices.Insert(b.ends, 0, head.ends...)
	o.mu.Unlock()
	o.flush()
}

// write queues one element that is not a stanza; a peer that is away does not get
// it. With then, which may be nil, something is changed at that point of the
// stream.
func (o *Outbox) write(t *Turn, p stanza.Payload, then func()) bool {
	o.mu.Lock()
	if o.dead || o.away {
		o.mu.Unlock()
		return !o.dead
	}
	if o.full(0) {
		o.mu.Unlock()
		o.lose(errOverflow)
		return false
	}
	o.buffer().add(p)
	if then != nil {
		then()
	}
	mine := o.claim()
	o.mu.Unlock()
	if mine {
		t.add(o)
	}
	return true
}

// flush hands over what waits, until nothing does or the connection would wait.
func (o *Outbox) flush() {
	o.mu.Lock()
	for {
		if o.writing { // and goes on with what waits
			o.mu.Unlock()
			return
		}
		if o.buf == nil || o.dead || o.away {
			o.claimed = false
			o.mu.Unlock()
			return
		}
		if l := o.ledger; l != nil && !l.asked && l.unasked >= askEvery {
			o.ask()
		}
		b := o.buf
		o.buf, o.flying, o.writing = nil, b, true
		conn, epoch := o.conn, o.epoch
		if o.drainFn == nil {
			o.drainFn = func(err error) { o.drained(epoch, err) }
		}
		drained := o.drainFn
		o.mu.Unlock()

		sent, err := conn.Write(stream.Batch{Data: b.data, Ends: b.ends}, drained)
		switch {
		case err != nil:
			o.failed(epoch, err)
			return
		case !sent: // drained goes on, or has already; it wants but the messages
			(&outBuffer{data: b.data, ends: b.ends}).recycle()
			b.data, b.ends = nil, nil
			return
		}
		o.mu.Lock()
		if o.epoch != epoch || o.dead {
			o.mu.Unlock()
			return
		}
		o.flying, o.writing = nil, false
		if len(b.held) > 0 {
			o.mu.Unlock()
			b.left()
			o.mu.Lock()
		}
		b.recycle()
	}
}

// drained is called by the connection of an epoch when what it had taken has left.
func (o *Outbox) drained(epoch uint32, err error) {
	if err != nil {
		o.failed(epoch, err)
		return
	}
	o.mu.Lock()
	if o.epoch != epoch || o.dead {
		o.mu.Unlock()
		return
	}
	b := o.flying
	o.flying, o.writing = nil, false
	o.mu.Unlock()
	if b != nil {
		b.left()
	}
	o.flush()
}

// failed is what happens when the connection of an epoch is broken.
func (o *Outbox) failed(epoch uint32, err error) {
	o.mu.Lock()
	if o.epoch != epoch || o.dead {
		o.mu.Unlock()
		return
	}
	if o.ledger == nil {
		o.mu.Unlock()
		o.lose(err)
		return
	}
	o.leave() // whether it may come back is decided by who owns the session
	kick := o.kick
	o.mu.Unlock()
	o.owner.lost(kick, err)
}

// lose ends the outbox: nothing more can be sent, and what has not left or was not
// acknowledged is handed to the router.
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
	if l := o.ledger; l != nil {
		left = append(append(left, l.before...), l.queue[l.head:]...)
	}
	if o.hold != nil {
		left = append(left, o.hold.kept...)
	}
	o.flying, o.buf, o.ledger, o.hold = nil, nil, nil, nil // a Write may still read the first
	kick, away := o.kick, o.away
	o.mu.Unlock()
	switch {
	case err == nil:
	case away: // to end such a session takes more than to close a stream
		go o.owner.lost(kick, err)
	default:
		o.owner.lost(kick, err)
	}
	if len(left) > 0 {
		o.owner.Account.router.rescue(o.owner, left)
	}
}
