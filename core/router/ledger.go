package router

import (
	"trivium/core/stanza"
)

// Namespaces of XEP-0198 and XEP-0203.
const (
	nsManage = "urn:xmpp:sm:3"
	nsDelay  = "urn:xmpp:delay"
)

// ledger is what a peer with stream management has been sent and has not
// acknowledged (XEP-0198 §4). It is guarded by its Outbox.
type ledger struct {
	queue  []queued
	head   int      // queue[:head] is acknowledged
	before []queued // what was under way when the connection broke, and is not counted
	first  uint32   // the peer's 'h': how many stanzas were acknowledged, modulo 2^32
	bytes  int
	max    int // stanzas that may wait

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
