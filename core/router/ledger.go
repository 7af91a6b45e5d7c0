package router

import (
	"sync"
	"time"

	"trivium/core/stanza"
	"trivium/core/stream"
)

// Namespaces of XEP-0198 and XEP-0203.
const (
	nsManage = "urn:xmpp:sm:3"
	nsDelay  = "urn:xmpp:delay"
)

// ledger is what a peer with stream management has been sent and has not
// acknowledged (XEP-0198 §4). It is guarded by its Outbox.
type ledger struct {
	queue []queued
	head  int    // queue[:head] is acknowledged
	first uint32 // the peer's 'h': how many stanzas were acknowledged, modulo 2^32
	bytes int
	max   int // stanzas that may wait

	asked   bool       // an <r/> has been sent, and no <a/> has come since
	unasked int        // stanzas sent since the last <r/>
	free    []*transit // solo ones that have arrived, to be used again
	watched bool       // Router.watch has it
	looked  int        // how many stanzas, from first on, have been parked if they are to be
	seen    int        // how many the last look saw
}

// askEvery is how many stanzas are sent before the peer is asked for an
// acknowledgement, unless it gives them unasked; for fewer it is asked at the next
// look.
const askEvery = 20

// ask is <r/>.
const ask = "<r xmlns='" + nsManage + "'/>"

func (l *ledger) len() int { return len(l.queue) - l.head }

// sent is how many stanzas were sent in all, modulo 2^32.
func (l *ledger) sent() uint32 { return l.first + uint32(l.len()) }

func (l *ledger) push(q queued) {
	if l.head > 64 && l.head*2 > len(l.queue) {
		n := copy(l.queue, l.queue[l.head:])
		clear(l.queue[n:])
		l.queue, l.head = l.queue[:n], 0
	}
	l.queue = append(l.queue, q)
	l.bytes += q.st.Size()
	l.unasked++
}

func (l *ledger) pop() queued {
	q := l.queue[l.head]
	l.queue[l.head] = queued{}
	l.head++
	l.first++
	l.bytes -= q.st.Size()
	l.looked, l.seen = max(l.looked-1, 0), max(l.seen-1, 0)
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
		if cap(l.queue) > 256 {
			l.queue = nil
		}
	}
	return q
}

// freeMax is how many transits a ledger keeps for use again.
const freeMax = 32

// transit makes the transit of a message that goes to this session alone. o.mu is
// held.
func (o *Outbox) transit(rc *Receipt) *transit {
	l := o.ledger
	if l == nil || o.away || rc.Prompt {
		return newTransit(rc, nil)
	}
	n := len(l.free)
	if n == 0 {
		t := newTransit(rc, nil)
		t.solo = true
		return t
	}
	t := l.free[n-1]
	l.free = l.free[:n-1]
	rc.Hold()
	t.rc = rc
	return t
}

// recycle takes a solo transit that nobody refers to any more.
func (l *ledger) recycle(t *transit) {
	if len(l.free) < freeMax {
		t.rc = nil
		l.free = append(l.free, t)
	}
}

// Manage begins stream management on the session's stream: enabled is written,
// and stanzas behind it are counted and kept until Acknowledge (XEP-0198 §3, §4).
// max is how many may wait; their octets are bounded by the outbox. It is called
// once.
func (s *Session) Manage(t *Turn, max int, enabled stanza.Payload) bool {
	return s.out.write(t, enabled, func() {
		s.out.ledger = &ledger{max: max}
	})
}

// Acknowledge takes the peer's 'h' (XEP-0198 §4). It reports false when that is
// more than was sent, with what was.
func (s *Session) Acknowledge(h uint32) (sent uint32, ok bool) { return s.out.acknowledge(h) }

func (o *Outbox) acknowledge(h uint32) (uint32, bool) {
	var done [32]*transit // outside of the lock, as are those:
	var owed [32]*Receipt
	for {
		n, k := 0, 0
		o.mu.Lock()
		l := o.ledger
		if l == nil {
			o.mu.Unlock()
			return 0, true // lost meanwhile
		}
		sent := l.sent()
		if h-l.first > sent-l.first {
			o.mu.Unlock()
			return sent, false
		}
		for l.first != h && n < len(done) && k < len(owed) {
			switch q := l.pop(); {
			case q.t == nil:
			case q.t.solo && !q.t.tried:
				owed[k] = q.t.rc
				k++
				l.recycle(q.t)
			default:
				done[n] = q.t
				n++
			}
		}
		more := l.first != h
		l.asked = l.asked && more
		l.unasked = min(l.unasked, l.len())
		look := !more && l.unasked > 0 && l.len() > 0 && !l.watched
		l.watched = l.watched || look
		o.mu.Unlock()
		for i := range n {
			done[i].arrived()
		}
		for i := range k {
			owed[i].Release(nil)
		}
		if look {
			o.owner.Account.router.watch(o)
		}
		if !more {
			return sent, true
		}
	}
}

// Detach takes the connection away from a session whose peer may come back with
// another (XEP-0198 §5). Until then it can be sent to, and messages are kept in
// the store as well. It reports false when the session is lost.
func (s *Session) Detach() bool {
	o := &s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead || o.ledger == nil {
		return false
	}
	o.leave()
	return true
}

