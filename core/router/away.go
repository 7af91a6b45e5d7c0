package router

import (
	"time"

	"trivium/core/stanza"
	"trivium/core/stream"
)

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
			o.ledger.before = append(o.ledger.before, b.held[i])
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
	before := l.before
	l.before = nil
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
	for i := range before {
		before[i].t.arrived() // or the peer would not know that it may resume
	}
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
