// Package c2s is the stream of a client: negotiation, authentication, binding, and
// then the loop that takes stanzas from the connection to the router.
//
// One goroutine owns a stream from its first octet to its last. What others send to
// it goes through its router.Session; what ends it from outside is Kick. With stream
// management (XEP-0198) the router.Session outlives the stream: a managed session is
// carried by one stream after the other, and waits in between.
//
//spec:rfc-6120 complete | XMPP: Core | §4-§8: client streams: header, features, STARTTLS, SASL, bind, errors
//spec:xep-0440 1.0.0 complete | SASL Channel-Binding Type Capability | channel binding types announced
package c2s

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/sasl"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/stream"
	"trivium/core/wire"
)

// VirtualHost is one domain whose accounts may log in.
type VirtualHost struct {
	Domain  jid.JID
	Backend sasl.Backend
	SASL    sasl.Options
	TLS     *tls.Config // for STARTTLS; nil: not offered
}

// virtualHost is a VirtualHost at work.
type virtualHost struct {
	VirtualHost
	sasl *sasl.Server
}

// Options of New. Zero values are the defaults named.
type Options struct {
	Hosts    []VirtualHost
	Throttle *auth.Throttle // nil: none

	Before, After wire.Limits     // before and after authentication
	LoginTimeout  time.Duration   // from connect to bound; 30 s
	PingAfter     time.Duration   // of silence; 3 min, negative: never
	PingTimeout   time.Duration   // for an answer to the ping; 1 min
	Attempts      int             // failed logins a stream may make; 5 (RFC 6120 §6.4.5)
	MaxSessions   int             // per account; 20
	Conflict      router.Conflict // RFC 6120 §7.7.2.2
	Outbox        int             // octets that may wait for one session; 4 MiB
	Unacked       int             // stanzas that a peer with stream management may leave unacknowledged; 5,000
	Resume        time.Duration   // that a session waits for its peer to resume it; 5 min, negative: not at all
	AckEarly      bool            // XEP-0198: acknowledge a message once it is routed, not once it is safe
	Rate          int             // octets a second from one session; 0: no limit
	Burst         int             // octets; 4 x Rate
	Pace          int             // stanzas a second from one session; 0: no limit
	PaceBurst     int             // stanzas; 4 x Pace
	Strangers     int             // connections from one address that have not bound; 0: no limit
	Logger        *slog.Logger
}

func (o *Options) defaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.LoginTimeout, 30*time.Second)
	def(&o.PingAfter, 3*time.Minute)
	def(&o.PingTimeout, time.Minute)
	if o.Before == (wire.Limits{}) {
		o.Before = wire.Limits{Bytes: 16 << 10, Depth: 8, Attrs: 16, NSDecls: 16, Children: 64}
	}
	if o.Attempts == 0 {
		o.Attempts = 5 // clients try one mechanism after the other
	}
	if o.MaxSessions == 0 {
		o.MaxSessions = 20
	}
	if o.Outbox == 0 {
		o.Outbox = 4 << 20
	}
	if o.Unacked == 0 {
		o.Unacked = 5000
	}
	def(&o.Resume, 5*time.Minute)
	if o.Burst == 0 {
		o.Burst = 4 * o.Rate
	}
	if o.PaceBurst == 0 {
		o.PaceBurst = 4 * o.Pace
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Stats are running counts.
type Stats struct {
	Streams     atomic.Int64 // open connections
	Logins      atomic.Int64
	LoginsBad   atomic.Int64
	Stanzas     atomic.Int64 // received from clients
	StreamFails atomic.Int64 // streams ended by a stream error
	Hibernated  atomic.Int64 // sessions that wait for their client
	Resumes     atomic.Int64 // sessions resumed
	ResumesBad  atomic.Int64 // and those asked for that are not there
}

// Service serves client connections. It is safe for concurrent use.
type Service struct {
	opts    atomic.Pointer[Options] // replaced whole by Tune
	first   *virtualHost
	hosts   map[string]*virtualHost
	router  *router.Router
	modules *module.Host
	log     *slog.Logger
	Stats   Stats

	mu    sync.Mutex
	young map[*session]struct{} // not bound yet
	from  map[netip.Addr]int    // how many of young come from each address
	bound map[*session]struct{}
	done  bool          // shutting down
	quit  chan struct{} // closed then
	idle  sync.WaitGroup

	registry registry
	debts    debts
	removals removals
}

// New returns a Service. Accept may be called at once.
func New(r *router.Router, mods *module.Host, opts Options) *Service {
	opts.defaults()
	svc := &Service{
		router: r, modules: mods, log: opts.Logger, hosts: map[string]*virtualHost{},
		young: map[*session]struct{}{}, bound: map[*session]struct{}{}, from: map[netip.Addr]int{},
		quit: make(chan struct{}), registry: newRegistry(),
	}
	svc.opts.Store(&opts)
	mods.Removed(func(_ *store.Tx, account jid.JID) error {
		svc.removals.note(account, time.Now())
		return nil
	})
	for _, h := range opts.Hosts {
		if opts.Throttle != nil {
			h.Backend = throttled{h.Backend, opts.Throttle, h.Domain}
		}
		v := &virtualHost{h, sasl.New(h.Domain, h.Backend, h.SASL)}
		if svc.first == nil {
			svc.first = v
		}
		svc.hosts[h.Domain.Domain()] = v
	}
	return svc
}

// Tune changes limits and times for the streams to come, and the times of pings
// for all; hosts, throttle and logger stay.
func (svc *Service) Tune(opts Options) {
	old := svc.opts.Load()
	opts.Hosts, opts.Throttle, opts.Logger = old.Hosts, old.Throttle, old.Logger
	opts.defaults()
	svc.opts.Store(&opts)
}

// Before returns the limits for a connection that has not authenticated.
func (svc *Service) Before() wire.Limits { return svc.opts.Load().Before }

// Accept takes over a connection and returns at once; over, if not nil, is called
// when its session has ended and the connection is dropped. With requireTLS a
// stream in clear gets nothing but <starttls/>.
func (svc *Service) Accept(conn stream.Conn, requireTLS bool, over func()) {
	opts := svc.opts.Load()
	s := &session{svc: svc, opts: opts, conn: conn, requireTLS: requireTLS, over: over}
	s.idle = s.turn.Flush
	s.deadline = time.Now().Add(opts.LoginTimeout)
	if refusal := svc.admit(s); refusal != nil {
		conn.Close(refusal)
		conn.Abort()
		if over != nil {
			over()
		}
		return
	}
	go s.negotiate(context.Background())
}

// admit counts a session in, unless there is a reason not to.
func (svc *Service) admit(s *session) *stream.Error {
	addr := s.remote()
	svc.mu.Lock()
	defer svc.mu.Unlock()
	switch {
	case svc.done:
		return stream.Err(stream.SystemShutdown, "")
	case s.opts.Strangers > 0 && addr.IsValid() && svc.from[addr] >= s.opts.Strangers:
		return stream.Err(stream.PolicyViolation, "too many connections from this address") // XEP-0205 §3.3
	}
	svc.young[s] = struct{}{}
	svc.from[addr]++
	svc.idle.Add(1)
	svc.Stats.Streams.Add(1)
	return nil
}

// forget counts a session out.
func (svc *Service) forget(s *session) {
	svc.mu.Lock()
	svc.grownUp(s)
	delete(svc.bound, s)
	svc.mu.Unlock()
	svc.Stats.Streams.Add(-1)
	svc.idle.Done()
}

// unwatch takes a stream from those that are watched for silence.
func (svc *Service) unwatch(s *session) {
	svc.mu.Lock()
	delete(svc.bound, s)
	svc.mu.Unlock()
}

// watch moves a session from those with a deadline to those that are watched
// for silence.
func (svc *Service) watch(s *session) {
	svc.mu.Lock()
	svc.grownUp(s)
	svc.bound[s] = struct{}{}
	svc.mu.Unlock()
}

// grownUp takes a session from the young ones; svc.mu is held.
func (svc *Service) grownUp(s *session) {
	if _, ok := svc.young[s]; !ok {
		return
	}
	delete(svc.young, s)
	addr := s.remote()
	if svc.from[addr]--; svc.from[addr] <= 0 {
		delete(svc.from, addr)
	}
}

// Run watches deadlines and silence until ctx ends. One goroutine does it for
// all sessions, so that none needs a timer.
func (svc *Service) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			svc.expire(now)
			svc.sweep(now)
			every := min(max(svc.opts.Load().PingAfter/4, time.Second), 15*time.Second)
			if now.Sub(last) >= every {
				last = now
				svc.probe(now)
			}
		}
	}
}

