package webhook

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Bounds of what one endpoint keeps in memory. What does not fit is read again
// when there is room.
const (
	memoryMax = 4096 // messages
	laneMax   = 32   // messages of one conversation
	loadMax   = 256  // rows of one read
	// downAfter is how many attempts in a row must fail before the endpoint is
	// probed with one post at a time.
	downAfter = 5
	// probeMax is the longest time between two probes, so that an endpoint that
	// is back is noticed.
	probeMax = time.Minute
)

// endpoint is an Endpoint at work. Fields after client belong to run.
type endpoint struct {
	Endpoint
	service *Service
	domains map[string]bool // immutable
	signers []*standardwebhooks.Webhook
	client  *http.Client
	stats   stats
	gone    atomic.Bool // it has answered 410
	mail    mailbox

	lanes    map[conversation]*lane
	due      laneHeap // lanes that are not busy and have something
	held     int      // messages in lanes
	cursor   int64    // rows up to here have been looked at
	fresh    bool     // there may be rows after cursor
	busy     int      // lanes with a message under way
	failures int      // attempts that failed in a row
	notUntil time.Time
	probes   bool // one post at a time
}

// lane is the queue of one conversation.
type lane struct {
	talk  conversation
	queue []*item // oldest first
	last  int64   // the last row that was in queue
	more  bool    // rows between last and cursor are not in queue
	at    time.Time
}

// outcome is what became of a message that was posted.
type outcome struct {
	it   *item
	what verdict
	// notBefore is what Retry-After asked for, zero if nothing.
	notBefore time.Time
	// sick says that the endpoint rather than the message is to blame.
	sick bool
	why  string
}

type verdict uint8

const (
	taken verdict = iota // and its replies are safe
	again                // to be tried again
	hopeless
	gone // the endpoint wants nothing more
	left // the server stops
)

// mailbox brings outcomes to run from any goroutine, without waiting.
type mailbox struct {
	wake chan struct{} // capacity 1

	mu   sync.Mutex
	list []outcome
	rows bool // new rows were committed
}

func (m *mailbox) signal() {
	m.mu.Lock()
	m.rows = true
	m.mu.Unlock()
	m.notify()
}

func (m *mailbox) put(o outcome) {
	m.mu.Lock()
	m.list = append(m.list, o)
	m.mu.Unlock()
	m.notify()
}

func (m *mailbox) notify() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() (list []outcome, rows bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, rows = m.list, m.rows
	m.list, m.rows = nil, false
	return list, rows
}

// run posts the endpoint's messages until ctx ends.
func (e *endpoint) run(ctx context.Context) {
	e.lanes, e.fresh = map[conversation]*lane{}, true
	posts, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		list, rows := e.mail.take()
		e.fresh = e.fresh || rows
		for _, o := range list {
			e.settle(o)
		}
		wait := time.Hour
		if !e.gone.Load() {
			if !e.fill(ctx) {
				wait = time.Second // the store refuses: try later
			}
			wait = min(wait, e.dispatch(posts))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-e.mail.wake:
		case <-timer.C:
		}
	}
	e.stop(abort)
	e.client.CloseIdleConnections()
}

// stop waits for what is under way, for a time.
func (e *endpoint) stop(abort context.CancelFunc) {
	grace := time.NewTimer(e.service.opts.Grace)
	defer grace.Stop()
	last := (<-chan time.Time)(nil)
	for {
		list, _ := e.mail.take()
		for _, o := range list {
			e.settle(o)
		}
		if e.busy == 0 {
			return
		}
		select {
		case <-e.mail.wake:
		case <-grace.C:
			abort()
			// What is still busy then waits for a recipient to take a reply; the
			// row stays and is posted again.
			last = time.After(time.Second)
		case <-last:
			return
		}
	}
}

// fill reads rows into the lanes while there is room. It reports false when the
// store cannot be read.
func (e *endpoint) fill(ctx context.Context) bool {
	for e.fresh && e.held < memoryMax {
		list, err := e.service.load(ctx, e, e.cursor, loadMax)
		if err != nil {
			if ctx.Err() == nil {
				e.service.log.Error("the outbox cannot be read", "webhook", e.Name, "err", err)
			}
			return false
		}
		e.fresh = len(list) == loadMax
		for _, it := range list {
			e.cursor = it.seq
			l := e.lanes[it.talk]
			if l == nil {
				l = &lane{talk: it.talk}
				e.lanes[it.talk] = l
				l.push(it)
				e.held++
				e.schedule(l)
				continue
			}
			if l.more || len(l.queue) >= laneMax {
				l.more = true
				continue
			}
			l.push(it)
			e.held++
		}
	}
	return true
}

func (l *lane) push(it *item) {
	l.queue = append(l.queue, it)
	l.last = it.seq
}

