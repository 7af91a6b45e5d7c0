// Package metrics measures the server with OpenTelemetry and shows the figures to
// Prometheus. Nothing is measured on the way of a stanza: the instruments are
// observable and read the counters that the parts keep anyway, when somebody
// asks. Labels are few and known at start; no address ever is one.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"trivium/core/c2s"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/store"
	"trivium/httpapi"
	"trivium/httpapi/webhook"
)

// Sources are what is measured; those that are nil are left out.
type Sources struct {
	Router   *router.Router
	Clients  *c2s.Stats
	Store    *store.DB
	REST     *httpapi.Stats
	Webhooks func() []webhook.Status
	Modules  []module.Figure
}

// Metrics measures until Shutdown. It is safe for concurrent use.
type Metrics struct {
	provider *sdk.MeterProvider
	meter    metric.Meter
	handler  http.Handler
}

// Collect starts measuring, the Go runtime included.
func Collect(s Sources) (*Metrics, error) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	provider := sdk.NewMeterProvider(sdk.WithReader(exporter))
	m := &Metrics{
		provider: provider,
		meter:    provider.Meter("trivium"),
		handler:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}),
	}
	if err := errors.Join(runtime.Start(runtime.WithMeterProvider(provider)), m.observe(s)); err != nil {
		return nil, errors.Join(fmt.Errorf("metrics: %w", err), provider.Shutdown(context.Background()))
	}
	return m, nil
}

// Handler answers at /metrics.
func (m *Metrics) Handler() http.Handler { return m.handler }

// Meter is for instruments of other parts, made once, at start.
func (m *Metrics) Meter() metric.Meter { return m.meter }

// Shutdown stops measuring.
func (m *Metrics) Shutdown(ctx context.Context) error { return m.provider.Shutdown(ctx) }

// figure is one number with its labels.
type figure struct {
	value  int64
	labels metric.MeasurementOption
}

var unlabelled = metric.WithAttributeSet(*attribute.EmptySet())

func label(pairs ...string) metric.MeasurementOption {
	var kv []attribute.KeyValue
	for i := 0; i < len(pairs); i += 2 {
		kv = append(kv, attribute.String(pairs[i], pairs[i+1]))
	}
	return metric.WithAttributeSet(attribute.NewSet(kv...))
}

var (
	succeeded = label("result", "ok")
	failed    = label("result", "failed")
	refused   = label("result", "refused")
)

// builder makes instruments and keeps the first errors.
type builder struct {
	meter metric.Meter
	errs  []error
}

// counter is a number that only grows.
func (b *builder) counter(name, unit, text string, read func() []figure) {
	_, err := b.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text),
		metric.WithInt64Callback(observing(read)))
	b.errs = append(b.errs, err)
}

// level is a number that goes up and down.
func (b *builder) level(name, unit, text string, read func() []figure) {
	_, err := b.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text),
		metric.WithInt64Callback(observing(read)))
	b.errs = append(b.errs, err)
}

func observing(read func() []figure) metric.Int64Callback {
	return func(_ context.Context, o metric.Int64Observer) error {
		for _, f := range read() {
			o.Observe(f.value, f.labels)
		}
		return nil
	}
}

func one(read func() int64) func() []figure {
	return func() []figure { return []figure{{read(), unlabelled}} }
}

func (m *Metrics) observe(s Sources) error {
	b := &builder{meter: m.meter}
	if r := s.Router; r != nil {
		b.level("trivium.sessions", "{session}", "Bound sessions.", one(func() int64 { return int64(r.Sessions()) }))
		b.counter("trivium.stanzas.routed", "{stanza}", "Stanzas routed.", one(r.Routed.Load))
	}
	if c := s.Clients; c != nil {
		b.level("trivium.client.streams", "{stream}", "Open connections of clients.", one(c.Streams.Load))
		b.counter("trivium.client.stanzas", "{stanza}", "Stanzas received from clients.", one(c.Stanzas.Load))
		b.counter("trivium.client.stream.errors", "{stream}", "Streams ended by a stream error.", one(c.StreamFails.Load))
		b.level("trivium.client.hibernated", "{session}", "Sessions that wait for their client to resume them.", one(c.Hibernated.Load))
		b.counter("trivium.client.resumptions", "{session}", "Sessions resumed (XEP-0198), or asked for in vain.", func() []figure {
			return []figure{{c.Resumes.Load(), succeeded}, {c.ResumesBad.Load(), failed}}
		})
		b.counter("trivium.client.logins", "{login}", "Logins.", func() []figure {
			return []figure{{c.Logins.Load(), succeeded}, {c.LoginsBad.Load(), failed}}
		})
	}
	if db := s.Store; db != nil {
		b.level("trivium.store.waiting", "{operation}", "Writes that wait.", one(func() int64 { return int64(db.Stats().Waiting) }))
		b.counter("trivium.store.batches", "{batch}", "Transactions.", one(func() int64 { return db.Stats().Batches }))
		b.counter("trivium.store.replays", "{batch}", "Transactions run again because an operation failed.", one(func() int64 { return db.Stats().Replays }))
		b.counter("trivium.store.operations", "{operation}", "Writes.", func() []figure {
			st := db.Stats()
			return []figure{{st.Ops - st.Failed, succeeded}, {st.Failed, failed}}
		})
		b.counter("trivium.store.busy", "ms", "Time spent writing and committing.", one(func() int64 { return db.Stats().Busy.Milliseconds() }))
	}
	if r := s.REST; r != nil {
		b.counter("trivium.rest.messages", "{request}", "Requests to send a message.", func() []figure {
			return []figure{{r.Accepted.Load(), succeeded}, {r.Refused.Load(), refused}, {r.Failed.Load(), failed}}
		})
	}
	for _, f := range s.Modules {
		if f.Level {
			b.level(f.Name, f.Unit, f.Text, one(f.Read))
		} else {
			b.counter(f.Name, f.Unit, f.Text, one(f.Read))
		}
	}
	if s.Webhooks != nil {
		observeWebhooks(b, s.Webhooks)
	}
	return errors.Join(b.errs...)
}

func observeWebhooks(b *builder, read func() []webhook.Status) {
	each := func(get func(webhook.Status) int64, pairs ...string) func() []figure {
		return func() []figure {
			var list []figure
			for _, st := range read() {
				list = append(list, figure{get(st), label(append(pairs, "webhook", st.Name)...)})
			}
			return list
		}
	}
	delivered := each(func(st webhook.Status) int64 { return st.Delivered }, "result", "ok")
	retried := each(func(st webhook.Status) int64 { return st.Failed }, "result", "failed")
	b.counter("trivium.webhook.posts", "{post}", "Attempts to deliver a message.", func() []figure { return append(delivered(), retried()...) })
	b.level("trivium.webhook.pending", "{message}", "Messages that wait for a webhook.", each(func(st webhook.Status) int64 { return st.Pending }))
	b.counter("trivium.webhook.dead", "{message}", "Messages given up.", each(func(st webhook.Status) int64 { return st.Dead }))
	b.counter("trivium.webhook.dropped", "{message}", "Copies for watched accounts that found the outbox full.",
		each(func(st webhook.Status) int64 { return st.Dropped }))
	b.level("trivium.webhook.up", "1", "1 while the webhook answers, 0 while it is down or gone.", each(func(st webhook.Status) int64 {
		if st.State == "up" {
			return 1
		}
		return 0
	}))
}
