package webhook

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"trivium/core/store"
	"trivium/httpapi/event"
)

// Bounds of the events that one endpoint keeps in memory while they wait for their
// first attempt. Others are read from the log when their turn comes.
const (
	heldMax   = 4096
	heldBytes = 16 << 20
)

// endpoint is an Endpoint at work. The fields in the last part belong to run.
type endpoint struct {
	name    string
	id      int64 // in webhook_endpoint; constant once the endpoint is in the list
	fixed   bool
	service *Service

	def       atomic.Pointer[definition]
	version   atomic.Int64
	breaker   atomic.Pointer[breaker]
	gone      atomic.Bool  // it has answered 410
	down      atomic.Bool  // the breaker is not closed
	openUntil atomic.Int64 // Unix microseconds
	removed   atomic.Bool
	stale     atomic.Bool // it takes events again; set before it does
	stats     stats
	warnings  warnings // of answers
	losses    warnings // of events
	mail      mailbox
	asking    chan struct{} // one element for each Ask under way

	cancel  context.CancelFunc // of run; under Service.mu
	stopped chan struct{}      // closed when run has ended

	kept      *definition // of what is in the lanes
	filled    *definition // with which it was last filled
	lanes     map[int64]*lane
	due       laneHeap // lanes that are not busy and have something
	held      int      // items with their event
	heldSize  int
	busy      int // lanes with an event under way
	notUntil  time.Time
	wasDown   bool
	wasGone   bool
	delivered []int64   // the delivery log, oldest first
	aged      bool      // stats.oldest may be wrong
	measured  time.Time // when it was right

	marks  []mark    // to be written
	writes bool      // marks are being written
	write  time.Time // not before
}

func (s *Service) newEndpoint(d *definition) *endpoint {
	e := &endpoint{
		name: d.Name, service: s, lanes: map[int64]*lane{}, stopped: make(chan struct{}),
		mail: mailbox{wake: make(chan struct{}, 1)}, asking: make(chan struct{}, d.Concurrency),
	}
	e.def.Store(d)
	e.breaker.Store(e.newBreaker())
	return e
}

// item is the delivery of one event. Once the endpoint has it, it belongs to run,
// except while it is under way.
type item struct {
	seq      int64
	lane     int64
	attempts int
	next     time.Time    // not before
	since    time.Time    // it waits; what GiveUpAfter counts from
	last     bool         // the next attempt is the last one: it comes when the time is over
	event    *event.Event // nil: in the log
	code     int          // of the last attempt, as in a mark
	latency  time.Duration
	reason   string
}

// outcome is what became of an event that was posted.
type outcome struct {
	it      *item
	def     *definition // that it was posted to
	verdict verdict
	// notBefore is what Retry-After asked for, zero if nothing.
	notBefore time.Time
	probe     bool // it was posted to see whether the endpoint is back
	code      int
	latency   time.Duration
	reason    string
}

type verdict uint8

const (
	taken    verdict = iota // and its replies are safe
	again                   // to be tried again
	hopeless                // the endpoint does not want this one
	gone                    // the endpoint wants nothing more
	left                    // the server stops
)

// mailbox brings run what it has to know from any goroutine, without waiting.
type mailbox struct {
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	mail  mail
	spare mail
}

type mail struct {
	fresh    []*item // committed
	outcomes []outcome
	written  *written
	renewed  bool
}

// written is the end of a write of marks.
type written struct {
	marks []mark
	err   error
}

func (m *mailbox) put(o outcome) {
	m.mu.Lock()
	m.mail.outcomes = append(m.mail.outcomes, o)
	m.mu.Unlock()
	m.notify()
}

func (m *mailbox) bring(list ...*item) {
	m.mu.Lock()
	m.mail.fresh = append(m.mail.fresh, list...)
	m.mu.Unlock()
	m.notify()
}

func (m *mailbox) wrote(w *written) {
	m.mu.Lock()
	m.mail.written = w
	m.mu.Unlock()
	m.notify()
}

func (m *mailbox) renew() {
	m.mu.Lock()
	m.mail.renewed = true
	m.mu.Unlock()
	m.notify()
}

