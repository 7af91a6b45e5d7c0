package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"trivium/bosh"
	"trivium/config"
	"trivium/core/stream"
	"trivium/httpapi"
	"trivium/httpapi/event"
	"trivium/httpapi/metrics"
	uploads "trivium/httpapi/upload"
	"trivium/websocket"
)

// web is everything that HTTP listeners serve.
type web struct {
	*engine
	api     *httpapi.API
	health  *httpapi.Health
	metrics *metrics.Metrics // nil: off
	demo    http.Handler     // nil outside development
	uploads *uploads.Service // nil: off
	direct  framings         // reached as they are
	proxied framings         // reached through a proxy that speaks TLS

	stopping chan struct{}         // closed by stop: streams of events end
	untrace  func(context.Context) // sends the last spans

	mu      sync.Mutex
	servers []*http.Server
}

// framings are the two ways of XMPP over HTTP.
type framings struct {
	websocket *websocket.Handler
	bosh      *bosh.Handler
}

func newWeb(e *engine) (*web, error) {
	cfg := e.cfg
	w := &web{engine: e, health: httpapi.NewHealth(e.db), stopping: make(chan struct{})}
	var err error
	if w.uploads, err = newUploads(context.Background(), e); err != nil {
		return nil, err
	}
	tracer, untrace, err := newTracing(context.Background(), cfg.Tracing, e.log)
	if err != nil {
		return nil, err
	}
	w.untrace = untrace
	sends := httpapi.MessageOptions{
		Submit: e.submit, Idempotency: e.answers, Delivery: e.deliveries, Presences: voices{e}, Subscriptions: voices{e},
	}
	if w.uploads != nil {
		sends.Uploads = w.uploads
	}
	w.api, err = httpapi.New(httpapi.Options{
		Router: e.core.Router, Auth: e.users, Exists: e.core.Exists, MaxBody: int64(cfg.REST.MaxBody), Limits: afterLogin(cfg), Rate: cfg.REST.Rate, Origins: cfg.REST.Origins,
		Hosts: e.core.Hosts(), Ask: e.core.Modules.Ask, Archive: e.features.Archive, Figures: e.core.Modules.Figures(), Store: e.db,
		Events:   &event.Stream{Log: e.events, Encoder: &event.Encoder{}, Stop: w.stopping},
		Webhooks: e.webhooks, Gateways: e.gateways, Uploads: w.uploads, Operations: &e.admin, Messages: sends,
		Tracer: tracer, Version: version, Logger: e.log,
	})
	if err != nil {
		return nil, err
	}
	if cfg.Metrics.Enabled {
		w.metrics, err = metrics.Collect(metrics.Sources{
			Router: e.core.Router, Clients: &e.core.Sessions.Stats, Store: e.db, REST: &w.api.Stats, Webhooks: e.webhooks.Status,
			Modules: e.core.Modules.Figures(),
		})
		if err != nil {
			return nil, err
		}
	}
	accept := func(c stream.Conn, over func()) { e.core.Accept(c, false, over) }
	make := func(secure func(*http.Request) bool, remote func(*http.Request) net.Addr) framings {
		return framings{
			websocket.New(accept, websocket.Options{
				Limits: e.core.Sessions.Before(), Origins: cfg.WebSocket.Origins, PingInterval: interval(cfg.WebSocket.PingInterval),
				Secure: secure, Remote: remote,
			}),
			bosh.New(accept, bosh.Options{
				Limits: e.core.Sessions.Before(), Origins: cfg.BOSH.Origins,
				MaxWait: cfg.BOSH.MaxWait, MaxHold: cfg.BOSH.MaxHold, Inactivity: cfg.BOSH.Inactivity,
				Polling: cfg.BOSH.Polling, MaxPause: cfg.BOSH.MaxPause, MaxBody: 2 * int64(cfg.Limits.StanzaSize),
				Secure: secure, Remote: remote,
			}),
		}
	}
	w.direct, w.proxied = make(nil, nil), make(vouched, forwardedFor)
	return w, nil
}

