package webhook

import (
	"container/heap"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"trivium/core/store"
	"trivium/httpapi/event"
)

// backfill queues what waits in the log for somebody to take it, as far as the endpoint
// does. It is part of run, which posts nothing meanwhile: what has come since the
// endpoint takes events lies in the mailbox, and goes behind. False: it is to be
// called again.
func (e *endpoint) backfill(ctx context.Context, d *definition) bool {
	for _, host := range e.service.opts.Log.Waiting() {
		if !d.answers(host) {
			continue
		}
		f := &filling{endpoint: e, def: d}
		err := e.service.opts.Log.Offer(ctx, host, math.MaxInt64, func(list []*event.Event) ([]*event.Event, store.Op) {
			f.flush() // the portion before is committed
			return f.choose(list)
		})
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrClosed) && !errors.Is(err, errRemoved) {
				e.service.log.Error("events that wait were not queued for a webhook", "webhook", e.name, "host", host, "err", err)
			}
			return false
		}
		f.flush()
	}
	return true
}

// filling is what backfill has queued of one host.
type filling struct {
	endpoint *endpoint
	def      *definition
	items    []*item
	queued   []*item // in the transaction under way
}

func (f *filling) choose(list []*event.Event) (settled []*event.Event, op store.Op) {
	e := f.endpoint
	if e.gone.Load() || e.removed.Load() || e.def.Load() != f.def {
		return nil, nil // it takes nothing any more, or others
	}
	f.items = f.items[:0]
	for _, ev := range list {
		if f.def.takes(ev) {
			settled = append(settled, ev)
			f.items = append(f.items, &item{seq: ev.Seq, lane: laneOf(ev), since: ev.Time, event: ev})
		}
	}
	if len(settled) == 0 {
		return nil, nil
	}
	return settled, func(tx *store.Tx) error {
		f.queued = f.queued[:0]
		if e.removed.Load() {
			return errRemoved
		}
		for _, it := range f.items {
			res, err := tx.Exec(insertDelivery+` ON CONFLICT DO NOTHING`, it.seq, e.id, it.lane, it.since.UnixMicro())
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil {
				return err
			} else if n > 0 {
				f.queued = append(f.queued, it)
			}
		}
		return nil
	}
}

var errRemoved = errors.New("webhook: the endpoint has been removed")

// flush puts what is committed in its lanes.
func (f *filling) flush() {
	for _, it := range f.queued {
		f.endpoint.stats.pending.Add(1)
		f.endpoint.enter(it)
	}
	f.queued = f.queued[:0]
}

// expire gives up what has waited for too long for an endpoint that is gone. It
// returns after how long there is more.
func (e *endpoint) expire() time.Duration {
	patience := e.def.Load().GiveUpAfter
	wait := time.Hour
	var over []*lane
	now := time.Now()
	for _, l := range e.due {
		left := l.head().since.Add(patience).Sub(now)
		if left <= 0 {
			over = append(over, l)
		} else {
			wait = min(wait, left)
		}
	}
	for _, l := range over {
		it := l.head()
		for ; it != nil && !now.Before(it.since.Add(patience)); it = l.head() {
			if it.reason == "" {
				it.reason = "not taken in time"
			}
			heap.Remove(&e.due, l.index)
			e.giveUp(l, it)
		}
		if it != nil {
			wait = min(wait, it.since.Add(patience).Sub(now))
		}
	}
	return wait
}

