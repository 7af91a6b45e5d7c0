// Package bosh is the framing of XEP-0124 and XEP-0206: an XMPP stream carried
// by HTTP requests, some of which wait for what the server has to say.
//
// Handler is mounted on the HTTP router. A request without a session identifier
// makes a Conn, a stream.Conn, which is handed to the function that the Handler
// was made with. The goroutine of a request puts what the client sent in order
// (order.go) and then waits for its answer; answers are decided in settle
// (answer.go), whenever something has changed.
//
// What Conn.Write is given counts as sent when the HTTP response with it has
// been written without an error. It is kept for a retransmission until the
// client has shown that it has it.
//
//spec:xep-0124 1.11.2 complete | Bidirectional-streams Over Synchronous HTTP (BOSH) | connection manager; the optional multiple streams (§16) and content encodings are not offered
//spec:xep-0206 1.4 complete | XMPP Over BOSH
package bosh

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"trivium/core/stream"
	"trivium/core/wire"
)

const (
	// Path is where clients of the field expect the endpoint.
	Path = "/http-bind"
	// Relation is the link relation of the endpoint in host-meta (XEP-0156 §3.1).
	Relation = "urn:xmpp:alt-connections:xbosh"
	// NS qualifies <body/> (XEP-0124 §6).
	NS = "http://jabber.org/protocol/httpbind"
	// NSXMPP qualifies the attributes of XEP-0206.
	NSXMPP = "urn:xmpp:xbosh"
)

// Options tune a Handler. The zero value is the default.
type Options struct {
	// Limits bound elements until the session sets others with Restart.
	Limits wire.Limits
	// MaxBody is how many octets a request's body may have; 0 means 512 KiB. A
	// client may put several stanzas into one.
	MaxBody int64
	// BodyTimeout is how long a request's body may take to arrive; 0 means 30 s.
	BodyTimeout time.Duration
	// MaxWait is the longest time a request is held; 0 means 60 s (XEP-0124 §7.1,
	// 'wait').
	MaxWait time.Duration
	// MaxHold is how many requests of a session are held at most; 0 means 1
	// (XEP-0124 §7.1, 'hold').
	MaxHold int
	// Inactivity is how long a client may have no request pending; 0 means 30 s
	// (XEP-0124 §10). Polling sessions may for Polling and twice as long.
	Inactivity time.Duration
	// Polling is the shortest interval of empty requests; 0 means 2 s, negative
	// any (XEP-0124 §11, §12).
	Polling time.Duration
	// MaxPause is the longest pause that a client may ask for; 0 means 120 s
	// (XEP-0124 §10, 'maxpause').
	MaxPause time.Duration
	// Origins lists from which web origins a browser may use the endpoint: "*" for
	// any, "https://chat.example.org", or "https://*.example.org" for every host
	// below it; the endpoint's own origin always may. Credentials of the
	// browser are never allowed.
	Origins []string
	// Secure tells whether a trusted proxy in front of us vouches that the octets of
	// a request that did not come over TLS are protected. Nil: none does.
	Secure func(*http.Request) bool
	// Remote tells the peer's address, for proxies that pass it on. Nil: the
	// connection's.
	Remote func(*http.Request) net.Addr
}

func (o Options) withDefaults() Options {
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	or(&o.BodyTimeout, 30*time.Second)
	or(&o.MaxWait, time.Minute)
	or(&o.Inactivity, 30*time.Second)
	or(&o.Polling, 2*time.Second)
	or(&o.MaxPause, 2*time.Minute)
	if o.MaxBody == 0 {
		o.MaxBody = 512 << 10
	}
	if o.MaxHold == 0 {
		o.MaxHold = 1
	}
	return o
}

// Handler is a connection manager (XEP-0124 §3). It implements http.Handler and
// may be used by many goroutines.
type Handler struct {
	accept  func(stream.Conn, func())
	opt     Options
	origins stream.Origins
	serving sync.WaitGroup // the goroutines of sessions and the sweeper

	mu       sync.Mutex
	sessions map[string]*Conn
	sweeping bool
	shut     bool
	done     chan struct{} // closed by Close
}

// New returns a Handler that calls accept with each new session. accept takes it
// over and returns at once; it calls the function it is given when it is done
// with the session.
func New(accept func(c stream.Conn, over func()), opt Options) *Handler {
	h := &Handler{
		accept: accept, opt: opt.withDefaults(),
		sessions: make(map[string]*Conn), done: make(chan struct{}),
	}
	h.origins.Set(opt.Origins)
	return h
}

// SetOrigins replaces Options.Origins.
func (h *Handler) SetOrigins(patterns []string) { h.origins.Set(patterns) }

// buffers holds the octets of requests until the session has read them.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// bufferMax is the largest buffer that is kept.
const bufferMax = 64 << 10

func give(b *bytes.Buffer) {
	if b != nil && b.Cap() <= bufferMax {
		b.Reset()
		buffers.Put(b)
	}
}