// leave forgets the connection and parks what waits. o.mu is held.
func (o *Outbox) leave() {
	if o.away {
		return
	}
	o.unhold()
	o.hold = nil // XEP-0352 §5.1: the state is not restored
	o.away = true
	o.epoch++ // a write that is under way is none of ours any more
	for _, b := range [...]*outBuffer{o.flying, o.buf} {
		for i := 0; b != nil && i < len(b.held); i++ {
			o.ledger.push(b.held[i]) // from before stream management
		}
	}
	o.conn, o.buf, o.flying, o.writing, o.claimed = nil, nil, nil, false, false
	o.ledger.free = nil
	now := o.owner.Account.router.now()
	for i := o.ledger.head; i < len(o.ledger.queue); i++ {
		o.keep(&o.ledger.queue[i], now)
	}
}

// keep parks a message for a peer that is away. o.mu is held.
func (o *Outbox) keep(q *queued, now time.Time) {
	if q.since == 0 {
		q.since = now.UnixMilli()
	}
	if q.st.Kind != stanza.Message || q.copy {
		return
	}
	if q.t == nil {
		q.t = newTransit(nil, nil)
	}
	q.t.park(o.owner.Account, q.st)
}

// Attach gives a session another connection, which may be of another framing,
// and sends again what was not acknowledged. Kick goes to kick from now on. It
// reports false when the session is lost.
func (s *Session) Attach(conn stream.Conn, kick func(*stream.Error)) bool {
	o := &s.out
	o.mu.Lock()
	if o.dead || o.ledger == nil {
		o.mu.Unlock()
		return false
	}
	o.leave()
	o.conn, o.info, o.kick, o.away = conn, conn.Info(), kick, false
	o.drainFn, o.claimed = nil, true
	l := o.ledger
	l.asked, l.looked, l.seen = false, 0, 0
	if l.len() > 0 {
		b := o.buffer()
		for i := l.head; i < len(l.queue); i++ {
			q := &l.queue[i]
			b.data = delayed(q).AppendFor(b.data, q.to)
			b.ends = append(b.ends, len(b.data))
		}
		o.ask()
	}
	o.mu.Unlock()
	o.flush()
	return true
}

// delayed returns what is sent of a stanza that could not be sent at once: with
// the time at which it was tried (XEP-0198 §4, XEP-0203).
func delayed(q *queued) *stanza.Stanza {
	if q.since == 0 || q.st.Kind == stanza.IQ || q.st.Type == stanza.TypeError || q.st.Has(nsDelay, "delay") {
		return q.st
	}
	return q.st.Append(stanza.El(nsDelay, "delay").Set("from", q.to.Domain()).Set("stamp", time.UnixMilli(q.since).UTC().Format("2006-01-02T15:04:05.000Z")))
}

// tick looks after stanzas that wait for an acknowledgement: messages that were
// there at the last look already are parked if their origin waits, and the peer is
// asked. It reports whether to look again.
func (o *Outbox) tick(t *Turn) bool {
	o.mu.Lock()
	l := o.ledger
	if l == nil || o.away {
		if l != nil {
			l.watched = false
		}
		o.mu.Unlock()
		return false
	}
	for ; l.looked < l.seen; l.looked++ {
		q := &l.queue[l.head+l.looked]
		if q.t != nil && !q.t.safe.Load() {
			q.t.park(o.owner.Account, q.st)
		}
	}
	l.seen = l.len()
	mine := false
	if l.unasked > 0 && l.len() > 0 && !l.asked {
		o.ask()
		mine = o.claim()
	}
	l.watched = l.looked < l.seen
	if l.len() == 0 {
		l.free = nil // the conversation pauses
	}
	again := l.watched
	o.mu.Unlock()
	if mine {
		t.add(o)
	}
	return again
}

// ask appends <r/>. o.mu is held.
func (o *Outbox) ask() {
	b := o.buffer()
	b.data = append(b.data, ask...)
	b.ends = append(b.ends, len(b.data))
	o.ledger.asked, o.ledger.unasked = true, 0
}

// lookEvery is how often stanzas that wait for an acknowledgement are looked
// after. One timer does it for all sessions, and only while there is something to
// see.
const lookEvery = 25 * time.Millisecond

// watcher has the outboxes to look after.
type watcher struct {
	mu    sync.Mutex
	list  []*Outbox
	armed bool
}

func (r *Router) watch(o *Outbox) {
	w := &r.watcher
	w.mu.Lock()
	w.list = append(w.list, o)
	arm := !w.armed
	w.armed = true
	w.mu.Unlock()
	if arm {
		time.AfterFunc(lookEvery, r.look)
	}
}

func (r *Router) look() {
	w := &r.watcher
	w.mu.Lock()
	list := w.list
	w.list = nil
	w.mu.Unlock()
	var t Turn
	again := list[:0]
	for _, o := range list {
		if o.tick(&t) {
			again = append(again, o)
		}
	}
	t.Flush()
	w.mu.Lock()
	w.list = append(w.list, again...)
	w.armed = len(w.list) > 0
	arm := w.armed
	w.mu.Unlock()
	if arm {
		time.AfterFunc(lookEvery, r.look)
	}
}
