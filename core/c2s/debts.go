package c2s

import (
	"sync"

	"trivium/core/router"
)

// debts are the sessions whose peers are owed an <a/>. Whoever makes a message safe
// does not write to others: it owes, and a payer writes.
type debts struct {
	mu     sync.Mutex
	list   []*managed
	payers int // goroutines that will look at list
}

// owe has an <a/> written soon: by a session's goroutine that is within pay, or else
// by one that is started for it.
func (d *debts) owe(m *managed) {
	d.mu.Lock()
	d.list = append(d.list, m)
	start := d.payers == 0
	if start {
		d.payers++
	}
	d.mu.Unlock()
	if start {
		go d.payAll()
	}
}

// payAll writes what is owed until nothing is.
func (d *debts) payAll() {
	var t router.Turn
	for d.paySome(&t) {
		t.Flush()
	}
}

// pay runs f, which may make messages of others safe, and appends what their peers
// are then owed to the caller's turn: it goes out with what else there is for them.
func (d *debts) pay(t *router.Turn, f func()) {
	d.mu.Lock()
	d.payers++
	d.mu.Unlock()
	defer func() { // also when f panics: nobody else would pay any more
		for d.paySome(t) {
		}
	}()
	f()
}

// paySome pays those who are owed now. It reports false when there was nobody; the
// caller is then no payer any more.
func (d *debts) paySome(t *router.Turn) bool {
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