// interval turns the configuration's "never" into that of the framings.
func interval(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// vouched says that a TLS proxy stands in front of the listener.
func vouched(*http.Request) bool { return true }

// forwardedFor returns the client's address as the nearest proxy tells it: the
// last of X-Forwarded-For, which is the one that the proxy added.
func forwardedFor(r *http.Request) net.Addr {
	all := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	if ip := net.ParseIP(strings.TrimSpace(all[len(all)-1])); ip != nil {
		return &net.TCPAddr{IP: ip}
	}
	if a, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil {
		return a
	}
	return nil
}

// links returns the URLs by which clients reach a host (XEP-0156): those of
// listeners with a public address, and of those that the public can reach as
// they are.
func (w *web) links(host string) (ws, bosh []string) {
	known := w.cfg.Development || slices.Contains(w.core.Hosts(), host)
	for _, l := range w.cfg.Listeners {
		scheme, authority := l.Kind, ""
		switch {
		case l.PublicURL != "":
			u, err := url.Parse(l.PublicURL) // validated
			if err != nil || !known && u.Hostname() != host {
				continue
			}
			scheme, authority = u.Scheme, u.Host
		case known && (l.Kind == config.HTTPS || l.Kind == config.HTTP && w.cfg.Development):
			_, port, err := net.SplitHostPort(l.Address)
			if err != nil {
				continue // a unix socket
			}
			authority = net.JoinHostPort(host, port)
		default:
			continue
		}
		if slices.Contains(l.Endpoints, "websocket") {
			ws = append(ws, "ws"+strings.TrimPrefix(scheme, "http")+"://"+authority+websocket.Path)
		}
		if slices.Contains(l.Endpoints, "bosh") {
			bosh = append(bosh, scheme+"://"+authority+boshPath)
		}
	}
	return ws, bosh
}

const boshPath = bosh.Path // where a variable hides the package

const apiPrefix = "/api/v1"

// handler returns what one listener serves.
func (w *web) handler(l config.Listener) http.Handler {
	r := chi.NewRouter()
	has := func(endpoint string) bool { return slices.Contains(l.Endpoints, endpoint) }
	f := w.direct
	if l.BehindTLS {
		f = w.proxied
	}
	if has("websocket") {
		r.Handle(websocket.Path, f.websocket)
	}
	if has("bosh") {
		r.Handle(bosh.Path, f.bosh)
	}
	if has("rest") {
		r.Route(apiPrefix, w.api.Mount)
		r.Handle("/api/docs", w.api.Docs(apiPrefix))
	}
	if has("upload") && w.uploads != nil {
		w.uploads.Mount(r)
	}
	if has("host-meta") {
		httpapi.HostMeta{Links: w.links}.Mount(r)
	}
	if has("health") {
		w.health.Mount(r)
	}
	if has("metrics") && w.metrics != nil {
		r.Handle("/metrics", w.metrics.Handler())
	}
	if has("demo") && w.demo != nil {
		r.Handle("/*", w.demo)
	}
	if has("rest") {
		return w.api.Direct(apiPrefix, r)
	}
	return r
}

// start runs the background work of the endpoints until ctx ends.
func (w *web) start(ctx context.Context, wg *sync.WaitGroup) {
	wg.Go(func() { w.events.Run(ctx) })
	wg.Go(func() { w.webhooks.Run(ctx) })
	wg.Go(func() { w.gateways.Run(ctx) })
	wg.Go(func() { w.deliveries.Run(ctx) })
	wg.Go(func() { w.answers.Run(ctx) })
	if w.uploads != nil {
		wg.Go(func() {
			defer w.uploads.Close()
			w.uploads.Run(ctx)
		})
	}
}

// reload takes over what may change live.
func (w *web) reload(next *config.Config) {
	for _, f := range []framings{w.direct, w.proxied} {
		f.websocket.SetOrigins(next.WebSocket.Origins)
		f.bosh.SetOrigins(next.BOSH.Origins)
	}
}

// track notes a server for stop.
func (w *web) track(s *http.Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers = append(w.servers, s)
}

// stop lets requests under way end, for as long as grace.
func (w *web) stop(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	w.mu.Lock()
	servers := w.servers
	w.mu.Unlock()
	close(w.stopping)
	for _, s := range servers {
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	}
	w.untrace(ctx)
	if w.metrics != nil {
		_ = w.metrics.Shutdown(ctx)
	}
	for _, f := range []framings{w.direct, w.proxied} {
		f.websocket.Close()
		f.bosh.Close()
	}
}

func tlsListener(ln net.Listener, cfg *tls.Config) net.Listener { return tls.NewListener(ln, cfg) }

// httpErrorLog gives the HTTP server's complaints about clients to slog, below
// what operators see: they are what strangers send.
func httpErrorLog(l *slog.Logger) *log.Logger {
	return log.New(debugWriter{l}, "", 0)
}

// adoptStandardLog does the same with what net/http writes to the standard logger
// past everything else: what receivers of webhooks say when nobody has asked them.
func adoptStandardLog(l *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(debugWriter{l})
}

type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug("http", "err", string(bytes.TrimSpace(p)))
	return len(p), nil
}