// page is what a person sees who opens the endpoint in a browser.
const page = `<!DOCTYPE html><html lang="en"><title>BOSH</title><p>This is an XMPP endpoint for BOSH clients ` +
	`(<a href="https://xmpp.org/extensions/xep-0124.html">XEP-0124</a>).</html>
`

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.cors(w, r) {
		http.Error(w, "This origin may not use the endpoint.", http.StatusForbidden)
		return
	}
	switch r.Method {
	case http.MethodPost: // XEP-0124 §5
	case http.MethodOptions:
		w.Header().Set("Allow", allow)
		w.WriteHeader(http.StatusNoContent)
		return
	case http.MethodGet, http.MethodHead:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page)
		return
	default:
		w.Header().Set("Allow", allow)
		http.Error(w, "BOSH requests are POST.", http.StatusMethodNotAllowed)
		return
	}
	if r.Header.Get("Content-Encoding") != "" { // no 'accept' attribute was sent: XEP-0124 §7.2
		h.refuse(w, badRequest)
		return
	}
	buf := buffers.Get().(*bytes.Buffer)
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(h.opt.BodyTimeout))
	if _, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, h.opt.MaxBody)); err != nil {
		give(buf)
		if _, tooLarge := err.(*http.MaxBytesError); tooLarge {
			h.refuse(w, policyViolation)
			return
		}
		// The deadline stays, so that net/http does not wait for the rest.
		w.Header().Set("Connection", "close")
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			http.Error(w, "The request did not come in time.", http.StatusRequestTimeout) // RFC 9110 §15.5.9
			return
		}
		http.Error(w, "The request is malformed.", http.StatusBadRequest) // RFC 9110 §15.5.1
		return
	}
	_ = rc.SetReadDeadline(time.Time{}) // or it would end the request while it is held
	b, problem := parse(buf)
	if b == nil {
		give(buf)
		h.refuse(w, problem)
		return
	}
	h.request(w, r, b, problem)
}

// request serves a request whose <body/> could be read; problem says what is
// wrong inside it.
func (h *Handler) request(w http.ResponseWriter, r *http.Request, b *body, problem condition) {
	secure := r.TLS != nil || h.opt.Secure != nil && h.opt.Secure(r)
	if !b.hasSID {
		if problem == "" {
			problem = b.checkCreation()
		}
		if problem != "" {
			give(b.buf)
			h.refuseLegacy(w, problem, b.creation.ver)
			return
		}
		c := h.create(r, b, secure)
		if c == nil {
			give(b.buf)
			h.refuse(w, systemShutdown)
			return
		}
		c.exchange(w, r, b, "")
		return
	}
	h.mu.Lock()
	c := h.sessions[string(b.sid)]
	h.mu.Unlock()
	switch {
	case c == nil:
		give(b.buf)
		h.refuse(w, itemNotFound)
	case c.info.Secure && !secure:
		// XEP-0124 §19.1: close the connection, but leave the session alone.
		give(b.buf)
		panic(http.ErrAbortHandler)
	default:
		c.exchange(w, r, b, problem)
	}
}

// create makes a session and starts its goroutine; nil when the Handler is
// closed.
func (h *Handler) create(r *http.Request, b *body, secure bool) *Conn {
	info := stream.Info{Framing: "bosh", Secure: secure, Implicit: true} // XEP-0206 §4: TLS is the HTTP layer's
	if h.opt.Remote != nil {
		info.Remote = h.opt.Remote(r)
	}
	if info.Remote == nil {
		info.Remote = address(r.RemoteAddr)
	}
	info.Local, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	c := newConn(h, b, info)
	if !h.add(c) {
		return nil
	}
	h.accept(c, func() {
		c.over()
		h.serving.Done()
	})
	return c
}

// newSID returns an unpredictable session identifier (XEP-0124 §7.2, §19.3).
func newSID() string {
	var b [18]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// address makes an address of what net/http tells.
func address(hostport string) net.Addr {
	host, port, err := net.SplitHostPort(hostport)
	ip := net.ParseIP(host)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || ip == nil {
		return &net.UnixAddr{Name: hostport, Net: "unix"}
	}
	return &net.TCPAddr{IP: ip, Port: int(n)}
}

// add counts a session, unless the Handler is closed.
func (h *Handler) add(c *Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shut {
		return false
	}
	h.sessions[c.sid] = c
	h.serving.Add(1)
	if !h.sweeping {
		h.sweeping = true
		h.serving.Add(1)
		go h.sweep()
	}
	return true
}

func (h *Handler) remove(c *Conn) {
	h.mu.Lock()
	delete(h.sessions, c.sid)
	h.mu.Unlock()
}

// sweepInterval is how exactly the inactivity period is kept.
const sweepInterval = time.Second

// sweep ends sessions whose client is gone. It is one goroutine for all of them,
// and lives as long as there are any.
func (h *Handler) sweep() {
	defer h.serving.Done()
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	var all []*Conn
	for {
		select {
		case <-h.done:
			return
		case <-tick.C:
		}
		h.mu.Lock()
		if len(h.sessions) == 0 {
			h.sweeping = false
			h.mu.Unlock()
			return
		}
		for _, c := range h.sessions {
			all = append(all, c)
		}
		h.mu.Unlock()
		now := time.Now()
		for _, c := range all {
			c.expire(now)
		}
		clear(all)
		all = all[:0]
	}
}

// Close drops all sessions and waits until what the Handler has started is over.
// An orderly stop is the sessions' business and comes before it.
func (h *Handler) Close() {
	h.mu.Lock()
	var all []*Conn
	if !h.shut {
		h.shut = true
		close(h.done)
		for _, c := range h.sessions {
			all = append(all, c)
		}
	}
	h.mu.Unlock()
	for _, c := range all {
		c.drop(systemShutdown, net.ErrClosed)
	}
	h.serving.Wait()
}
