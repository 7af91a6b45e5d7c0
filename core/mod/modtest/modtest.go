// Package modtest runs modules on a real router, module host and store, with
// clients that speak XML and connections that record what is written.
//
// It stands in for core/c2s: a client's stanzas are stamped, checked and routed
// as a session would, on the test's goroutine, so that everything that does not
// wait for the store has happened when Send returns.
package modtest

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/stream"
	"trivium/core/wire"
)

// Server is a server of the virtual hosts example.org, example.com and
// example.net. Every account of them exists unless Missing has named it; every
// other domain is remote.
type Server struct {
	Host   *module.Host
	Router *router.Router
	Store  *store.DB

	tb      testing.TB
	mu      sync.Mutex
	missing map[jid.JID]bool
	peers   map[string]*Peer
	offset  time.Duration
	clients []*Client
}

// Options of NewWith.
type Options struct {
	Store store.Options // the zero value: a database that lives as long as the test
	// Outbox bounds what waits for one client, in octets: 4 MiB.
	Outbox int
}

// New starts a server with these modules.
func New(tb testing.TB, mods ...module.Module) *Server {
	tb.Helper()
	return NewWith(tb, Options{}, mods...)
}

// NewWith is New with options.
func NewWith(tb testing.TB, o Options, mods ...module.Module) *Server {
	tb.Helper()
	db, err := store.Open(context.Background(), o.Store)
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, Store: db, missing: map[jid.JID]bool{}, peers: map[string]*Peer{}}
	tb.Cleanup(func() {
		s.stop()
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	s.Router = router.New(router.Options{Remote: remote{s}, Now: s.Now})
	hosts := []string{"example.org", "example.com", "example.net"}
	for _, h := range hosts {
		s.Router.Serve(h, s.Router.Local())
	}
	log := slog.New(slog.NewTextHandler(testWriter{tb}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s.Host = module.NewHost(s.Router, db, log, s.Now, hosts, s.exists)
	if err := s.Host.Build(mods...); err != nil {
		tb.Fatal(err)
	}
	return s
}

// stop drops the clients and waits for what modules do on their own.
func (s *Server) stop() {
	s.mu.Lock()
	clients := s.clients
	s.mu.Unlock()
	for _, c := range clients {
		s.Router.Unbind(c.Session)
		c.Session.Drop()
	}
	s.Host.Stop()
}

type testWriter struct{ tb testing.TB }

func (w testWriter) Write(b []byte) (int, error) { w.tb.Logf("%s", b); return len(b), nil }

// Now is the server's clock: the time of day plus what Advance has added.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.offset)
}

// Advance moves the server's clock.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
}

func (s *Server) exists(_ context.Context, account jid.JID) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.missing[account], nil
}

// Missing says that an account does not exist.
func (s *Server) Missing(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing[jid.Must(account)] = true
}

// Remove removes an account's data as the removal of the account does.
func (s *Server) Remove(account string) {
	s.tb.Helper()
	j := jid.Must(account)
	err := s.Store.Write(context.Background(), func(tx *store.Tx) error { return s.Host.AccountRemoved(tx, j) })
	if err != nil {
		s.tb.Fatal(err)
	}
}

// Restart returns a server on the same store with other modules. The old one's
// clients are dropped.
func (s *Server) Restart(mods ...module.Module) *Server {
	s.tb.Helper()
	s.stop()
	n := &Server{tb: s.tb, Store: s.Store, missing: s.missing, peers: map[string]*Peer{}, offset: s.offset}
	s.tb.Cleanup(n.stop)
	n.Router = router.New(router.Options{Remote: remote{n}, Now: n.Now})
	for _, h := range s.Host.Hosts {
		n.Router.Serve(h, n.Router.Local())
	}
	n.Host = module.NewHost(n.Router, s.Store, s.Host.Log, n.Now, s.Host.Hosts, n.exists)
	if err := n.Host.Build(mods...); err != nil {
		s.tb.Fatal(err)
	}
	return n
}

// Connect binds a session for a full address.
func (s *Server) Connect(full string) *Client {
	s.tb.Helper()
	return s.ConnectWith(full, 4<<20)
}

// ConnectWith is Connect with a limit in octets on what waits for the client.
func (s *Server) ConnectWith(full string, outbox int) *Client {
	s.tb.Helper()
	c := &Client{server: s, recorder: newRecorder(s.tb, full), JID: jid.Must(full)}
	peer, err := s.Router.Bind(router.Binding{JID: c.JID, Conn: &c.conn, OutboxLimit: outbox, Kick: func(*stream.Error) {}})
	if err != nil {
		s.tb.Fatal(err)
	}
	c.conn.out = c.recorder
	c.Session = peer
	s.mu.Lock()
	s.clients = append(s.clients, c)
	s.mu.Unlock()
	s.Host.SessionBound(context.Background(), peer)
	return c
}

// Client is one session.
type Client struct {
	*recorder
	JID     jid.JID
	Session *router.Session

	server *Server
	conn   conn
	turn   router.Turn
}

// Send sends one stanza. What it provoked has been written when Send returns,
// unless it waits for the store.
func (c *Client) Send(xml string) *Client {
	c.tb.Helper()
	c.SendStanza(Parse(c.tb, xml), nil)
	return c
}

