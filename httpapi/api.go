// Package httpapi is the REST road into the server: programs send messages with
// one HTTP POST and a bearer token, and learn from the answer that the message
// is safe. It also serves what operators and web clients look up over HTTP:
// metrics, health, and the alternative connection methods of XEP-0156.
//
//spec:rfc-9457 complete | Problem Details for HTTP APIs | errors of the REST interface
//spec:rfc-6750 complete | Bearer Token Usage | §2.1 and §3; tokens are never read from URLs or forms
//spec:rfc-6415 partial | Web Host Metadata | host-meta in both formats, with the links of XEP-0156
//spec:xep-0156 1.4.0 complete | Discovering Alternative XMPP Connection Methods | for each host that is asked for
package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/puzpuzpuz/xsync/v4"
	"golang.org/x/time/rate"

	"trivium/core/admin"
	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/wire"
	"trivium/httpapi/webhook"
)

// Options of New. Router and Auth are required; zero values of the rest are
// defaults.
type Options struct {
	Router *router.Router
	Auth   *auth.Service
	// Exists tells whether a bare address is an account; those of Auth if nil.
	Exists func(context.Context, jid.JID) (bool, error)
	// MaxBody is the most octets of a request: 256 KiB.
	MaxBody int64
	// Limits of one message, apart from its octets.
	Limits wire.Limits
	// Timeout is how long a request waits for its message to be safe: 30 s.
	Timeout time.Duration
	// Rate is how many requests a second one token may make in the long run, and
	// the most at once. 0: no limit.
	Rate int
	// Origins are the web origins whose pages may use the interface: exact ones,
	// or "*". None by default.
	Origins []string
	// Webhooks tells the state of the webhook endpoints; nil: there are none.
	Webhooks func() []webhook.Status
	// Operations are the operator's; those that users have on their own accounts are
	// offered to tokens that may speak for them. Nil: none.
	Operations *admin.Registry
	Version    string // of the server, told by the OpenAPI document
	Logger     *slog.Logger
}

// API is the REST interface. It is safe for concurrent use.
type API struct {
	opts      Options
	log       *slog.Logger
	document  []byte // openapi.json
	stanzaMax int
	limiters  *xsync.Map[string, *rate.Limiter] // by token ID

	Stats Stats
}

// Stats are running counts of requests to send.
type Stats struct {
	Accepted atomic.Int64 // answered with 202
	Refused  atomic.Int64 // answered with 4xx
	Failed   atomic.Int64 // answered with 5xx
}

// New returns an API. Mount puts it under a path.
func New(o Options) (*API, error) {
	if o.Router == nil || o.Auth == nil {
		return nil, errors.New("httpapi: Router and Auth are required")
	}
	if o.Exists == nil {
		o.Exists = o.Auth.Exists
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 256 << 10
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	doc, err := document(o)
	if err != nil {
		return nil, err
	}
	limit := o.Limits.Bytes
	if limit <= 0 {
		limit = wire.DefaultLimits().Bytes
	}
	return &API{opts: o, log: o.Logger, document: doc, stanzaMax: limit, limiters: xsync.NewMap[string, *rate.Limiter]()}, nil
}

// Mount registers the interface on r, which stands for its path: use it as
// r.Route("/api/v1", api.Mount).
func (a *API) Mount(r chi.Router) {
	r.Use(a.middlewares()...)
	r.Post("/messages", a.postMessage)
	get(r, "/webhooks", a.getWebhooks)
	get(r, "/openapi.json", a.getDocument)
	a.mountDevices(r)
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		problem(http.StatusNotFound, "There is nothing at this path.").write(w)
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, rq *http.Request) {
		// RFC 9110 §15.5.6: the answer names the methods that are allowed.
		if rc := chi.RouteContext(rq.Context()); rc != nil && rc.Routes != nil {
			var allow []string
			for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
				if rc.Routes.Match(chi.NewRouteContext(), m, rq.URL.Path) {
					allow = append(allow, m)
				}
			}
			w.Header().Set("Allow", strings.Join(allow, ", "))
		}
		problem(http.StatusMethodNotAllowed, "").write(w)
	})
}

// middlewares are what every request goes through, outermost first.
func (a *API) middlewares() chi.Middlewares {
	var all chi.Middlewares
	if len(a.opts.Origins) > 0 {
		all = append(all, a.cors)
	}
	return all
}

// Direct returns h with the requests that programs make by the thousand taken past
// it: a router copies a request to keep its own state with it, which is a twentieth
// of what sending a message costs. The interface is mounted at prefix in h.
func (a *API) Direct(prefix string, h http.Handler) http.Handler {
	post := a.middlewares().HandlerFunc(a.postMessage)
	path := prefix + "/messages"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == path {
			post.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// get registers a handler for GET and HEAD (RFC 9110 §9.1: every resource has
// both); net/http keeps the content of the latter back.
func get(r chi.Router, path string, h http.HandlerFunc) {
	r.Get(path, h)
	r.Head(path, h)
}

func (a *API) getDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.document)
}

// challenge is the start of WWW-Authenticate (RFC 6750 §3).
const challenge = `Bearer realm="trivium"`

// authenticate returns the token of a request, or the problem: it looks at the
// Authorization header and nothing else (RFC 6750 §2.1).
func (a *API) authenticate(w http.ResponseWriter, r *http.Request) (auth.Token, *Problem) {
	header := r.Header["Authorization"]
	if len(header) != 1 {
		w.Header()["Www-Authenticate"] = []string{challenge}
		return auth.Token{}, problem(http.StatusUnauthorized, "A bearer token is needed.")
	}
	scheme, secret, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		w.Header()["Www-Authenticate"] = []string{challenge}
		return auth.Token{}, problem(http.StatusUnauthorized, "A bearer token is needed.")
	}
	t, err := a.opts.Auth.CheckToken(r.Context(), secret)
	switch {
	case errors.Is(err, auth.ErrToken):
		w.Header()["Www-Authenticate"] = []string{challenge + `, error="invalid_token"`} // RFC 6750 §3.1
		return t, problem(http.StatusUnauthorized, "The token is not valid.")
	case err != nil:
		a.log.Error("token not checked", "err", err)
		p, _ := problemOf(err)
		return t, p
	}
	if a.opts.Rate > 0 {
		l, _ := a.limiters.LoadOrCompute(t.ID, func() (*rate.Limiter, bool) {
			return rate.NewLimiter(rate.Limit(a.opts.Rate), a.opts.Rate), false
		})
		if !l.Allow() {
			w.Header().Set("Retry-After", "1")
			return t, problem(http.StatusTooManyRequests, "")
		}
	}
	return t, nil
}

// cors lets pages of configured origins in. Credentials of the browser are never
// allowed: tokens travel in a header that the page sets.
func (a *API) cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		any := slices.Contains(a.opts.Origins, "*")
		if !any {
			h.Add("Vary", "Origin")
		}
		origin := r.Header.Get("Origin")
		switch {
		case origin == "":
		case any:
			h.Set("Access-Control-Allow-Origin", "*")
		case slices.Contains(a.opts.Origins, origin):
			h.Set("Access-Control-Allow-Origin", origin)
		default:
			origin = ""
		}
		if origin != "" && r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *API) getWebhooks(w http.ResponseWriter, r *http.Request) {
	if _, p := a.authenticate(w, r); p != nil {
		p.write(w)
		return
	}
	list := WebhookList{Webhooks: []webhook.Status{}}
	if a.opts.Webhooks != nil {
		list.Webhooks = append(list.Webhooks, a.opts.Webhooks()...)
	}
	writeJSON(w, http.StatusOK, &list)
}
