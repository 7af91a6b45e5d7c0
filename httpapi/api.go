// Package httpapi is the REST road into the server: programs send messages with
// one HTTP POST and a bearer token, and learn from the answer that the message
// is safe. They follow what happens as a stream of events, and manage accounts,
// webhooks, gateways and tokens. The package also serves what operators and web
// clients look up over HTTP: metrics, health, and the alternative connection
// methods of XEP-0156.
//
// Most routes are declared in tables (see route): one entry says what answers a
// request, what it may hold, and how the OpenAPI document tells of it, so that
// what is refused and what is documented cannot differ. Routes on the way of
// messages are plain handlers.
//
//spec:rfc-9457 complete | Problem Details for HTTP APIs | errors of the REST interface
//spec:rfc-6750 complete | Bearer Token Usage | §2.1 and §3; tokens are never read from URLs or forms
//spec:rfc-6415 partial | Web Host Metadata | host-meta in both formats, with the links of XEP-0156
//spec:xep-0156 1.4.0 complete | Discovering Alternative XMPP Connection Methods | for each host that is asked for
package httpapi

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"trivium/core/admin"
	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/wire"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
	"trivium/httpapi/upload"
	"trivium/httpapi/webhook"
)

// Options of New. Router and Auth are required; zero values of the rest are
// defaults, or leave out what they would serve.
type Options struct {
	Router *router.Router
	Auth   *auth.Service
	// Exists tells whether a bare address is an account; those of Auth if nil.
	Exists func(context.Context, jid.JID) (bool, error)
	// Hosts are the virtual hosts, whose accounts can be administered.
	Hosts []string
	// Ask sends an iq request on behalf of its sender and returns the answer:
	// module.Host.Ask. Rosters are read and changed with it.
	Ask func(context.Context, *stanza.Stanza) (*stanza.Stanza, error)
	// Archive is what messages of accounts are read from.
	Archive Archive
	// Messages are the options of sending.
	Messages MessageOptions
	// MaxBody is the most octets of a request: 256 KiB.
	MaxBody int64
	// Limits of one message, apart from its octets.
	Limits wire.Limits
	// Timeout is how long a request waits for its message to be safe, and for the
	// answer to what it asks: 30 s.
	Timeout time.Duration
	// Rate is how many requests a second one token may make in the long run, and
	// the most at once, unless the token says otherwise. 0: no limit.
	Rate int
	// Origins are the web origins whose pages may use the interface: exact ones,
	// or "*". None by default.
	Origins []string
	// Events is the event log as a stream. Its Encoder is required.
	Events *event.Stream
	// Webhooks are the endpoints that events are posted to.
	Webhooks *webhook.Service
	// Gateways are the domains that programs serve.
	Gateways *gateway.Registry
	// Uploads keeps files.
	Uploads *upload.Service
	// Operations are the operator's; those that users have on their own accounts are
	// offered to tokens that may speak for them. Nil: none.
	Operations *admin.Registry
	// Figures are what modules count, and Store what they write to, told by GET /stats.
	Figures []module.Figure
	Store   *store.DB
	// Tracer makes a span of each request. Nil: none, and the traceparent of a
	// request is passed on as it came.
	Tracer  trace.Tracer
	Version string // of the server, told by the OpenAPI document
	Logger  *slog.Logger
}

// API is the REST interface. It is safe for concurrent use.
type API struct {
	opts      Options
	log       *slog.Logger
	started   time.Time
	table     []route
	schemas   huma.Registry
	document  []byte // openapi.json
	etag      string // of document
	stanzaMax int
	anyOrigin bool
	ids       requestIDs
	limits    *limiters
	edits     stripes // of resources that are read, compared and replaced
	open      held    // streams of tokens
	asks      held    // requests of tokens that wait for their answers

	Stats Stats
}

// Stats are running counts of requests to send.
type Stats struct {
	Accepted atomic.Int64 // answered with 2xx
	Refused  atomic.Int64 // answered with 4xx
	Failed   atomic.Int64 // answered with 5xx
}

// count counts what was answered with a status.
func (s *Stats) count(status int) {
	switch {
	case status < 400:
		s.Accepted.Add(1)
	case status < 500:
		s.Refused.Add(1)
	default:
		s.Failed.Add(1)
	}
}

// New returns an API. Mount puts it under a path.
func New(o Options) (*API, error) {
	if o.Router == nil || o.Auth == nil {
		return nil, errors.New("httpapi: Router and Auth are required")
	}
	if o.Exists == nil {
		o.Exists = o.Auth.Exists
	}
	o.Messages.setDefaults()
	if o.MaxBody <= 0 {
		o.MaxBody = 256 << 10
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if _, none := o.Tracer.(noop.Tracer); none { // spares each request a context
		o.Tracer = nil
	}
	limit := o.Limits.Bytes
	if limit <= 0 {
		limit = wire.DefaultLimits().Bytes
	}
	limits, err := newLimiters(o.Rate)
	if err != nil {
		return nil, err
	}
	a := &API{
		opts: o, log: o.Logger, started: time.Now(), stanzaMax: limit, limits: limits,
		anyOrigin: slices.Contains(o.Origins, "*"), ids: newRequestIDs(), edits: stripes{seed: maphash.MakeSeed()},
	}
	a.table = a.routes()
	doc, schemas := a.openAPI()
	a.schemas = schemas
	if a.document, err = marshal(doc); err != nil {
		return nil, err
	}
	a.etag = etagOf(a.document)
	return a, nil
}

// routes are those of the tables, in the order of the document.
func (a *API) routes() []route {
	return slices.Concat(
		a.messageRoutes(), a.accountRoutes(), a.sessionRoutes(), a.rosterRoutes(), a.archiveRoutes(),
		a.uploadRoutes(), a.eventRoutes(), a.webhookRoutes(), a.gatewayRoutes(), a.tokenRoutes(), a.auditRoutes(), a.statsRoutes(),
	)
}

// Mount registers the interface on r, which stands for its path: use it as
// r.Route("/api/v1", api.Mount).
func (a *API) Mount(r chi.Router) {
	r.Use(a.edge)
	a.mountMessages(r)
	r.Group(func(r chi.Router) {
		r.Use(compress)
		for _, rt := range a.table {
			a.mount(r, rt)
		}
		a.mountDocs(r)
	})
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		problem(http.StatusNotFound, "There is nothing at this path.").write(w)
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, rq *http.Request) {
		// RFC 9110 §15.5.6: the answer names the methods that are allowed.
		if rc := chi.RouteContext(rq.Context()); rc != nil && rc.Routes != nil {
			path := rq.URL.Path
			if rq.URL.RawPath != "" {
				path = rq.URL.RawPath // it is what was routed
			}
			w.Header().Set("Allow", strings.Join(allowed(rc.Routes, path), ", "))
		}
		problem(http.StatusMethodNotAllowed, "").write(w)
	})
}

// allowed returns the methods of the route that a path is meant for: one without
// parameters comes before those that have some.
func allowed(routes chi.Routes, path string) (allow []string) {
	plain := false
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		pattern := routes.Find(chi.NewRouteContext(), m, path)
		exact := pattern != "" && !strings.ContainsAny(pattern, "{*")
		switch {
		case pattern == "" || plain && !exact:
			continue
		case exact && !plain:
			plain, allow = true, nil
		}
		allow = append(allow, m)
	}
	return allow
}

// get registers a handler for GET and HEAD (RFC 9110 §9.1: every resource has
// both); net/http keeps the content of the latter back.
func get(r chi.Router, path string, h http.HandlerFunc) {
	r.Get(path, h)
	r.Head(path, h)
}
