package event

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"trivium/core/store"
)

// ErrFull refuses a message because as many events of its host wait as may.
var ErrFull = errors.New("event: too much is waiting")

// waiting knows how many events of each host wait: those of event_waiting and those
// on their way there.
type waiting struct {
	// claims lets one Offer at a time look at events that nobody else settles meanwhile.
	claims sync.RWMutex

	mu     sync.Mutex
	counts map[string]int64
}

func (w *waiting) add(host string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n += w.counts[host]; n > 0 {
		w.counts[host] = n
	} else {
		delete(w.counts, host)
	}
}

// enter counts one more, if there are less than so many.
func (w *waiting) enter(host string, below int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[host] >= int64(below) {
		return false
	}
	w.counts[host]++
	return true
}

func (w *waiting) count(host string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[host]
}

// Await says whose events wait when nobody takes them as they come: no consumer, and
// no stream that serves the host. f is called under the log's lock and must not block.
// Await is called before traffic.
func (l *Log) Await(f func(host string) bool) {
	l.order.Lock()
	defer l.order.Unlock()
	l.awaits = f
}

// waits tells whether events of a type wait. A request does not: its sender was told
// long ago that nobody answers.
func (t Type) waits() bool { return t != IQ && t != Test }

// Waiting returns the hosts of which events wait.
func (l *Log) Waiting() []string {
	l.waiting.mu.Lock()
	defer l.waiting.mu.Unlock()
	return slices.Sorted(maps.Keys(l.waiting.counts))
}

// Offer goes over the events of a host that wait, oldest first and no later than a
// number. choose is given some at a time and returns those that it settles, which then
// wait no more, and what to do in the transaction in which that is written, which may be
// nil. It may be given the same events again after a crash.
//
// What was appended before the call is offered, so that somebody who first lets
// events come to him and then has himself offered what waits misses none.
func (l *Log) Offer(ctx context.Context, host string, upTo int64, choose func([]*Event) ([]*Event, store.Op)) error {
	upTo = min(upTo, l.Given()) // whoever has decided before has queued it
	if l.waiting.count(host) == 0 {
		return nil
	}
	if err := l.db.Sync(ctx); err != nil {
		return err
	}
	for after := int64(0); ; {
		last, err := l.offer(ctx, host, after, upTo, choose)
		if err != nil || last == after {
			return err
		}
		after = last
	}
}

// Given returns the last number that was given. Consumers have been asked about all
// events up to it: what they become after the call holds for later ones, and what they
// were before no more.
func (l *Log) Given() int64 {
	l.order.Lock()
	defer l.order.Unlock()
	return l.seq
}

// offer is one step of Offer. It returns after when there is nothing more.
func (l *Log) offer(ctx context.Context, host string, after, upTo int64, choose func([]*Event) ([]*Event, store.Op)) (last int64, err error) {
	l.waiting.claims.Lock()
	defer l.waiting.claims.Unlock()
	list, err := l.waitingAfter(ctx, host, after, upTo)
	if err != nil || len(list) == 0 {
		return after, err
	}
	last = list[len(list)-1].Seq
	settled, op := choose(list)
	if len(settled) == 0 && op == nil {
		return last, nil
	}
	var removed int64
	err = l.db.Write(ctx, func(tx *store.Tx) error {
		removed = 0
		if op != nil {
			if err := op(tx); err != nil {
				return err
			}
		}
		for _, e := range settled {
			res, err := tx.Exec(`DELETE FROM event_waiting WHERE host = ? AND seq = ?`, host, e.Seq)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			removed += n
		}
		return nil
	})
	if err == nil {
		l.waiting.add(host, -removed)
	}
	return last, err
}

func (l *Log) waitingAfter(ctx context.Context, host string, after, upTo int64) (list []*Event, err error) {
	rows, err := l.db.Query(ctx, selectEvents+`WHERE seq IN (SELECT seq FROM event_waiting WHERE host = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?)
		ORDER BY seq`, host, after, upTo, batchMax)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}

// settle forgets that events of a host wait: those after one number and up to another,
// of some types or of all.
func (l *Log) settle(ctx context.Context, host string, types []Type, after, upTo int64) error {
	if after >= upTo || l.waiting.count(host) == 0 {
		return nil
	}
	l.waiting.claims.RLock()
	defer l.waiting.claims.RUnlock()
	var removed int64
	err := l.db.Write(ctx, func(tx *store.Tx) (err error) {
		removed, err = settle(tx, host, types, after, upTo)
		return err
	})
	if err == nil {
		l.waiting.add(host, -removed)
	}
	return err
}

// settle is part of a store.Op.
func settle(tx *store.Tx, host string, types []Type, after, upTo int64) (removed int64, err error) {
	if len(types) == 0 {
		types = []Type{""}
	}
	for _, t := range types {
		res, err := tx.Exec(`DELETE FROM event_waiting WHERE host = ? AND seq > ? AND seq <= ?
			AND (? = '' OR seq IN (SELECT seq FROM event_log WHERE event_log.seq = event_waiting.seq AND type = ?))`,
			host, after, upTo, string(t), string(t))
		if err != nil {
			return 0, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return 0, err
		}
		removed += n
	}
	return removed, nil
}

// Requeue lets events wait again that somebody had taken who will not deal with them.
// It is part of a store.Op; done is called when that is committed. Those that do not
// wait (Await) are passed over.
func (l *Log) Requeue(tx *store.Tx, seqs []int64) (done func(), err error) {
	back := map[string]int64{}
	for _, seq := range seqs {
		var host, typ string
		if err := tx.QueryRow(`SELECT host, type FROM event_log WHERE seq = ?`, seq).Scan(&host, &typ); err != nil {
			return nil, err
		}
		if l.awaits == nil || !Type(typ).waits() || !l.awaits(host) {
			continue
		}
		res, err := tx.Exec(`INSERT INTO event_waiting (host, seq) VALUES (?, ?) ON CONFLICT DO NOTHING`, host, seq)
		if err != nil {
			return nil, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return nil, err
		}
		back[host] += n
	}
	return func() {
		for host, n := range back {
			l.waiting.add(host, n)
		}
	}, nil
}

// recallWaiting counts what waits. It is part of NewLog.
func (l *Log) recallWaiting(ctx context.Context) error {
	rows, err := l.db.Query(ctx, `SELECT host, COUNT(*) FROM event_waiting GROUP BY host`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var host string
		var n int64
		if err := rows.Scan(&host, &n); err != nil {
			return err
		}
		l.waiting.counts[host] = n
	}
	return errors.Join(rows.Err(), rows.Close())
}