// requeue lets what is pending for an endpoint wait in the log for somebody else, but
// for what others have got too. It is part of a store.Op, before the deliveries go; done
// is called when it is committed.
func (s *Service) requeue(tx *store.Tx, id int64) (done func(), err error) {
	rows, err := tx.Query(selectPending, id)
	if err != nil {
		return nil, err
	}
	var seqs []int64
	for rows.Next() {
		var seq int64
		var host string
		if err := rows.Scan(&seq, &host); err != nil {
			return nil, err
		}
		if !s.copied(host) {
			seqs = append(seqs, seq)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	return s.opts.Log.Requeue(tx, seqs)
}

const selectPending = `SELECT event_log.seq, event_log.host FROM webhook_delivery JOIN event_log ON event_log.seq = webhook_delivery.seq
	WHERE webhook_delivery.endpoint = ? AND webhook_delivery.state = 0 ORDER BY event_log.seq`

// answered tells whether an endpoint in the list, but one, is a program behind one of our
// domains.
func (s *Service) answered(host string, but *endpoint) bool {
	return slices.ContainsFunc(*s.list.Load(), func(e *endpoint) bool { return e != but && e.def.Load().answers(host) })
}

// copied tells whether some endpoint gets the events of one of our domains that is not its
// own: also those that are pending for another.
func (s *Service) copied(host string) bool {
	return slices.ContainsFunc(*s.list.Load(), func(e *endpoint) bool {
		d := e.def.Load()
		return d.answers(host) && !d.domains[host]
	})
}

// release lets what is pending for an endpoint wait for others, as far as it is for
// gateways and the endpoint does not take it any more; all of it if d is nil. only chooses
// further. It returns what is not pending any more.
func (s *Service) release(ctx context.Context, id int64, d *definition, only func(seq int64) bool) (released []int64, err error) {
	seqs, err := s.foreign(ctx, id, d, only)
	if err != nil || len(seqs) == 0 {
		return nil, err
	}
	done := func() {}
	err = s.opts.Store.Write(ctx, func(tx *store.Tx) (err error) {
		released = released[:0]
		if done, err = s.opts.Log.Requeue(tx, seqs); err != nil {
			return err
		}
		for _, seq := range seqs {
			res, err := tx.Exec(`DELETE FROM webhook_delivery WHERE endpoint = ? AND seq = ? AND state = 0
				AND EXISTS (SELECT 1 FROM event_waiting WHERE event_waiting.seq = webhook_delivery.seq)`, id, seq)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil {
				return err
			} else if n > 0 {
				released = append(released, seq)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	done()
	return released, nil
}

// foreign returns what release may let go.
func (s *Service) foreign(ctx context.Context, id int64, d *definition, only func(seq int64) bool) (seqs []int64, err error) {
	rows, err := s.opts.Store.Query(ctx, selectPending, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var host string
		if err := rows.Scan(&seq, &host); err != nil {
			return nil, err
		}
		if s.opts.Router.Hosts(host) || d != nil && d.serves(host) || only != nil && !only(seq) || s.copied(host) {
			continue
		}
		if d != nil { // it may watch who has caused the event
			ev, err := s.opts.Log.Get(ctx, seq)
			if err != nil {
				return nil, err
			}
			if d.takes(ev) {
				continue
			}
		}
		seqs = append(seqs, seq)
	}
	return seqs, errors.Join(rows.Err(), rows.Close())
}

// letGo lets what waits for endpoints of the configuration that it has no more, or that
// have other domains, wait for others. It is part of New.
func (s *Service) letGo(ctx context.Context) error {
	known := map[int64]*definition{}
	for _, e := range *s.list.Load() {
		known[e.id] = e.def.Load()
	}
	rows, err := s.opts.Store.Query(ctx, `SELECT id FROM webhook_endpoint`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := s.release(ctx, id, known[id], nil); err != nil {
			return err
		}
	}
	return nil
}

// drop lets what is in the lanes and not taken by d wait for others. It is part of run.
func (e *endpoint) drop(ctx context.Context, d *definition) bool {
	idle := map[int64]bool{}
	for _, l := range e.lanes {
		for i, it := range l.queue {
			if i > 0 || !l.busy {
				idle[it.seq] = true
			}
		}
	}
	s := e.service
	released, err := s.release(ctx, e.id, d, func(seq int64) bool { return idle[seq] })
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
			s.log.Error("events that a webhook takes no more were not left to others", "webhook", e.name, "err", err)
		}
		return false
	}
	if len(released) == 0 {
		return true
	}
	gone := map[int64]bool{}
	for _, seq := range released {
		gone[seq] = true
	}
	e.due = e.due[:0]
	for _, l := range e.lanes {
		l.queue = slices.DeleteFunc(l.queue, func(it *item) bool {
			if gone[it.seq] {
				e.release(it)
			}
			return gone[it.seq]
		})
		if !l.busy {
			e.schedule(l)
		}
	}
	e.aged = true
	e.stats.pending.Add(-int64(len(released)))
	for _, other := range *s.list.Load() { // whose domains they may be by now
		if other != e {
			other.stale.Store(true)
			other.mail.notify()
		}
	}
	return true
}
