package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"trivium/core/store"
	"trivium/httpapi/event"
)

// Delivery is what has become of an event for one endpoint.
type Delivery struct {
	ID       string     `json:"id" doc:"The event's id, which is the webhook-id of all attempts."`
	State    string     `json:"state" enum:"pending,delivered,dead" doc:"dead: it was given up."`
	Attempts int        `json:"attempts" doc:"How often it was posted; the tries while the webhook was down are not counted."`
	Status   int        `json:"status,omitempty" doc:"The status code of the last answer."`
	Latency  float64    `json:"latency_ms,omitempty" doc:"How long the last attempt took, in milliseconds."`
	Reason   string     `json:"reason,omitempty" doc:"Why the last attempt failed."`
	Since    *time.Time `json:"since,omitempty" doc:"Since when a pending one waits."`
	Ended    *time.Time `json:"ended,omitempty" doc:"When it was taken or given up."`
	NextTry  *time.Time `json:"next_attempt,omitempty" doc:"When a pending one that has failed is posted again; earlier when the webhook comes back."`
	Seq      int64      `json:"-"` // of the event
}

// Page chooses part of a list that goes from the latest event to the oldest.
type Page struct {
	Before int64 // the number of an event to go on before; 0: from the latest
	Limit  int   // 1 to 1000; 0: 100
}

func (p *Page) setDefaults() {
	if p.Before <= 0 {
		p.Before = 1<<63 - 1
	}
	if p.Limit <= 0 {
		p.Limit = 100
	}
	p.Limit = min(p.Limit, 1000)
}

var states = [...]string{statePending: "pending", stateDelivered: "delivered", stateDead: "dead"}

const selectDeliveries = `SELECT seq, state, attempts, next_try, at, status, latency, reason FROM webhook_delivery `

// Deliveries returns what waits for an endpoint, the last events that it took and
// those that were given up, latest event first.
func (s *Service) Deliveries(ctx context.Context, name string, p Page) ([]Delivery, error) {
	return s.deliveries(ctx, name, p, selectDeliveries+`WHERE endpoint = ? AND seq < ? ORDER BY seq DESC LIMIT ?`)
}

// Dead returns those that were given up, latest event first.
func (s *Service) Dead(ctx context.Context, name string, p Page) ([]Delivery, error) {
	return s.deliveries(ctx, name, p, selectDeliveries+`WHERE endpoint = ? AND state = 2 AND seq < ? ORDER BY seq DESC LIMIT ?`)
}

