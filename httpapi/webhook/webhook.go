// Package webhook is the road from the event log to programs: events are posted
// to HTTP endpoints, signed by the Standard Webhooks scheme, and what an endpoint
// answers is sent on as the addressed user's reply.
//
// A Service is a consumer of the log. The delivery of an event to an endpoint is a
// row that is committed together with the event, so it exists before whoever caused
// the event gets an acknowledgement. The row says what became of it: it waits, was
// taken (the last ones are kept as a delivery log), or was given up (kept to be
// looked at and replayed). Events that were just committed go to the endpoint from
// memory; the database is read at the start, for retries and when an endpoint is
// behind.
//
// The events of one conversation (event.Conversation) are posted in order, one at a
// time; conversations go in parallel. After a crash the oldest events of a
// conversation may be posted again, with the same webhook-id, and their replies sent
// again with the same stanza id.
//
// Events of a gateway domain that no endpoint takes wait in the log. An endpoint that
// comes to take them, because it was made, changed or enabled, gets them first.
package webhook

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"trivium/bridges/cpim"
	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/wire"
	"trivium/httpapi/event"
)

// Log is what the Service needs of event.Log.
type Log interface {
	event.Appender
	Consume(event.Consumer)
	Get(ctx context.Context, seq int64) (*event.Event, error)
	HeldBy(table string)
	// Given returns the last number given: consumers have been asked about all events
	// up to it.
	Given() int64
	// Waiting, Offer and Requeue are about events that nobody has taken, as event.Log
	// has them.
	Waiting() []string
	Offer(ctx context.Context, host string, upTo int64, choose func([]*event.Event) ([]*event.Event, store.Op)) error
	Requeue(tx *store.Tx, seqs []int64) (done func(), err error)
}

// Watcher is what the Service needs of event.Recorder.
type Watcher interface {
	// Watch replaces the addresses whose messages are recorded for owner.
	Watch(owner string, list []jid.Pattern)
}

// Resolver is net.Resolver, or a part of it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options of New. Log, Router and Store are required; zero values of the rest are
// defaults.
type Options struct {
	Log    Log
	Router *router.Router
	Store  *store.DB
	Logger *slog.Logger
	// Watcher is told what endpoints watch; nil: none may watch anything.
	Watcher Watcher
	// Submit sends a reply; nil: Router.Send. Its errors are those of Router.Send.
	Submit func(ctx context.Context, t *router.Turn, st *stanza.Stanza, rc *router.Receipt) error
	// Transport carries the posts instead of one that guards against addresses
	// in private networks.
	Transport http.RoundTripper
	// Resolver looks hosts of new endpoints up; nil: net.DefaultResolver.
	Resolver Resolver
	// Mapper maps message/cpim; nil: cpim.New(cpim.Options{}).
	Mapper *cpim.Mapper
	// MaxEndpoints is how many endpoints there may be: 1000.
	MaxEndpoints int
	// MaxPending is how many events may wait for one endpoint: 100000. Senders to
	// its gateway domains beyond it get resource-constraint.
	MaxPending int
	// MaxDead is how many events that were given up are kept for one endpoint:
	// 10000. The oldest go first.
	MaxDead int
	// MaxDelivered is how many events that were taken stay in the delivery log of
	// one endpoint: 1000.
	MaxDelivered int
	// Schedule is how long after an attempt that failed the next one comes, the last
	// element from then on; a tenth more or less by chance. The default is Schedule.
	Schedule []time.Duration
	// TripAfter is how many attempts in a row have to fail, because of the endpoint
	// and not of what was posted, before it is taken for down: 5.
	TripAfter int
	// Probe is how long an endpoint that is down is left alone before one post tries
	// whether it is back: 1 min.
	Probe time.Duration
	// Grace is how long posts under way may take to end when Run is told to: 5 s.
	Grace time.Duration
	// Limits of a reply, apart from its octets.
	Limits wire.Limits
}

// Schedule returns the default of Options.Schedule: with the first attempt at once,
// an event is tried eight times in four hours, and every four hours from then on.
func Schedule() []time.Duration {
	return []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour,
	}
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Submit == nil {
		o.Submit = o.Router.Send
	}
	if o.Resolver == nil {
		o.Resolver = systemResolver()
	}
	if o.Mapper == nil {
		o.Mapper = cpim.New(cpim.Options{})
	}
	if len(o.Schedule) == 0 {
		o.Schedule = Schedule()
	}
	for _, d := range []struct {
		value *int
		def   int
	}{{&o.MaxEndpoints, 1000}, {&o.MaxPending, 100000}, {&o.MaxDead, 10000}, {&o.MaxDelivered, 1000}, {&o.TripAfter, 5}} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	if o.Probe <= 0 {
		o.Probe = time.Minute
	}
	if o.Grace <= 0 {
		o.Grace = 5 * time.Second
	}
}