func (m *mailbox) notify() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take empties the mailbox. What it returns is valid until the next take.
func (m *mailbox) take() mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.mail
	clear(m.spare.fresh)
	clear(m.spare.outcomes)
	m.mail = mail{fresh: m.spare.fresh[:0], outcomes: m.spare.outcomes[:0]}
	m.spare = got
	return got
}

// run posts the endpoint's events until ctx ends.
func (e *endpoint) run(ctx context.Context) {
	posts, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		e.receive(e.mail.take())
		var wait time.Duration
		switch d, gone := e.def.Load(), e.gone.Load(); {
		case !e.keep(ctx, d), !gone && !e.fill(ctx, d):
			wait = time.Second
		case gone:
			wait = e.expire()
		default:
			wait = e.dispatch(posts)
		}
		wait = min(wait, e.flush(), e.observe())
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-e.mail.wake:
		case <-timer.C:
		}
	}
	e.stop(abort)
	e.def.Load().close()
}

// keep lets go of what the endpoint does not take any more since it has changed.
func (e *endpoint) keep(ctx context.Context, d *definition) bool {
	if e.kept != nil && e.kept != d && !e.drop(ctx, d) {
		return false
	}
	e.kept = d
	return true
}

// fill queues what waits in the log, when the endpoint may take other events than
// before. The mail has been taken: nothing newer is in a lane.
func (e *endpoint) fill(ctx context.Context, d *definition) bool {
	if !e.stale.Swap(false) && e.filled == d {
		return true
	}
	if !e.backfill(ctx, d) {
		e.stale.Store(true)
		return false
	}
	e.filled = d
	return true
}

func (e *endpoint) receive(m mail) {
	if m.renewed {
		e.notUntil = time.Time{}
		e.dueNow()
	}
	for _, it := range m.fresh {
		e.enter(it)
	}
	for i := range m.outcomes {
		e.settle(&m.outcomes[i])
	}
	if m.written != nil {
		e.wrote(m.written)
	}
}

