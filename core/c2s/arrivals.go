package c2s

import (
	"time"

	"trivium/core/router"
)

// arrival is one stanza of the peer that is not safe yet. However long it takes, and
// whatever the peer sends meanwhile, what is safe behind it is only counted.
type arrival struct {
	rc router.Receipt
	m  *managed
	fn func(error) // done, made once

	// These are guarded by m.mu.
	prev, next *arrival
	behind     uint32 // safe ones between this and next
	stray      bool   // the peer will send it again: it does not count any more
}

// freeMax is how many arrivals a session keeps for use again.
const freeMax = 32

// arrive counts a message and returns its receipt, which the caller holds.
func (m *managed) arrive() *router.Receipt {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.unused
	if a == nil {
		a = &arrival{m: m}
		a.fn = a.done
	} else {
		m.unused, a.next = a.next, nil
		m.spare--
	}
	a.rc.Start(a.fn)
	m.received++
	if a.prev = m.last; a.prev == nil {
		m.first = a
	} else {
		a.prev.next = a
	}
	m.last = a
	return &a.rc
}

// arrived counts a stanza that is nobody's loss, when it has been handled.
func (m *managed) arrived() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received++
	if m.last == nil {
		m.handled.Add(1)
	} else {
		m.last.behind++
	}
}

// done is told that the message is safe, or that its sender has been told that it
// could not be delivered.
func (a *arrival) done(error) {
	m := a.m
	m.mu.Lock()
	if a.stray {
		m.mu.Unlock()
		return
	}
	if n := a.behind + 1; a.prev == nil {
		m.handled.Add(n)
		m.first = a.next
	} else {
		a.prev.behind += n
		a.prev.next = a.next
	}
	if a.next == nil {
		m.last = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.prev, a.next, a.behind = nil, nil, 0
	if m.spare < freeMax && m.owner != nil {
		a.next, m.unused = m.unused, a
		m.spare++
	}
	if m.first == nil && m.calm != nil {
		close(m.calm)
		m.calm = nil
	}
	answer := len(m.asked) > 0 && int32(m.handled.Load()-m.asked[0]) >= 0 && !m.due
	m.due = m.due || answer
	m.mu.Unlock()
	if answer {
		m.svc.debts.owe(m)
	}
}

// settle waits until what has been received is safe, so that the peer need not send
// it again, and returns 'h'. What takes too long is left to the peer: it comes
// twice, rather than not at all.
func (m *managed) settle() uint32 {
	m.mu.Lock()
	if m.first == nil {
		defer m.mu.Unlock()
		return m.handled.Load()
	}
	calm := make(chan struct{})
	m.calm = calm
	m.mu.Unlock()
	t := time.NewTimer(answerMax)
	defer t.Stop()
	select {
	case <-calm:
	case <-t.C:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for a := m.first; a != nil; a = a.next {
		a.stray = true
	}
	m.first, m.last, m.calm = nil, nil, nil
	m.received = m.handled.Load()
	return m.received
}

// answerMax is how long an <r/> may go without an answer: then it is told what is
// safe so far.
const answerMax = 5 * time.Second

// askedMax is how many <r/> are remembered; one answer does for the others.
const askedMax = 32

// answer takes <r/> (XEP-0198 §4): the <a/> is due when all that came before is
// safe.
func (m *managed) answer(t *router.Turn) {
	m.mu.Lock()
	if m.handled.Load() != m.received {
		switch n := len(m.asked); {
		case n < askedMax:
			m.asked = append(m.asked, m.received)
		default:
			m.asked[n-1] = m.received
		}
		if len(m.asked) == 1 {
			m.since = time.Now()
		}
		m.mu.Unlock()
		return
	}
	m.mu.Unlock()
	m.peer.Write(t, (*ack)(m))
}

// pay writes the <a/> that is due.
func (m *managed) pay(t *router.Turn) {
	m.mu.Lock()
	h := m.handled.Load()
	n := 0
	for n < len(m.asked) && int32(h-m.asked[n]) >= 0 {
		n++
	}
	m.asked = append(m.asked[:0], m.asked[n:]...)
	m.due = false
	m.mu.Unlock()
	m.peer.Write(t, (*ack)(m))
}