// expire ends streams that have not bound in time (XEP-0205 §2).
func (svc *Service) expire(now time.Time) {
	var late []*session
	svc.mu.Lock()
	for s := range svc.young {
		if now.After(s.deadline) {
			late = append(late, s)
		}
	}
	svc.mu.Unlock()
	for _, s := range late {
		if now.After(s.deadline.Add(5 * time.Second)) {
			s.conn.Abort()
			continue
		}
		s.conn.Close(stream.Err(stream.ConnectionTimeout, "no login in time")) // RFC 6120 §4.9.3.4
	}
}

// probe pings silent peers and ends those that stay silent (RFC 6120 §4.6.3,
// XEP-0199 §4.1).
func (svc *Service) probe(now time.Time) {
	opts := svc.opts.Load()
	if opts.PingAfter < 0 {
		return
	}
	var t router.Turn
	var dead []*session
	var silent []*router.Session
	svc.mu.Lock()
	for s := range svc.bound {
		switch quiet := now.Sub(s.peer.Active()); {
		case quiet > opts.PingAfter+opts.PingTimeout:
			dead = append(dead, s)
		case quiet > opts.PingAfter && !s.pinged.Swap(true):
			silent = append(silent, s.peer)
		case quiet <= opts.PingAfter:
			s.pinged.Store(false)
		}
	}
	svc.mu.Unlock()
	for _, p := range silent {
		host, _ := jid.New("", p.JID.Domain(), "")
		p.Deliver(&t, stanza.New(stanza.IQ, stanza.Get, host, p.JID, newID(8), stanza.El("urn:xmpp:ping", "ping")), nil)
	}
	t.Flush()
	for _, s := range dead {
		s.conn.Close(stream.Err(stream.ConnectionTimeout, "no answer to a ping")) // RFC 6120 §4.9.3.4
	}
}

// Shutdown ends every stream with <system-shutdown/> (RFC 6120 §4.9.3.20) and
// waits until the sessions are over. When ctx ends first, connections are
// dropped. It is called once.
func (svc *Service) Shutdown(ctx context.Context) {
	svc.mu.Lock()
	svc.done = true
	close(svc.quit)
	var all []*session
	for s := range svc.young {
		all = append(all, s)
	}
	for s := range svc.bound {
		all = append(all, s)
	}
	svc.mu.Unlock()
	for _, s := range all {
		s.kick(stream.Err(stream.SystemShutdown, ""))
	}
	over := make(chan struct{})
	go func() { svc.idle.Wait(); close(over) }()
	select {
	case <-over:
	case <-ctx.Done():
		for _, s := range all {
			s.conn.Abort()
		}
		<-over
	}
	svc.expireAll()
}

// pause waits, but not longer than the service lives.
func (svc *Service) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-svc.quit:
	}
}

// newID returns n random octets in hexadecimal.
func newID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
