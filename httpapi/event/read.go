package event

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"trivium/core/jid"
)

var (
	// ErrUnknown says that there is no event of that number, or not any more.
	ErrUnknown = errors.New("event: unknown")
	// ErrClosed is what a Reader returns once it is closed.
	ErrClosed = errors.New("event: the reader is closed")
)

const (
	batchMax    = 256     // events that a reader gets at once
	batchOctets = 1 << 20 // and about how much, when they come from the database
	scanMax     = 20000   // events that one Read looks at
	readOctets  = 4 << 20 // and about how much it returns
)

// Gap tells whether events after that number are gone. Who begins at 0 misses
// nothing; who comes back with a number that this log has not given does.
func (l *Log) Gap(after int64) bool {
	return after > 0 && (after < l.trimmed.Load() || after > l.Last())
}

// Read returns up to limit events after a number that f, which may be nil, takes,
// oldest first, and the number to go on after. It looks at 20000 events and returns
// some 4 MiB at most: the list may be short or even empty while there are more.
// There are no more when last is after. Gap tells whether some are missing.
func (l *Log) Read(ctx context.Context, f *Filter, after int64, limit int) (list []*Event, last int64, err error) {
	last = after
	var batch []*entry
	octets := 0
	for looked := 0; looked < scanMax && len(list) < limit; {
		var behind bool
		batch, behind, _ = l.tail.from(last, batchMax, batch[:0])
		if behind {
			if batch, last, err = l.load(ctx, nil, last, batchMax, batch); err != nil {
				return nil, after, err
			}
		}
		if len(batch) == 0 {
			break
		}
		for _, e := range batch {
			looked++
			last = e.Seq
			if f == nil || f.Match(e.Event) {
				list = append(list, e.Event)
				if octets += len(e.Stanza) + len(e.Data); len(list) == limit || octets >= readOctets {
					return list, last, nil
				}
			}
		}
	}
	return list, last, nil
}

// Get returns one event. The error is ErrUnknown when there is none.
func (l *Log) Get(ctx context.Context, seq int64) (*Event, error) {
	if e := l.tail.get(seq); e != nil {
		return e, nil
	}
	e, err := scanEvent(l.db.QueryRow(ctx, selectEvents+`WHERE seq = ?`, seq))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrUnknown
	}
	return e, err
}

const selectEvents = `SELECT seq, type, host, sender, recipient, stanza, data, trace, order_key, created FROM event_log `

// load appends those of up to limit events after a number that f takes to list,
// from the database, and returns the number of the last it has looked at. When
// that is the end, it is at least that of the last event committed before.
func (l *Log) load(ctx context.Context, f *Filter, after int64, limit int, list []*entry) (_ []*entry, last int64, err error) {
	committed := l.Last()
	rows, err := l.db.Query(ctx, selectEvents+`WHERE seq > ? ORDER BY seq LIMIT ?`, after, limit)
	if err != nil {
		return list, after, err
	}
	defer rows.Close()
	last = after
	looked, octets := 0, 0
	for octets < batchOctets && rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return list, after, err
		}
		last = e.Seq
		looked++
		if f == nil || f.Match(e) {
			list = append(list, &entry{Event: e})
			octets += len(e.Stanza) + len(e.Data)
		}
	}
	if err := rows.Err(); err != nil {
		return list, after, err
	}
	if looked < limit && octets < batchOctets {
		last = max(last, committed)
	}
	return list, last, nil
}

type scanner interface{ Scan(...any) error }

func scanEvent(row scanner) (*Event, error) {
	e := &Event{}
	var typ, from, to string
	var created int64
	if err := row.Scan(&e.Seq, &typ, &e.Host, &from, &to, &e.Stanza, &e.Data, &e.Trace, &e.Key, &created); err != nil {
		return nil, err
	}
	e.Type, e.Time = Type(typ), time.UnixMicro(created).UTC()
	var err error
	if e.From, err = address(from); err == nil {
		e.To, err = address(to)
	}
	if err != nil {
		return nil, fmt.Errorf("event: %s is damaged: %w", e.ID(), err)
	}
	return e, nil
}

func address(s string) (jid.JID, error) {
	if s == "" {
		return jid.JID{}, nil
	}
	return jid.Parse(s)
}

// Reader follows the log. Next and Gap belong to one goroutine, Close to any.
type Reader struct {
	log    *Log
	filter *Filter
	after  int64 // the last number looked at
	gap    bool
	told   int64 // where a gap has been seen
	batch  []*entry
	closed chan struct{}
	once   sync.Once
}

// Follow returns a reader of the events after a number that f, which may be nil,
// takes: 0 for all that are kept, Last for those to come. f must not change any
// more. The reader costs nothing but memory while it is not in Next.
func (l *Log) Follow(f *Filter, after int64) *Reader {
	r := &Reader{log: l, filter: f, after: after, closed: make(chan struct{})}
	if l.Gap(after) {
		r.gap, r.told = true, after
	}
	if last := l.Last(); after > last {
		r.after = last // a number of another log: it would hide what comes
	}
	return r
}

// Next waits for events and returns up to 256 of them: at least one, unless it has
// just come upon a gap. The error is ctx's, ErrClosed or the store's; after the store's it may be called again.
func (r *Reader) Next(ctx context.Context) ([]*Event, error) {
	batch, err := r.next(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]*Event, len(batch))
	for i, e := range batch {
		list[i] = e.Event
	}
	return list, nil
}

// next returns a list that is valid until it is called again.
func (r *Reader) next(ctx context.Context) ([]*entry, error) {
	gap := r.gap
	for {
		batch, wake, err := r.poll(ctx)
		if err != nil || len(batch) > 0 || r.gap && !gap {
			return batch, err
		}
		if wake == nil {
			continue
		}
		select {
		case <-wake:
		case <-r.closed:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// poll returns what there is. When that is nothing it has gone on, or wake is
// closed when there is something.
func (r *Reader) poll(ctx context.Context) (batch []*entry, wake <-chan struct{}, err error) {
	select {
	case <-r.closed:
		return nil, nil, ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	clear(r.batch)
	list, behind, wake := r.log.tail.from(r.after, batchMax, r.batch[:0])
	if behind {
		list, last, err := r.log.load(ctx, r.filter, r.after, batchMax, list)
		if err != nil {
			return nil, nil, err
		}
		// What was trimmed is marked so before it goes.
		if r.after > 0 && r.after != r.told && r.after < r.log.trimmed.Load() {
			r.gap, r.told = true, r.after
		}
		r.after, r.batch = last, list
		return list, nil, nil
	}
	if len(list) > 0 {
		r.after = list[len(list)-1].Seq
	}
	r.batch = list
	if r.filter != nil {
		list = keep(list, r.filter)
	}
	return list, wake, nil
}

// keep filters in place.
func keep(list []*entry, f *Filter) []*entry {
	kept := list[:0]
	for _, e := range list {
		if f.Match(e.Event) {
			kept = append(kept, e)
		}
	}
	return kept
}

// Gap tells whether events that the reader should have got are gone, and forgets
// it: they were trimmed before it came by.
func (r *Reader) Gap() bool {
	gap := r.gap
	r.gap = false
	return gap
}

// Close ends a Next that waits, and all later ones.
func (r *Reader) Close() { r.once.Do(func() { close(r.closed) }) }