// stop waits for what is under way, for a time.
func (e *endpoint) stop(abort context.CancelFunc) {
	wait := e.service.opts.Grace
	if e.removed.Load() {
		wait = 0
	}
	grace := time.NewTimer(wait)
	defer grace.Stop()
	last := (<-chan time.Time)(nil)
	for {
		e.receive(e.mail.take())
		e.flush()
		if e.busy == 0 && !e.writes && (len(e.marks) == 0 || last != nil) {
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

// enter puts an event in its lane: behind what is older and what is under way.
func (e *endpoint) enter(it *item) {
	l := e.lanes[it.lane]
	if l == nil {
		l = &lane{key: it.lane}
		e.lanes[it.lane] = l
	}
	if it.event != nil {
		if size := len(it.event.Stanza) + len(it.event.Data); e.held < heldMax && e.heldSize+size <= heldBytes {
			e.held++
			e.heldSize += size
		} else {
			it.event = nil
		}
	}
	e.aged = true
	first := l.head()
	l.insert(it)
	switch {
	case l.busy:
	case first == nil:
		e.schedule(l)
	case l.head() != first:
		l.at = l.head().next
		heap.Fix(&e.due, l.index)
	}
}

// release lets go of an event that was held in memory.
func (e *endpoint) release(it *item) {
	if it.event != nil {
		e.held--
		e.heldSize -= len(it.event.Stanza) + len(it.event.Data)
		it.event = nil
	}
}

// schedule puts a lane that is not busy in the heap by the time of its oldest event;
// an empty one is forgotten.
func (e *endpoint) schedule(l *lane) {
	it := l.head()
	if it == nil {
		delete(e.lanes, l.key)
		return
	}
	l.at = it.next
	heap.Push(&e.due, l)
}

// dueNow lets all lanes be tried at once.
func (e *endpoint) dueNow() {
	for _, l := range e.due {
		l.at = time.Time{}
	}
	heap.Init(&e.due)
}

// dispatch posts what is due, and returns how long nothing else will be.
func (e *endpoint) dispatch(ctx context.Context) time.Duration {
	d := e.def.Load()
	for len(e.due) > 0 {
		if e.busy >= d.Concurrency {
			return time.Hour // an outcome wakes us
		}
		now := time.Now()
		l := e.due[0]
		down := e.down.Load()
		if it := l.head(); now.Sub(it.since) > d.GiveUpAfter && (it.attempts > 0 && !it.last || down) {
			heap.Pop(&e.due)
			if it.reason == "" {
				it.reason = "not taken in time"
			}
			e.giveUp(l, it)
			continue
		}
		if wait := e.notUntil.Sub(now); wait > 0 {
			return wait
		}
		// While the endpoint is down, the breaker says when, and not the schedule.
		if wait := l.at.Sub(now); wait > 0 && !down {
			return wait
		}
		tell, err := e.breaker.Load().Allow()
		if err != nil {
			if err == gobreaker.ErrTooManyRequests {
				return time.Hour // the outcome of the probe wakes us
			}
			return max(time.UnixMicro(e.openUntil.Load()).Sub(now), 0) + time.Millisecond
		}
		heap.Pop(&e.due)
		l.busy = true
		e.busy++
		go e.post(ctx, d, l.head(), tell, down)
	}
	if e.down.Load() && e.busy == 0 {
		return e.ping(ctx, d)
	}
	return time.Hour
}

// ping tries whether an endpoint that is down is back while nothing waits for it.
func (e *endpoint) ping(ctx context.Context, d *definition) time.Duration {
	if wait := time.Until(e.notUntil); wait > 0 {
		return wait
	}
	tell, err := e.breaker.Load().Allow()
	if err == gobreaker.ErrOpenState {
		return max(time.Until(time.UnixMicro(e.openUntil.Load())), 0) + time.Millisecond
	}
	if err != nil {
		return time.Second // somebody asks: the outcome of that may not wake us
	}
	e.busy++
	go func() {
		ev := e.service.trial(e)
		rs, err := e.request(ctx, d, ev)
		v, _, health := judge(ctx, rs, err)
		tell(health)
		o := outcome{def: d, verdict: left, notBefore: retryAfter(rs.after, time.Now())}
		if v == gone {
			o.verdict = gone
		}
		e.mail.put(o)
	}()
	return time.Hour
}

// settle goes on after an event has been posted.
func (e *endpoint) settle(o *outcome) {
	it := o.it
	e.busy--
	if it == nil { // a ping
		e.notUntil = later(e.notUntil, o.notBefore)
		if o.verdict == gone {
			e.goneBy(o.def)
		}
		return
	}
	l := e.lanes[it.lane]
	l.busy = false
	if o.verdict != left {
		it.code, it.latency, it.reason = o.code, o.latency, o.reason
	}
	switch o.verdict {
	case taken:
		it.attempts++
		e.stats.delivered.Add(1)
		e.finish(l, it, stateDelivered)
	case again:
		e.retry(l, it, o)
	case hopeless:
		it.attempts++
		e.giveUp(l, it)
	case gone:
		e.goneBy(o.def)
		e.schedule(l)
	case left:
		e.schedule(l)
	}
}

func (e *endpoint) retry(l *lane, it *item, o *outcome) {
	now := time.Now()
	if o.notBefore.After(now) {
		// RFC 9110 §10.2.3: it speaks for the endpoint, whatever the event.
		e.notUntil = later(e.notUntil, o.notBefore)
	}
	// A probe that came before the event's time does not count for the event.
	if !o.probe || !it.next.After(now) {
		it.attempts++
		limit := it.since.Add(e.def.Load().GiveUpAfter)
		if !now.Before(limit) {
			e.giveUp(l, it)
			return
		}
		it.next = now.Add(e.service.opts.after(it.attempts))
		if it.last = it.next.After(limit); it.last {
			it.next = limit
		}
		it.next = later(it.next, o.notBefore)
	}
	e.release(it)
	e.marks = append(e.marks, it.mark(statePending))
	e.schedule(l)
}

// finish takes an event that was taken or given up out of its lane.
func (e *endpoint) finish(l *lane, it *item, state int) {
	m := it.mark(state)
	if state == stateDelivered {
		e.delivered = append(e.delivered, it.seq)
	}
	e.marks = append(e.marks, m)
	e.release(it)
	l.pop()
	e.schedule(l)
	e.aged = true
}

// giveUp buries the head of a lane; its sender is told when that is written.
func (e *endpoint) giveUp(l *lane, it *item) {
	e.losses.warn(e, "an event was given up", "id", event.FormatID(it.seq), "attempts", it.attempts, "err", it.reason)
	e.finish(l, it, stateDead)
}

// observe tells others how the endpoint is. It returns when it wants to be called
// again.
func (e *endpoint) observe() time.Duration {
	wait := e.measure()
	down, gone := e.down.Load(), e.gone.Load()
	if down == e.wasDown && gone == e.wasGone {
		return wait
	}
	if down != e.wasDown {
		if down {
			e.service.log.Warn("a webhook is down", "webhook", e.name, "status", e.stats.lastCode.Load())
		} else {
			e.service.log.Info("a webhook is up again", "webhook", e.name)
			e.notUntil = time.Time{}
			e.dueNow() // those that waited because it was down
			wait = 0
		}
	}
	e.wasDown, e.wasGone = down, gone
	e.service.tellState(e.def.Load())
	return wait
}

// measure finds out since when the oldest event waits; where that takes some time,
// once a second.
func (e *endpoint) measure() time.Duration {
	if !e.aged {
		return time.Hour
	}
	now := time.Now()
	if wait := e.measured.Add(time.Second).Sub(now); wait > 0 && len(e.lanes) > 256 {
		return wait
	}
	var oldest time.Time
	for _, l := range e.lanes {
		if since := l.head().since; oldest.IsZero() || since.Before(oldest) {
			oldest = since
		}
	}
	e.aged, e.measured = false, now
	if oldest.IsZero() {
		e.stats.oldest.Store(0)
	} else {
		e.stats.oldest.Store(oldest.UnixMicro())
	}
	return time.Hour
}

// flush writes marks, one write at a time: those of meanwhile go together. It returns
// when it wants to be called again.
func (e *endpoint) flush() time.Duration {
	if e.writes || len(e.marks) == 0 {
		return time.Hour
	}
	if wait := time.Until(e.write); wait > 0 {
		return wait
	}
	batch := e.marks
	e.marks = nil
	var old []int64
	if n := len(e.delivered) - e.service.opts.MaxDelivered; n > 0 {
		old = append(old, e.delivered[:n]...)
		e.delivered = append(e.delivered[:0], e.delivered[n:]...)
	}
	e.writes = true
	done := func(err error) { e.written(batch, err) }
	if err := e.service.opts.Store.Submit(func(tx *store.Tx) error { return e.writeMarks(tx, batch, old) }, done); err != nil {
		done(err)
	}
	return time.Hour
}

// written is called on the store's writer.
func (e *endpoint) written(batch []mark, err error) {
	w := &written{batch, err}
	if err == nil {
		settled, dead := int64(0), int64(0)
		for i := range batch {
			switch batch[i].state {
			case stateDead:
				dead++
				settled++
			case stateDelivered:
				settled++
			}
		}
		e.stats.pending.Add(-settled)
		e.stats.dead.Add(dead)
		if dead > 0 {
			go func() { // routing may wait for the store, whose writer this is
				e.bounceAll(batch)
				e.mail.wrote(w)
			}()
			return
		}
	}
	e.mail.wrote(w)
}

// wrote goes on after a write of marks. What could not be written is tried again.
func (e *endpoint) wrote(w *written) {
	e.writes = false
	if w.err == nil {
		return
	}
	if w.err == store.ErrClosed {
		e.marks = nil
		return
	}
	e.service.log.Error("deliveries were not noted", "webhook", e.name, "err", w.err)
	e.marks = append(w.marks, e.marks...)
	e.write = time.Now().Add(time.Second)
}