// schedule puts a lane that is not busy in the heap by the time of its oldest
// message; an empty one is read on or forgotten.
func (e *endpoint) schedule(l *lane) {
	if len(l.queue) == 0 && l.more {
		list, err := e.service.loadLane(e.service.ctx, e, l.talk, l.last, e.cursor, laneMax)
		if err != nil {
			e.service.log.Error("the outbox cannot be read", "webhook", e.Name, "err", err)
			l.at = time.Now().Add(time.Second)
			heap.Push(&e.due, l)
			return
		}
		l.more = len(list) == laneMax
		for _, it := range list {
			l.push(it)
		}
		e.held += len(list)
	}
	if len(l.queue) == 0 {
		delete(e.lanes, l.talk)
		return
	}
	l.at = l.queue[0].next
	heap.Push(&e.due, l)
}

// dispatch posts what is due, and returns how long nothing else will be.
func (e *endpoint) dispatch(ctx context.Context) time.Duration {
	for len(e.due) > 0 {
		limit := e.Concurrency
		if e.probes {
			limit = 1
		}
		if e.busy >= limit {
			return time.Hour // an outcome wakes us
		}
		now := time.Now()
		l := e.due[0]
		if wait := max(l.at.Sub(now), e.notUntil.Sub(now)); wait > 0 {
			return wait
		}
		heap.Pop(&e.due)
		if len(l.queue) == 0 { // reading on had failed
			e.schedule(l)
			continue
		}
		e.busy++
		it := l.queue[0]
		if it.attempts > 0 && now.Sub(it.created) > e.GiveUpAfter {
			e.giveUp(it, "not taken in time")
			continue
		}
		go e.post(ctx, it)
	}
	return time.Hour
}

// settle goes on after a message has been posted.
func (e *endpoint) settle(o outcome) {
	e.busy--
	l := e.lanes[o.it.talk]
	now := time.Now()
	switch o.what {
	case taken:
		e.recovered()
	case again:
		if o.sick {
			e.failures++
		}
		if e.failures >= downAfter {
			if !e.probes {
				e.service.log.Warn("a webhook is down", "webhook", e.Name, "err", o.why)
			}
			e.probes = true
			e.stats.down.Store(true)
			e.notUntil = now.Add(min(e.backoff(e.failures-downAfter+1), probeMax))
		}
		if o.notBefore.After(now) {
			// RFC 9110 §10.2.3: it speaks for the endpoint, whatever the message.
			e.notUntil = later(e.notUntil, o.notBefore)
		}
		it := o.it
		it.attempts++
		if now.Sub(it.created) > e.GiveUpAfter {
			e.busy++
			e.giveUp(it, o.why)
			return
		}
		it.next = later(now.Add(e.backoff(it.attempts)), o.notBefore)
		e.service.postpone(e, it)
		e.schedule(l)
		return
	case hopeless:
		if o.why != "" { // the endpoint has refused this message, so it is there
			e.recovered()
			o.it.attempts++
			e.busy++
			e.giveUp(o.it, o.why)
			return
		}
	case gone:
		e.gone.Store(true)
		e.service.disable(e)
		e.service.log.Warn("a webhook answered 410 Gone and gets nothing more", "webhook", e.Name)
		e.schedule(l)
		return
	case left:
		e.schedule(l)
		return
	}
	l.queue[0] = nil
	l.queue = l.queue[1:]
	e.held--
	e.schedule(l)
}

// giveUp buries a message and tells its sender. The lane stays busy until that
// is done: the outcome is hopeless without a reason.
func (e *endpoint) giveUp(it *item, why string) {
	e.service.log.Warn("a message was given up", "webhook", e.Name, "id", it.id, "attempts", it.attempts, "err", why)
	e.service.bury(e, it, why, func(err error) {
		go func() { // routing may wait for the store, whose writer this is
			if err == nil {
				e.bounce(it)
			}
			e.mail.put(outcome{it: it, what: hopeless})
		}()
	})
}

// recovered notes that the endpoint answers. Those who waited because it did not
// are tried now.
func (e *endpoint) recovered() {
	e.failures = 0
	if !e.probes {
		return
	}
	e.service.log.Info("a webhook is up again", "webhook", e.Name)
	e.probes = false
	e.stats.down.Store(false)
	e.notUntil = time.Time{}
	for _, l := range e.due {
		l.at = time.Time{}
	}
	heap.Init(&e.due)
}

// backoff is the wait after the n-th failure: it doubles from RetryMin to
// RetryMax, half of it by chance, so that retries do not come in step.
func (e *endpoint) backoff(n int) time.Duration {
	o := &e.service.opts
	d := o.RetryMax
	if n <= 30 {
		d = min(o.RetryMin<<(n-1), o.RetryMax)
	}
	return d/2 + rand.N(d/2+1)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// laneHeap orders lanes by time, and lanes of one time by their oldest message.
type laneHeap []*lane

func (h laneHeap) Len() int { return len(h) }

func (h laneHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].first() < h[j].first()
}

func (l *lane) first() int64 {
	if len(l.queue) == 0 {
		return l.last
	}
	return l.queue[0].seq
}

func (h laneHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push and Pop are for container/heap.
func (h *laneHeap) Push(x any) {
	*h = append(*h, x.(*lane))
}

// Pop is for container/heap.
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