func (s *Service) deliveries(ctx context.Context, name string, p Page, query string) ([]Delivery, error) {
	e := s.find(name)
	if e == nil {
		return nil, ErrUnknown
	}
	p.setDefaults()
	rows, err := s.opts.Store.Query(ctx, query, e.id, p.Before, p.Limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []Delivery{}
	for rows.Next() {
		var d Delivery
		var state int
		var next, at, latency int64
		if err := rows.Scan(&d.Seq, &state, &d.Attempts, &next, &at, &d.Status, &latency, &d.Reason); err != nil {
			return nil, err
		}
		d.ID, d.State, d.Latency = event.FormatID(d.Seq), states[state], float64(latency)/1000
		when := time.UnixMicro(at).UTC()
		if state == statePending {
			d.Since = &when
			if next > 0 {
				again := time.UnixMicro(next).UTC()
				d.NextTry = &again
			}
		} else {
			d.Ended = &when
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// Replay lets events that were given up wait again, with all their attempts and all
// their time. It returns how many there were: others than those that were given up
// are passed over, and so are those for which there is no room.
func (s *Service) Replay(ctx context.Context, name string, ids ...string) (int, error) {
	e := s.find(name)
	if e == nil {
		return 0, ErrUnknown
	}
	var seqs []int64
	for _, id := range ids {
		seq, ok := event.ParseID(id)
		if !ok {
			return 0, refused("ids", "has one that is not the id of an event")
		}
		seqs = append(seqs, seq)
	}
	return s.replay(ctx, e, func(tx *store.Tx, now int64, room int) ([]*item, error) {
		var list []*item
		for _, seq := range seqs {
			if len(list) >= room {
				break
			}
			more, err := revive(tx, e, seq, seq, now, 1)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
		}
		return list, nil
	})
}

// ReplayRange is Replay for all of them from one event to another, both included; 0
// is no bound.
func (s *Service) ReplayRange(ctx context.Context, name string, from, to int64) (int, error) {
	e := s.find(name)
	if e == nil {
		return 0, ErrUnknown
	}
	if to == 0 {
		to = 1<<63 - 1
	}
	return s.replay(ctx, e, func(tx *store.Tx, now int64, room int) ([]*item, error) { return revive(tx, e, from, to, now, room) })
}

// replay runs choose in a transaction and hands over what it has revived.
func (s *Service) replay(ctx context.Context, e *endpoint, choose func(tx *store.Tx, now int64, room int) ([]*item, error)) (int, error) {
	now := time.Now().UnixMicro()
	var list []*item
	result := make(chan error, 1)
	err := s.opts.Store.Submit(func(tx *store.Tx) error {
		room := s.opts.MaxPending - int(e.stats.pending.Load())
		var err error
		list, err = choose(tx, now, room)
		return err
	}, func(err error) {
		// Here and not below: the rows wait now, whoever still listens.
		if err == nil {
			e.stats.pending.Add(int64(len(list)))
			e.mail.bring(list...)
		}
		result <- err
	})
	if err != nil {
		return 0, err
	}
	select {
	case err := <-result:
		return len(list), err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// revive lets up to limit dead rows wait again, oldest first.
func revive(tx *store.Tx, e *endpoint, from, to, now int64, limit int) ([]*item, error) {
	if limit <= 0 {
		return nil, nil
	}
	rows, err := tx.Query(`SELECT seq, lane FROM webhook_delivery WHERE endpoint = ? AND state = 2 AND seq >= ? AND seq <= ? ORDER BY seq LIMIT ?`,
		e.id, from, to, limit)
	if err != nil {
		return nil, err
	}
	var list []*item
	for rows.Next() {
		it := &item{since: time.UnixMicro(now)}
		if err := rows.Scan(&it.seq, &it.lane); err != nil {
			return nil, err
		}
		list = append(list, it)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	for _, it := range list {
		_, err := tx.Exec(`UPDATE webhook_delivery SET state = 0, attempts = 0, next_try = 0, at = ?, reason = ''
			WHERE seq = ? AND endpoint = ?`, now, it.seq, e.id)
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Trial is the outcome of Try.
type Trial struct {
	ID      string  `json:"id" doc:"The webhook-id of the post."`
	OK      bool    `json:"ok" doc:"It was answered with 2xx."`
	Status  int     `json:"status,omitempty" doc:"The status code of the answer."`
	Latency float64 `json:"latency_ms" doc:"How long it took, in milliseconds."`
	Error   string  `json:"error,omitempty" doc:"Why it did not work."`
}

// Try posts an event of type test to an endpoint, whatever its state and its filter,
// and tells what has happened. What the endpoint answers is not looked at.
func (s *Service) Try(ctx context.Context, name string) (Trial, error) {
	e := s.find(name)
	if e == nil {
		return Trial{}, ErrUnknown
	}
	ev := s.trial(e)
	rs, err := e.request(ctx, e.def.Load(), ev)
	t := Trial{ID: ev.ID(), Status: rs.code, Latency: float64(rs.took.Microseconds()) / 1000}
	t.OK = rs.code >= 200 && rs.code <= 299 && (err == nil || err == errTooLarge)
	switch {
	case t.OK:
	case err != nil:
		t.Error = err.Error()
	default:
		t.Error = "the status is not 2xx"
	}
	return t, nil
}

// trial returns an event that says nothing.
func (s *Service) trial(e *endpoint) *event.Event {
	data, _ := json.Marshal(map[string]string{"webhook": e.name}) // a string cannot fail
	ev := &event.Event{Type: event.Test, Data: data}
	s.number(ev)
	return ev
}

// offLog is what numbers of events that are not in the log have in common, so that
// their ids are not those of others.
const offLog = 1 << 62

// number gives an event that is not in the log a number and a time.
func (s *Service) number(ev *event.Event) {
	if ev.Seq != 0 {
		return
	}
	now := time.Now()
	for {
		last := s.numbers.Load()
		next := max(last+1, now.UnixMicro())
		if s.numbers.CompareAndSwap(last, next) {
			ev.Seq, ev.Time = next|offLog, now.UTC()
			return
		}
	}
}
