package event

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/store"
)

// Consumer is told of every event as it is appended, so that what it has to do
// with it is committed together with the event. Webhooks are one.
type Consumer interface {
	// Want returns what is to be done with e. An error refuses the event. It is called
	// under the log's lock, in the order of the log.
	Want(e *Event) (Wish, error)
}

// Wish is what a consumer has to do with an event; the zero Wish is nothing.
type Wish struct {
	// Op is for the transaction that holds the event.
	Op store.Op
	// Done is called when that is committed (on the writer's goroutine: it must not
	// block) or has failed.
	Done func(error)
	// Takes says that the event has found who deals with it, and does not wait.
	Takes bool
}

// Appender is the part of the Log that writers use.
type Appender interface {
	// Append gives e its number and time and queues it. It holds rc, which may be nil,
	// by itself and releases it when the event is committed or has failed; when
	// Append returns an error it has not touched rc. It does not wait, and may be
	// called from any goroutine. Events are committed in the order of their numbers.
	Append(e *Event, rc *router.Receipt) error
}

// Options of NewLog. Store is required; zero values of the rest are defaults.
type Options struct {
	Store  *store.DB
	Logger *slog.Logger
	// Keep is how long events stay: 7 days.
	Keep time.Duration
	// MaxEvents is how many stay: 1000000. The oldest go first, and those that are
	// held (Log.HeldBy) not at all.
	MaxEvents int
	// Tail is how many of the latest events stay in memory: 4096.
	Tail int
	// TailOctets bounds the stanzas and data of those: 16 MiB. What streams have
	// encoded of them comes on top, some three times as much for each format in use.
	TailOctets int
	// MaxWaiting is how many events of one host wait for somebody to take them
	// (Log.Await): 100000. Messages beyond it are refused; other events do not wait.
	MaxWaiting int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Keep <= 0 {
		o.Keep = 7 * 24 * time.Hour
	}
	if o.MaxEvents <= 0 {
		o.MaxEvents = 1_000_000
	}
	if o.Tail <= 0 {
		o.Tail = 4096
	}
	if o.TailOctets <= 0 {
		o.TailOctets = 16 << 20
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = 100_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Log is the log. All methods may be called from any goroutine unless they say
// otherwise.
//
// Writers take one lock, order, for as long as it takes to queue a write; they
// never wait for readers nor for the disk. Readers see an event when it is
// committed, from memory while they keep up and from the database otherwise.
type Log struct {
	opts Options
	db   *store.DB
	log  *slog.Logger

	tail      tail
	trimmed   atomic.Int64 // events up to here may be gone
	held      []string     // tables; constant once Run runs
	base      atomic.Int64 // events that were there at the start, less those removed since
	streams   atomic.Int64
	followers followers
	waiting   waiting

	// order makes events enter the store's queue in the order of their numbers.
	order     sync.Mutex
	seq       int64 // the last number given
	consumers []Consumer
	awaits    func(host string) bool
}

//go:embed migrations/*.sql
var migrations embed.FS

// NewLog brings the tables up to date and returns the log, which goes on above
// every number that it has ever given.
func NewLog(ctx context.Context, o Options) (*Log, error) {
	if o.Store == nil {
		return nil, errors.New("event: Store is required")
	}
	o.setDefaults()
	l := &Log{opts: o, db: o.Store, log: o.Logger, held: []string{"event_waiting"}}
	l.followers.of = map[string][]*follower{}
	l.waiting.counts = map[string]int64{}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if err := l.db.Migrate(ctx, "event", files); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if err := errors.Join(l.recall(ctx), l.recallWaiting(ctx)); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return l, nil
}

// recall reads where the log stands. A new log is said to have been trimmed up to
// its beginning, so that who comes back with a number of another one learns that
// something is missing.
func (l *Log) recall(ctx context.Context) error {
	var last, trimmed, counted, events int64
	if err := l.db.QueryRow(ctx, `SELECT COALESCE(MAX(seq), 0) FROM event_log`).Scan(&last); err != nil {
		return err
	}
	err := l.db.QueryRow(ctx, `SELECT trimmed, counted, events FROM event_state WHERE id = 1`).Scan(&trimmed, &counted, &events)
	now := l.opts.Now().UnixMicro()
	switch {
	case errors.Is(err, sql.ErrNoRows):
		trimmed, counted = now, now
		err = l.db.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO event_state (id, trimmed, counted, events) VALUES (1, ?, ?, 0)`, now, now)
			return err
		})
		if err != nil {
			return err
		}
	case err != nil:
		return err
	}
	// What has come since it was last counted.
	var since int64
	if err := l.db.QueryRow(ctx, `SELECT COUNT(*) FROM event_log WHERE seq > ?`, counted).Scan(&since); err != nil {
		return err
	}
	l.seq = max(last, trimmed, now)
	l.trimmed.Store(trimmed)
	l.base.Store(events + since)
	l.tail.init(l.opts.Tail, l.opts.TailOctets, l.seq)
	return nil
}

// Consume adds a consumer. It is called before the first Append.
func (l *Log) Consume(c Consumer) {
	l.order.Lock()
	defer l.order.Unlock()
	l.consumers = append(l.consumers, c)
}

// Append implements Appender. The error is a consumer's, ErrFull, store.ErrBusy or
// store.ErrClosed.
func (l *Log) Append(e *Event, rc *router.Receipt) error {
	w := &write{log: l, entry: &entry{Event: e}, rc: rc}
	rc.Hold()
	l.order.Lock()
	err := w.queue()
	l.order.Unlock()
	if err != nil {
		w.settled(err)
		// Nobody else knows of the Hold, and who called has one of its own.
		rc.Release(nil)
	}
	return err
}

// write is one event on its way to the store.
type write struct {
	log   *Log
	entry *entry
	rc    *router.Receipt
	waits bool
	ops   []store.Op
	dones []func(error)
}

// queue is called under order.
func (w *write) queue() error {
	l, e := w.log, w.entry.Event
	now := l.opts.Now().UnixMicro()
	e.Seq, e.Time = max(l.seq+1, now), time.UnixMicro(now).UTC()
	l.seq = e.Seq
	taken := false
	for _, c := range l.consumers {
		wish, err := c.Want(e)
		if err != nil {
			return err
		}
		if wish.Op != nil {
			w.ops = append(w.ops, wish.Op)
		}
		if wish.Done != nil {
			w.dones = append(w.dones, wish.Done)
		}
		taken = taken || wish.Takes
	}
	if !taken && l.awaits != nil && e.Type.waits() && l.awaits(e.Host) && !l.Follows(e.Host, e.Type) {
		w.waits = l.waiting.enter(e.Host, l.opts.MaxWaiting)
		if !w.waits && e.Type == Message {
			return ErrFull
		}
	}
	return l.db.Submit(w.insert, w.done)
}

// insert is the store.Op.
func (w *write) insert(tx *store.Tx) error {
	e := w.entry.Event
	_, err := tx.Exec(`INSERT INTO event_log (seq, type, host, sender, recipient, stanza, data, trace, order_key, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.Seq, string(e.Type), e.Host, e.From.String(), e.To.String(), blob(e.Stanza), blob(e.Data), e.Trace, e.Key, e.Time.UnixMicro())
	if err != nil {
		return err
	}
	if w.waits {
		if _, err := tx.Exec(`INSERT INTO event_waiting (host, seq) VALUES (?, ?)`, e.Host, e.Seq); err != nil {
			return err
		}
	}
	for _, op := range w.ops {
		if err := op(tx); err != nil {
			return err
		}
	}
	return nil
}

// blob makes NULL of nothing.
func blob(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// done is called on the store's writer, in the order of the log.
func (w *write) done(err error) {
	if err == nil {
		w.log.tail.push(w.entry)
	}
	w.settled(err)
	w.rc.Release(err)
}

// settled tells those who have to know that the event is in, or not.
func (w *write) settled(err error) {
	if err != nil && w.waits {
		w.log.waiting.add(w.entry.Host, -1)
	}
	for _, done := range w.dones {
		done(err)
	}
}

// Last returns the number of the event that was committed last, or a number
// below all that are to come: from there on Follow tells what is new.
func (l *Log) Last() int64 {
	_, last := l.tail.count()
	return last
}

// Status is the state of the log.
type Status struct {
	Events   int64 `json:"events" doc:"Events that are kept."`
	Appended int64 `json:"appended" doc:"Events appended since the server started."`
	Streams  int64 `json:"streams" doc:"Event streams that are connected."`
}

// Status returns the state of the log.
func (l *Log) Status() Status {
	pushed, _ := l.tail.count()
	return Status{Events: l.base.Load() + pushed, Appended: pushed, Streams: l.streams.Load()}
}

// Register implements module.Module: operators see what Status tells.
func (l *Log) Register(h *module.Host) error {
	h.Figure(
		module.Figure{
			Name: "trivium.events.kept", Unit: "{event}", Level: true, Read: func() int64 { return l.Status().Events },
			Text: "Events in the event log.",
		},
		module.Figure{
			Name: "trivium.events.appended", Unit: "{event}", Read: func() int64 { return l.Status().Appended },
			Text: "Events that were put into the event log.",
		},
		module.Figure{
			Name: "trivium.events.streams", Unit: "{stream}", Level: true, Read: func() int64 { return l.Status().Streams },
			Text: "Event streams that are connected.",
		},
	)
	return nil
}
