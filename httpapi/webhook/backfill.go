package webhook

import (
	"container/heap"
	"context"
	"errors"
	"math"
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
	rows, err := tx.Query(`SELECT event_log.seq, event_log.host FROM webhook_delivery JOIN event_log ON event_log.seq = webhook_delivery.seq
		WHERE webhook_delivery.endpoint = ? AND webhook_delivery.state = 0 ORDER BY event_log.seq`, id)
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
		if !s.answered(host, nil) {
			seqs = append(seqs, seq)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	return s.opts.Log.Requeue(tx, seqs)
}

// answered tells whether an endpoint in the list, but one, is a program behind one of our
// domains.
func (s *Service) answered(host string, but *endpoint) bool {
	for _, e := range *s.list.Load() {
		if e != but && e.def.Load().answers(host) {
			return true
		}
	}
	return false
}

// letGo lets what waits for endpoints that are not there, since the configuration has
// them no more, wait for others, as far as it is for gateways. It is part of New.
func (s *Service) letGo(ctx context.Context) error {
	known := map[int64]bool{}
	for _, e := range *s.list.Load() {
		known[e.id] = true
	}
	rows, err := s.opts.Store.Query(ctx, `SELECT id FROM webhook_endpoint`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var lost []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		if !known[id] {
			lost = append(lost, id)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, id := range lost {
		done := func() {}
		err := s.opts.Store.Write(ctx, func(tx *store.Tx) (err error) {
			if done, err = s.requeue(tx, id); err != nil {
				return err
			}
			_, err = tx.Exec(`DELETE FROM webhook_delivery WHERE endpoint = ? AND state = 0 AND seq IN (SELECT seq FROM event_waiting)`, id)
			return err
		})
		if err != nil {
			return err
		}
		done()
	}
	return nil
}