// SendStanza sends a stanza with a receipt, nil for none.
func (c *Client) SendStanza(st *stanza.Stanza, rc *router.Receipt) {
	ctx := context.Background()
	st.From = c.JID
	err := c.route(ctx, &router.Packet{Stanza: st, Session: c.Session, Turn: &c.turn, Receipt: rc})
	if err != nil && err != module.ErrHandled {
		e, ok := err.(*stanza.Error)
		if !ok {
			c.tb.Errorf("%s: %v", c.name, err)
			e = stanza.Internal()
		}
		if reply := st.ErrorReply(e); reply != nil {
			c.Session.Deliver(&c.turn, reply, nil)
		}
	}
	c.turn.Flush()
}

func (c *Client) route(ctx context.Context, p *router.Packet) error {
	if p.Stanza.To.IsZero() {
		if p.Stanza.Kind == stanza.Presence {
			return c.server.Host.Announce(ctx, p)
		}
		p.Stanza.To = c.JID.Bare()
	}
	if err := c.server.Host.Out(ctx, p); err != nil {
		return err
	}
	return c.server.Router.Route(ctx, p)
}

// Close ends the session in order: what waits for the client is lost, or finds
// another session.
func (c *Client) Close() {
	c.server.Router.Unbind(c.Session)
	c.server.Host.SessionUnbound(context.Background(), &c.turn, c.Session)
	c.turn.Flush()
	c.Session.Drop()
}

// Discard makes the connection forget what is written, for benchmarks.
func (c *Client) Discard() {
	c.conn.mu.Lock()
	c.conn.discard = true
	c.conn.mu.Unlock()
}

// Stall makes the connection keep what is written as a peer does that does not
// read; Resume lets it go.
func (c *Client) Stall() { c.conn.stall() }

// Resume ends Stall.
func (c *Client) Resume() { c.conn.resume() }

// conn is a stream.Conn that records.
type conn struct {
	out *recorder

	mu      sync.Mutex
	discard bool
	stalled bool
	kept    []string
	done    func(error)
}

func (c *conn) Write(b stream.Batch, done func(error)) (bool, error) {
	c.mu.Lock()
	discard := c.discard
	c.mu.Unlock()
	if discard {
		return true, nil
	}
	var elements []string
	at := 0
	for _, end := range b.Ends {
		elements = append(elements, string(b.Data[at:end]))
		at = end
	}
	c.mu.Lock()
	if c.stalled {
		c.kept, c.done = append(c.kept, elements...), done
		c.mu.Unlock()
		return false, nil
	}
	c.mu.Unlock()
	c.out.add(elements...)
	return true, nil
}

func (c *conn) stall() {
	c.mu.Lock()
	c.stalled = true
	c.mu.Unlock()
}

func (c *conn) resume() {
	c.mu.Lock()
	kept, done := c.kept, c.done
	c.stalled, c.kept, c.done = false, nil, nil
	c.mu.Unlock()
	c.out.add(kept...)
	if done != nil {
		done(nil)
	}
}

func (c *conn) Read(func()) (stream.Event, error) { return stream.Event{}, io.EOF }
func (c *conn) Open(stream.Header) error          { return nil }
func (c *conn) Restart()                          {}
func (c *conn) Limit(wire.Limits)                 {}
func (c *conn) Close(*stream.Error)               {}
func (c *conn) Abort()                            {}
func (c *conn) Info() stream.Info                 { return stream.Info{Framing: "test", Secure: true} }

// Peer is what a remote domain gets and sends.
type Peer struct {
	*recorder
	server *Server
}

// Peer returns the remote domain's end.
func (s *Server) Peer(domain string) *Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[domain]
	if p == nil {
		p = &Peer{newRecorder(s.tb, domain), s}
		s.peers[domain] = p
	}
	return p
}

// Send routes a stanza with both addresses as one that came from the domain.
// What goes back to its sender in error is recorded.
func (p *Peer) Send(xml string) *Peer {
	p.tb.Helper()
	st := Parse(p.tb, xml)
	var t router.Turn
	if err := p.server.Router.Send(context.Background(), &t, st, nil); err != nil {
		p.server.Router.Bounce(context.Background(), &t, st, err)
	}
	t.Flush()
	return p
}

type remote struct{ s *Server }

// Handle implements router.Handler for remote domains.
func (r remote) Handle(_ context.Context, p *router.Packet) error {
	domain := p.Stanza.To.Domain()
	if domain == "unreachable.example" {
		return &stanza.Error{Condition: stanza.RemoteServerNotFound}
	}
	r.s.Peer(domain).add(p.Stanza.String())
	return nil
}

// Parse reads one stanza; the content namespace is jabber:client.
func Parse(tb testing.TB, xml string) *stanza.Stanza {
	tb.Helper()
	i := slices.IndexFunc([]byte(xml), func(b byte) bool { return b == ' ' || b == '/' || b == '>' || b == '\n' })
	if i < 0 {
		tb.Fatalf("not a stanza: %s", xml)
	}
	st, err := stanza.ParseDocument([]byte(xml[:i] + " xmlns='jabber:client'" + xml[i:]))
	if err != nil {
		tb.Fatalf("%v in %s", err, xml)
	}
	return st
}
