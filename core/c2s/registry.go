package c2s

import (
	"sync"
	"time"

	"trivium/core/jid"
)

// registry has the sessions with stream management, and what is left of those that
// can no longer be resumed.
type registry struct {
	mu     sync.Mutex
	live   map[string]*managed // by SM-ID
	lapsed map[string]lapse
}

// lapse is what is remembered of a session that has expired (XEP-0198 §5).
type lapse struct {
	account jid.JID
	handled uint32
	until   time.Time
}

// Bounds of what is remembered.
const (
	lapseMax  = 10_000
	lapseTime = 24 * time.Hour
)

// keep makes a session known.
func (svc *Service) keep(m *managed) {
	r := &svc.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		r.live, r.lapsed = map[string]*managed{}, map[string]lapse{}
	}
	r.live[m.id] = m
}

// lapse makes a session that is over one that was.
func (svc *Service) lapse(m *managed) {
	m.mu.Lock()
	l := lapse{m.peer.Account.Bare, m.handled, time.Now().Add(lapseTime)}
	m.mu.Unlock()
	r := &svc.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, m.id)
	if m.max > 0 && len(r.lapsed) < lapseMax {
		r.lapsed[m.id] = l
	}
}

// resumable finds a session of the account, or what its 'h' was at the end.
func (svc *Service) resumable(id string, account jid.JID) (m *managed, handled uint32, known bool) {
	r := &svc.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.live[id]; m != nil && m.max > 0 && m.peer.Account.Bare == account {
		return m, 0, true
	}
	l, ok := r.lapsed[id]
	return nil, l.handled, ok && l.account == account
}

// answerMax is how long an <r/> may go without an answer: then it is told what is
// safe so far.
const answerMax = 5 * time.Second

// sweep ends sessions that have waited too long for their peers, and answers
// those that have.
func (svc *Service) sweep(now time.Time) {
	r := &svc.registry
	var late, slow []*managed
	r.mu.Lock()
	for _, m := range r.live {
		m.mu.Lock()
		switch {
		case m.owner == nil && now.Sub(m.since) > m.max:
			late = append(late, m)
		case m.owner != nil && len(m.asked) > 0 && !m.due && now.Sub(m.since) > answerMax:
			m.asked, m.due = m.asked[:0], true
			slow = append(slow, m)
		}
		m.mu.Unlock()
	}
	for id, l := range r.lapsed {
		if now.After(l.until) {
			delete(r.lapsed, id)
		}
	}
	r.mu.Unlock()
	for _, m := range late {
		m.expire()
	}
	for _, m := range slow {
		svc.owe(m)
	}
}

// expireAll ends every session that waits for its peer.
func (svc *Service) expireAll() {
	r := &svc.registry
	r.mu.Lock()
	all := make([]*managed, 0, len(r.live))
	for _, m := range r.live {
		all = append(all, m)
	}
	r.mu.Unlock()
	for _, m := range all {
		m.expire()
	}
}