// Service owns the endpoints and the deliveries to them. All methods may be called
// from any goroutine.
type Service struct {
	opts    Options
	log     *slog.Logger
	encoder event.Encoder
	ctx     context.Context // of what is done on behalf of nobody

	// list holds the endpoints by name. It is replaced whole, under change, and read
	// without a lock.
	list   atomic.Pointer[[]*endpoint]
	change sync.Mutex // one change of the endpoints at a time

	numbers atomic.Int64 // the last one given to an event that is not in the log

	mu      sync.Mutex
	onState []func(host string, up bool)
	running context.Context // of Run; nil before
	wg      sync.WaitGroup  // the endpoints that Run has started
	ended   bool            // Run waits for them
}

//go:embed migrations/*.sql
var migrations embed.FS

// New checks the endpoints of the configuration, brings the tables up to date, adds
// the endpoints that were made at run time and makes the Service a consumer of the
// log. Events are posted while Run runs.
func New(ctx context.Context, list []Endpoint, o Options) (*Service, error) {
	if o.Log == nil || o.Router == nil || o.Store == nil {
		return nil, errors.New("webhook: Log, Router and Store are required")
	}
	o.setDefaults()
	s := &Service{opts: o, log: o.Logger, encoder: event.Encoder{Mapper: o.Mapper}, ctx: context.WithoutCancel(ctx)}
	s.list.Store(&[]*endpoint{})
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	if err := o.Store.Migrate(ctx, "webhook", files); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	if err := s.configure(ctx, list); err != nil {
		return nil, err
	}
	if err := s.takeOver(ctx); err != nil {
		return nil, fmt.Errorf("webhook: what waited in an older version's tables: %w", err)
	}
	if err := errors.Join(s.letGo(ctx), s.recall(ctx)); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	o.Log.HeldBy("webhook_delivery")
	o.Log.Consume(s)
	return s, nil
}

// Run posts what waits until ctx ends, then lets posts under way end within
// Options.Grace. It is called once.
func (s *Service) Run(ctx context.Context) {
	s.mu.Lock()
	s.running = ctx
	for _, e := range *s.list.Load() {
		s.launch(e)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.wg.Wait()
}

// launch starts an endpoint if the Service runs; s.mu is held.
func (s *Service) launch(e *endpoint) {
	if s.running == nil || s.ended || e.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.running)
	e.cancel = cancel
	s.wg.Go(func() {
		defer close(e.stopped)
		e.run(ctx)
		cancel()
	})
}

// Status is the state of one endpoint.
type Status struct {
	Name      string     `json:"name" doc:"The endpoint's name."`
	State     string     `json:"state" enum:"up,down,gone" doc:"down: several attempts in a row have failed; gone: it answered 410 and gets nothing more."`
	Breaker   string     `json:"breaker" enum:"closed,half-open,open" doc:"The circuit breaker: open while the endpoint is left alone, half-open while one post tries whether it is back."`
	Pending   int64      `json:"pending" doc:"Events that wait, those being posted among them."`
	Oldest    *time.Time `json:"oldest_pending,omitempty" doc:"Since when the oldest of them waits."`
	Delivered int64      `json:"delivered" doc:"Events taken with 2xx since the server started."`
	Failed    int64      `json:"failed" doc:"Failed attempts since the server started."`
	Dead      int64      `json:"dead" doc:"Events given up since the server started."`
	Dropped   int64      `json:"dropped" doc:"Events for which there was no room among those that wait."`
	Asked     int64      `json:"asked" doc:"Stanzas that were answered at once since the server started."`
	LastCode  int        `json:"last_status,omitempty" doc:"The status code of the last answer."`
	LastTry   *time.Time `json:"last_attempt,omitempty" doc:"When the last attempt ended."`
}

// Status returns the state of every endpoint, by name.
func (s *Service) Status() []Status {
	endpoints := *s.list.Load()
	list := make([]Status, 0, len(endpoints))
	for _, e := range endpoints {
		list = append(list, e.status())
	}
	return list
}

func (e *endpoint) status() Status {
	t := &e.stats
	st := Status{
		Name: e.name, State: "up", Breaker: e.breaker.Load().State().String(), Pending: t.pending.Load(), Delivered: t.delivered.Load(),
		Failed: t.failed.Load(), Dead: t.dead.Load(), Dropped: t.dropped.Load(), Asked: t.asked.Load(), LastCode: int(t.lastCode.Load()),
	}
	if at := t.lastTry.Load(); at != 0 {
		last := time.UnixMilli(at).UTC()
		st.LastTry = &last
	}
	if at := t.oldest.Load(); at != 0 && st.Pending > 0 {
		oldest := time.UnixMicro(at).UTC()
		st.Oldest = &oldest
	}
	switch {
	case e.gone.Load():
		st.State = "gone"
	case e.down.Load():
		st.State = "down"
	}
	return st
}

type stats struct {
	pending, delivered, failed, dead, dropped, asked atomic.Int64

	oldest   atomic.Int64 // Unix microseconds
	lastCode atomic.Int64
	lastTry  atomic.Int64 // Unix milliseconds
}
