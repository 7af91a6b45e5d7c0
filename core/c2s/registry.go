package c2s

import (
	"maps"
	"slices"
	"sync"
	"time"

	"trivium/core/jid"
)

// registry has the sessions with stream management, and what is left of those that
// can no longer be resumed.
type registry struct {
	mu     sync.Mutex
	live   map[string]*managed // by SM-ID
	lapsed map[string]lapse    // by SM-ID
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

func newRegistry() registry {
	return registry{live: map[string]*managed{}, lapsed: map[string]lapse{}}
}

// keep makes a session known.
func (r *registry) keep(m *managed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[m.id] = m
}

// lapse makes a session that is over one that was.
func (r *registry) lapse(m *managed) {
	m.mu.Lock()
	l := lapse{m.peer.Account.Bare, m.handled.Load(), time.Now().Add(lapseTime)}
	m.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, m.id)
	if m.max <= 0 {
		return
	}
	if len(r.lapsed) >= lapseMax {
		for id := range r.lapsed { // any: it is a favour
			delete(r.lapsed, id)
			break
		}
	}
	r.lapsed[m.id] = l
}

// resumable finds a session of the account, or what its 'h' was at the end.
func (r *registry) resumable(id string, account jid.JID) (m *managed, handled uint32, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.live[id]; m != nil && m.max > 0 && m.peer.Account.Bare == account {
		return m, 0, true
	}
	l, ok := r.lapsed[id]
	return nil, l.handled, ok && l.account == account
}

// look returns the sessions that have waited too long for their peers, and those
// whose peers wait too long for an answer; the latter are due from then on. Lapses
// that are old enough it forgets.
func (r *registry) look(now time.Time) (late, slow []*managed) {
	r.mu.Lock()
	defer r.mu.Unlock()
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
	return late, slow
}

// all returns the sessions that have not lapsed.
func (r *registry) all() []*managed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.AppendSeq(make([]*managed, 0, len(r.live)), maps.Values(r.live))
}

// sweep ends sessions that have waited too long for their peers, and answers peers
// that have waited too long for us.
func (svc *Service) sweep(now time.Time) {
	late, slow := svc.registry.look(now)
	for _, m := range late {
		m.expire()
	}
	for _, m := range slow {
		svc.debts.owe(m)
	}
}

// expireAll ends every session that waits for its peer.
func (svc *Service) expireAll() {
	for _, m := range svc.registry.all() {
		m.expire()
	}
}
