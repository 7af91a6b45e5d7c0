package kit

import (
	"context"
	"sync"
	"sync/atomic"

	"trivium/core/jid"
)

// change is an address of which presence has changed.
type change struct {
	from  jid.JID
	user  jid.JID // who sees it; zero: every subscriber
	whole bool    // all there is to see of the contact is told, to a user or one resource
	owed  bool    // to one of all subscribers
	n     uint64  // the number of the change; 0 in keys
}

// herald tells users of presence, one change after the other, so that the last word on
// an address is the last one that is sent. What happens has numbers in its order; an
// answer that a user gets directly goes by the number it was given at, and supersedes
// the announcements up to that (see heard).
type herald struct {
	up   atomic.Bool   // the network is connected
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	seq   uint64
	noted map[change]uint64 // what waits
	order []change          // its keys
	found uint64            // when the network was last connected, if that waits
	lost  uint64            // when it was last lost, if that waits
	brief uint64            // when it was connected and lost again, if all that waits
	again uint64            // when what is available had to be told anew, if that waits

	busy       bool              // Run tells of a batch
	doing      map[change]uint64 // of it
	announced  uint64            // of it, what all are told of; 0: nothing
	announcing Between           // how far that is
	now        Between           // whom Run talks to
	speaking   bool              // something is being sent to them
	crossed    bool              // an answer to them has begun meanwhile
	talks      map[Between]*talk
	deferred   int // changes that wait for the end of answers
	words      map[heard]uint64

	told bool // that the gateway is up; owned by Run
}

func (h *herald) init() {
	h.wake, h.noted = make(chan struct{}, 1), map[change]uint64{}
	h.talks, h.words = map[Between]*talk{}, map[heard]uint64{}
}

func (h *herald) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// note asks for a change to be told. Changes of one address that wait are one.
func (h *herald) note(c change) {
	h.mu.Lock()
	h.seq++
	h.queue(c, h.seq)
	h.mu.Unlock()
	h.signal()
}

func (h *herald) queue(c change, n uint64) {
	c.n = 0
	if _, ok := h.noted[c]; !ok {
		h.order = append(h.order, c)
	}
	h.noted[c] = max(h.noted[c], n)
}

func (h *herald) refresh() {
	h.mu.Lock()
	h.seq++
	h.again = h.seq
	h.mu.Unlock()
	h.signal()
}

// turn says that the network is connected or not, and tells whether that is new.
func (h *herald) turn(up bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.up.Swap(up) == up {
		return false
	}
	h.seq++
	if up {
		h.found = h.seq
	} else {
		if h.found > 0 && h.brief == 0 {
			h.brief = h.found
		}
		h.lost, h.found, h.again = h.seq, 0, 0
	}
	return true
}

// batch is what has to be told, with the numbers of what happened.
type batch struct {
	changes                   []change
	found, lost, again, brief uint64
}

// take ends a batch and begins the next one. False: there is none.
func (h *herald) take() (b batch, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy, h.announced = false, 0
	if len(h.order) == 0 && h.lost|h.found|h.again == 0 {
		if h.deferred == 0 {
			clear(h.words)
		}
		h.doing = nil
		return b, false
	}
	b = batch{changes: h.order, found: h.found, lost: h.lost, again: h.again, brief: h.brief}
	oldest := h.seq
	for i := range b.changes {
		b.changes[i].n = h.noted[b.changes[i]]
		oldest = min(oldest, b.changes[i].n)
	}
	for _, n := range [...]uint64{b.found, b.lost, b.again, b.brief} {
		if n > 0 {
			oldest = min(oldest, n)
		}
	}
	if h.deferred == 0 {
		h.forget(oldest)
	}
	h.doing, h.noted = h.noted, map[change]uint64{}
	h.order, h.found, h.lost, h.again, h.brief = nil, 0, 0, 0, 0
	h.busy = true
	return b, true
}

// Up tells whether the network is connected.
func (g *Gateway) Up() bool { return g.herald.up.Load() }

// SetUp says whether the network is connected. When it is lost, the gateway and all
// contacts become unavailable for those who saw them available; when it is back they get
// the presence that is set by then. Messages go to the Network all the same; requests are
// refused while the gateway is down.
func (g *Gateway) SetUp(up bool) {
	if !g.herald.turn(up) {
		return
	}
	g.log.Info("the gateway's network has changed", "up", up)
	if !up {
		g.requests.abandon(g)
	}
	g.herald.signal()
}

// Run tells users of presence until ctx ends. It is called once.
func (g *Gateway) Run(ctx context.Context) {
	defer func() {
		g.requests.close()
		g.ending.Lock()
		g.ended = true
		g.ending.Unlock()
		g.working.Wait()
	}()
	h := &g.herald
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		for ctx.Err() == nil {
			b, ok := h.take()
			if !ok {
				break
			}
			g.proclaim(ctx, &b)
		}
	}
}

// proclaim tells of a batch. A loss is told before what was found after it, and before
// both, or what is told anew, what had gone: it is not among that.
func (g *Gateway) proclaim(ctx context.Context, b *batch) {
	h := &g.herald
	if h.told && b.lost|b.again > 0 {
		for _, c := range b.changes {
			g.tell(ctx, c, true)
		}
	}
	switch {
	case h.told && b.lost > 0:
		h.told = false
		g.announce(ctx, false, b.lost, 0)
	case b.brief > 0: // only those who have asked in between know that it was connected
		g.announce(ctx, false, b.lost, b.brief)
	}
	switch {
	case !h.told && b.found > 0:
		h.told = true
		g.announce(ctx, true, max(b.found, b.again), 0)
	case h.told && b.again > 0:
		g.announce(ctx, true, b.again, 0)
	default:
		for _, c := range b.changes {
			if c.whole || h.told {
				g.tell(ctx, c, false)
			}
		}
	}
}
