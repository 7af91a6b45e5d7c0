package websocket

import (
	"iter"
	"time"

	gorilla "github.com/gorilla/websocket"
)

// slots is in how many groups connections are looked after, so that their pings
// do not go out all at once.
const slots = 8

// wheel is the set of connections, spread over slots. The pinger looks at one
// slot after the other and comes round twice in a ping interval.
type wheel struct {
	slots   [slots]map[*Conn]struct{}
	next    int // slot of the next connection
	size    int
	running bool
	due     []*Conn // the pinger's
}

func (w *wheel) all() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for _, slot := range w.slots {
			for c := range slot {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// join adds c and counts its goroutine, unless the Handler is closed.
func (h *Handler) join(c *Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shut {
		return false
	}
	w := &h.wheel
	if w.slots[w.next] == nil {
		w.slots[w.next] = make(map[*Conn]struct{})
	}
	w.slots[w.next][c] = struct{}{}
	c.slot = w.next
	w.next = (w.next + 1) % slots
	w.size++
	h.serving.Add(1)
	if !w.running && h.opt.PingInterval > 0 {
		w.running = true
		h.serving.Add(1)
		go h.ping(h.opt.PingInterval / 2 / slots)
	}
	return true
}

func (h *Handler) leave(c *Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.wheel.slots[c.slot], c)
	h.wheel.size--
}

// ping turns the wheel until the Handler is closed or has no connections. It is
// the one goroutine that pings them all.
func (h *Handler) ping(step time.Duration) {
	defer h.serving.Done()
	tick := time.NewTicker(max(step, time.Millisecond))
	defer tick.Stop()
	w := &h.wheel
	for at := 0; ; at = (at + 1) % slots {
		select {
		case <-h.done:
			return
		case <-tick.C:
		}
		h.mu.Lock()
		if w.size == 0 {
			w.running = false
			h.mu.Unlock()
			return
		}
		w.due = w.due[:0]
		for c := range w.slots[at] {
			w.due = append(w.due, c)
		}
		h.mu.Unlock()
		for _, c := range w.due {
			c.check()
		}
		clear(w.due)
	}
}

// check pings a silent peer, and drops one that stayed silent after that. It is
// called by the pinger, twice in a ping interval.
func (c *Conn) check() {
	if c.pipe.heard.Swap(false) {
		c.pinged = false
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.busy, c.closed.Load(), c.goodbye:
		// Nothing would reach it now; Socket and Close have limits of their own.
	case c.pinged:
		c.Abort()
	default:
		c.pinged = true
		_ = c.send(appendControl(nil, gorilla.PingMessage, ""))
	}
}
