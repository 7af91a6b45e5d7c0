// Package websocket is the framing of RFC 7395: an XMPP stream over WebSocket,
// one top-level element in each message.
//
// Handler is mounted on the HTTP router. It upgrades a request, leaves net/http
// behind and hands the new connection, a stream.Conn, to the function it was
// made with. gorilla/websocket does the handshake and reads frames; our own
// frames are written here, so that a whole batch of elements costs one write and
// nobody ever waits for a slow peer.
//
//spec:rfc-7395 complete | An XMPP Subprotocol for WebSocket
//spec:rfc-6455 complete | The WebSocket Protocol | server side, on gorilla/websocket; no extensions, permessage-deflate among them
package websocket

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	gorilla "github.com/gorilla/websocket"

	"trivium/core/stream"
	"trivium/core/wire"
)

const (
	// Path is where clients of the field expect the endpoint.
	Path = "/xmpp-websocket"
	// Relation is the link relation of the endpoint in host-meta (XEP-0156 §3.1).
	Relation = "urn:xmpp:alt-connections:websocket"
	// Subprotocol is the WebSocket subprotocol (RFC 7395 §5.1).
	Subprotocol = "xmpp"
	// NS qualifies <open/> and <close/> (RFC 7395 §3.3.2).
	NS = "urn:ietf:params:xml:ns:xmpp-framing"
)

// DefaultPingInterval is what a zero Options.PingInterval stands for.
const DefaultPingInterval = time.Minute

// Options tune a Handler. The zero value is the default.
type Options struct {
	// Limits bound elements until the session sets others with Restart.
	Limits wire.Limits
	// Origins lists from which web origins a browser may connect: "*" for any,
	// "https://chat.example.org", or "https://*.example.org" for every host below
	// it; the endpoint's own origin always may. Clients that send no
	// Origin are no browsers and always may (RFC 6455 §10.2).
	Origins []string
	// PingInterval is how long a peer may be silent before it is pinged (RFC 7395
	// §3.8). Silent for half of it more, it is dropped. Negative: never.
	PingInterval time.Duration
	// Secure tells whether a trusted proxy in front of us vouches that the octets of
	// a request that did not come over TLS are protected. Nil: none does.
	Secure func(*http.Request) bool
	// Remote tells the peer's address, for proxies that pass it on. Nil: the
	// connection's.
	Remote func(*http.Request) net.Addr
}

// Handler accepts WebSocket connections. It implements http.Handler and may be
// used by many goroutines.
type Handler struct {
	accept   func(stream.Conn, func())
	opt      Options
	origins  stream.Origins
	upgrader gorilla.Upgrader
	serving  sync.WaitGroup // the goroutines of connections and the pinger

	mu    sync.Mutex
	done  chan struct{} // closed by Close
	shut  bool
	wheel wheel
}

// New returns a Handler that calls accept with each new connection. accept takes
// it over and returns at once; it calls the function it is given when it is done
// with the connection, which is dropped then.
func New(accept func(c stream.Conn, over func()), opt Options) *Handler {
	if opt.PingInterval == 0 {
		opt.PingInterval = DefaultPingInterval
	}
	h := &Handler{accept: accept, opt: opt, done: make(chan struct{})}
	h.origins.Set(opt.Origins)
	h.upgrader = gorilla.Upgrader{
		// The Socket below reads ahead into a pooled buffer: this one only has to
		// hold a control frame.
		ReadBufferSize:  128,
		WriteBufferPool: new(sync.Pool), // never used: data frames are written by Conn
		Subprotocols:    []string{Subprotocol},
		CheckOrigin: func(r *http.Request) bool {
			return h.origins.Allow(r.Header.Get("Origin"), r.Host)
		},
	}
	return h
}

// SetOrigins replaces Options.Origins; connections that are there stay.
func (h *Handler) SetOrigins(patterns []string) { h.origins.Set(patterns) }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !gorilla.IsWebSocketUpgrade(r) || !slices.Contains(r.Header.Values("Sec-Websocket-Version"), "13") {
		// RFC 9110 §15.5.22, RFC 6455 §4.2.2
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Version", "13")
		http.Error(w, "This is an XMPP endpoint for WebSocket clients (RFC 7395).", http.StatusUpgradeRequired)
		return
	}
	if offers := r.Header["Sec-Websocket-Protocol"]; len(offers) > 1 { // RFC 6455 §11.3.4
		r.Header.Set("Sec-Websocket-Protocol", strings.Join(offers, ","))
	}
	if !slices.Contains(gorilla.Subprotocols(r), Subprotocol) {
		// RFC 7395 §3.1: the client MUST include 'xmpp'.
		http.Error(w, "The subprotocol has to be xmpp (RFC 7395 section 3.1).", http.StatusBadRequest)
		return
	}
	info := stream.Info{Framing: "websocket", Secure: r.TLS != nil, Implicit: true} // RFC 7395 §3.9
	if h.opt.Secure != nil {
		info.Secure = info.Secure || h.opt.Secure(r)
	}
	if h.opt.Remote != nil {
		info.Remote = h.opt.Remote(r)
	}
	hw := &hijacker{ResponseWriter: w}
	ws, err := h.upgrader.Upgrade(hw, r, nil)
	if err != nil {
		return // answered
	}
	c := newConn(ws, hw.pipe, info, h.opt.Limits)
	if !h.join(c) {
		c.Abort()
		return
	}
	// net/http's buffers live as long as its goroutine: accept returns at once, and
	// so does this.
	h.accept(c, func() {
		c.end()
		h.leave(c)
		h.serving.Done()
	})
}

// Close drops all connections and waits until what the Handler has started is
// over. An orderly stop is the sessions' business and comes before it.
func (h *Handler) Close() {
	h.mu.Lock()
	if !h.shut {
		h.shut = true
		close(h.done)
		for c := range h.wheel.all() {
			c.Abort()
		}
	}
	h.mu.Unlock()
	h.serving.Wait()
}

// hijacker puts a pipe between the network connection and gorilla.
type hijacker struct {
	http.ResponseWriter
	pipe *pipe
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.pipe = newPipe(conn)
	return h.pipe, rw, nil
}

// Unwrap serves http.ResponseController.
func (h *hijacker) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// newPipe finds the Socket below conn, or puts one around conn.
func newPipe(conn net.Conn) *pipe {
	p := &pipe{Conn: conn}
	switch c := conn.(type) {
	case *stream.Socket:
		p.sock = c
	case *tls.Conn:
		p.tls = c
		p.sock, _ = c.NetConn().(*stream.Socket)
	}
	if p.sock == nil {
		p.sock = stream.NewSocket(conn)
		p.Conn = p.sock
	}
	return p
}
