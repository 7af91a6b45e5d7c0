package c2s

import (
	"sync"

	"trivium/core/router"
)

// debts are the sessions whose peers are owed an <a/>.
type debts struct {
	mu     sync.Mutex
	list   []*managed
	payers int // goroutines that will look at list
}

// owe has an <a/> written soon. Whoever makes a message safe does not write to
// others, unless it is a session's goroutine, which says so with pay.
func (svc *Service) owe(m *managed) {
	d := &svc.debts
	d.mu.Lock()
	d.list = append(d.list, m)
	start := d.payers == 0
	if start {
		d.payers++
	}
	d.mu.Unlock()
	if start {
		go svc.payAll()
	}
}

// payAll writes what is owed until nothing is.
func (svc *Service) payAll() {
	var t router.Turn
	for svc.payDebts(&t) {
		t.Flush()
	}
}

// pay runs f, which may make messages of others safe, and appends what their peers
// are then owed to the caller's turn: it goes out with what else there is for them.
func (svc *Service) pay(t *router.Turn, f func()) {
	d := &svc.debts
	d.mu.Lock()
	d.payers++
	d.mu.Unlock()
	f()
	for svc.payDebts(t) {
	}
}

// payDebts pays those who are owed now. It reports false when there was nobody; the
// caller is then no payer any more.
func (svc *Service) payDebts(t *router.Turn) bool {
	d := &svc.debts
	d.mu.Lock()
	list := d.list
	d.list = nil
	if len(list) == 0 {
		d.payers--
	}
	d.mu.Unlock()
	for _, m := range list {
		m.pay(t)
	}
	return len(list) > 0
}
