package webhook

import (
	"context"
	"errors"
	"strings"
	"time"

	"trivium/core/store"
	"trivium/httpapi/event"
)

// ErrFull says that as many events wait for an endpoint as may.
var ErrFull = errors.New("webhook: too much is waiting for the endpoint")

// States of webhook_delivery.
const (
	statePending = iota
	stateDelivered
	stateDead
)

// Want implements event.Consumer: what endpoints take the event becomes a row each.
// ErrFull refuses an event to a gateway domain whose endpoint has too many; others
// that have drop it.
func (s *Service) Want(ev *event.Event) (event.Wish, error) {
	var wants []want
	taken := false
	for _, e := range *s.list.Load() {
		d := e.def.Load()
		if e.gone.Load() || !d.takes(ev) {
			continue
		}
		if e.stats.pending.Add(1) > int64(s.opts.MaxPending) {
			e.stats.pending.Add(-1)
			if d.domains[ev.Host] {
				for _, w := range wants {
					w.endpoint.stats.pending.Add(-1)
				}
				return event.Wish{}, ErrFull
			}
			if e.stats.dropped.Add(1)%1000 == 1 {
				s.log.Warn("events are dropped: too many wait for a webhook", "webhook", e.name, "dropped", e.stats.dropped.Load())
			}
			continue
		}
		wants = append(wants, want{endpoint: e})
		taken = taken || d.answers(ev.Host)
	}
	if len(wants) == 0 {
		return event.Wish{}, nil
	}
	w := &wanted{wants: wants}
	lane := laneOf(ev)
	for i := range wants {
		wants[i].item = &item{seq: ev.Seq, lane: lane, since: ev.Time, event: ev}
	}
	return event.Wish{Op: w.insert, Done: w.done, Takes: taken}, nil
}

// want is one endpoint that takes an event, and wanted are all of them.
type want struct {
	endpoint *endpoint
	item     *item
}

type wanted struct{ wants []want }

const insertDelivery = `INSERT INTO webhook_delivery (seq, endpoint, lane, state, attempts, next_try, at, status, latency, reason)
	VALUES (?, ?, ?, 0, 0, 0, ?, 0, 0, '')`

// insert is a store.Op.
func (w *wanted) insert(tx *store.Tx) error {
	for _, x := range w.wants {
		if x.endpoint.removed.Load() {
			continue
		}
		_, err := tx.Exec(insertDelivery, x.item.seq, x.endpoint.id, x.item.lane, x.item.since.UnixMicro())
		if err != nil {
			return err
		}
	}
	return nil
}

// done is called on the store's writer, in the order of the log.
func (w *wanted) done(err error) {
	for _, x := range w.wants {
		if err != nil {
			x.endpoint.stats.pending.Add(-1)
		} else {
			x.endpoint.mail.bring(x.item)
		}
	}
}

// mark is what is to be written of a delivery.
type mark struct {
	seq      int64
	state    int
	attempts int
	next, at int64 // Unix microseconds
	code     int
	latency  int64 // microseconds
	reason   string
}

// maxReason is the most octets of a reason that are kept.
const maxReason = 300

func (it *item) mark(state int) mark {
	m := mark{
		seq: it.seq, state: state, attempts: it.attempts, at: it.since.UnixMicro(), code: it.code,
		latency: it.latency.Microseconds(), reason: it.reason,
	}
	if state == statePending {
		m.next = it.next.UnixMicro()
	} else {
		m.at = time.Now().UnixMicro()
	}
	if len(m.reason) > maxReason {
		m.reason = strings.ToValidUTF8(m.reason[:maxReason], "")
	}
	return m
}

// writeMarks is part of a store.Op. old are deliveries that leave the delivery log.
func (e *endpoint) writeMarks(tx *store.Tx, batch []mark, old []int64) error {
	dead := false
	for i := range batch {
		m := &batch[i]
		_, err := tx.Exec(`UPDATE webhook_delivery SET state = ?, attempts = ?, next_try = ?, at = ?, status = ?, latency = ?, reason = ?
			WHERE seq = ? AND endpoint = ?`, m.state, m.attempts, m.next, m.at, m.code, m.latency, m.reason, m.seq, e.id)
		if err != nil {
			return err
		}
		dead = dead || m.state == stateDead
	}
	for _, seq := range old {
		if _, err := tx.Exec(`DELETE FROM webhook_delivery WHERE seq = ? AND endpoint = ?`, seq, e.id); err != nil {
			return err
		}
	}
	if !dead {
		return nil
	}
	_, err := tx.Exec(`DELETE FROM webhook_delivery WHERE endpoint = ? AND state = 2 AND seq <= (
		SELECT seq FROM webhook_delivery WHERE endpoint = ? AND state = 2 ORDER BY seq DESC LIMIT 1 OFFSET ?)`,
		e.id, e.id, e.service.opts.MaxDead)
	return err
}

// disable notes that an endpoint is gone.
func (s *Service) disable(e *endpoint) {
	url := e.def.Load().URL
	err := s.opts.Store.Submit(func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE webhook_endpoint SET gone = ? WHERE id = ?`, url, e.id)
		return err
	}, func(err error) {
		if err != nil && !errors.Is(err, store.ErrClosed) {
			s.log.Error("that a webhook is gone was not noted", "webhook", e.name, "err", err)
		}
	})
	if err != nil && !errors.Is(err, store.ErrClosed) {
		s.log.Error("that a webhook is gone was not noted", "webhook", e.name, "err", err)
	}
}

// recall reads what waits and the delivery logs. It is part of New.
func (s *Service) recall(ctx context.Context) error {
	byID := map[int64]*endpoint{}
	for _, e := range *s.list.Load() {
		byID[e.id] = e
	}
	rows, err := s.opts.Store.Query(ctx, `SELECT seq, endpoint, lane, state, attempts, next_try, at, status, latency, reason
		FROM webhook_delivery WHERE state <> 2 ORDER BY seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		it := &item{}
		var id, next, at, latency int64
		var state int
		if err := rows.Scan(&it.seq, &id, &it.lane, &state, &it.attempts, &next, &at, &it.code, &latency, &it.reason); err != nil {
			return err
		}
		e := byID[id]
		switch {
		case e == nil:
		case state == stateDelivered:
			e.delivered = append(e.delivered, it.seq)
		default:
			it.latency = time.Duration(latency) * time.Microsecond
			it.since = time.UnixMicro(at)
			if next > 0 {
				it.next = time.UnixMicro(next)
			}
			e.stats.pending.Add(1)
			e.mail.bring(it)
		}
	}
	return rows.Err()
}
