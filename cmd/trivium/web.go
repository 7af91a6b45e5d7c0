package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"trivium/config"
	"trivium/core/stream"
	"trivium/websocket"
)

// web is everything that HTTP listeners serve.
type web struct {
	*engine
	ready atomic.Bool

	websocket, websocketBehindTLS *websocket.Handler

	mu      sync.Mutex
	servers []*http.Server
}

func newWeb(e *engine) (*web, error) {
	w := &web{engine: e}
	accept := func(c stream.Conn, over func()) { e.core.Accept(c, false, over) }
	ws := websocket.Options{
		Limits: e.core.Sessions.Before(), Origins: e.cfg.WebSocket.Origins, PingInterval: interval(e.cfg.WebSocket.PingInterval),
	}
	w.websocket = websocket.New(accept, ws)
	ws.Secure, ws.Remote = proxied, forwardedFor
	w.websocketBehindTLS = websocket.New(accept, ws)
	return w, nil
}

// interval turns the configuration's "never" into that of the framings.
func interval(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// proxied vouches for requests on a listener that a TLS proxy stands in front of.
func proxied(*http.Request) bool { return true }

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

func (w *web) mount(*demoSetup) {}

// handler returns what one listener serves.
func (w *web) handler(l config.Listener) http.Handler {
	r := chi.NewRouter()
	has := func(endpoint string) bool { return slices.Contains(l.Endpoints, endpoint) }
	if has("websocket") {
		h := w.websocket
		if l.BehindTLS {
			h = w.websocketBehindTLS
		}
		r.Handle(websocket.Path, h)
	}
	return r
}

// start runs the background work of the endpoints until ctx ends.
func (w *web) start(ctx context.Context, wg *sync.WaitGroup) {}

// reload takes over what may change live.
func (w *web) reload(next *config.Config) {}

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
	for _, s := range servers {
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	}
	w.websocket.Close()
	w.websocketBehindTLS.Close()
}

func tlsListener(ln net.Listener, cfg *tls.Config) net.Listener { return tls.NewListener(ln, cfg) }

// httpErrorLog gives the HTTP server's complaints about clients to slog, below
// what operators see: they are what strangers send.
func httpErrorLog(l *slog.Logger) *log.Logger {
	return log.New(debugWriter{l}, "", 0)
}

type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug("http", "err", string(bytes.TrimSpace(p)))
	return len(p), nil
}
