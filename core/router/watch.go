package router

import (
	"sync"
	"time"
)

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
