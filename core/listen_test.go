package core

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trivium/core/auth"
	"trivium/core/c2s"
	"trivium/core/certs"
	"trivium/core/store"
)

// late is a connection whose address is known only when a header has been read, as
// with the PROXY protocol.
type late struct {
	net.Conn
	header chan *net.TCPAddr // gets the address; closed: the peer has gone
	once   sync.Once
	addr   net.Addr
	gone   chan struct{}
	end    sync.Once
}

func (l *late) RemoteAddr() net.Addr {
	l.once.Do(func() {
		l.addr = &net.UnixAddr{}
		select {
		case a := <-l.header:
			l.addr = a
		case <-l.gone:
		}
	})
	return l.addr
}

func (l *late) Close() error {
	l.end.Do(func() { close(l.gone) })
	return nil
}
func (l *late) Read([]byte) (int, error) { <-l.gone; return 0, io.EOF }

// queue is a listener of connections made by a test.
type queue struct {
	net.Listener
	conns chan net.Conn
}

func (q *queue) Accept() (net.Conn, error) {
	c, ok := <-q.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func TestPerAddress(t *testing.T) {
	limit := &PerAddress{Max: 2}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := limit.Listener(inner)
	defer ln.Close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	}
	accept := func() net.Conn {
		t.Helper()
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dial()
	first := accept()
	dial()
	accept()
	third := dial()
	next := make(chan net.Conn)
	go func() { c, _ := ln.Accept(); next <- c }()
	if _, err := third.Read(make([]byte, 1)); err == nil { // closed, and the listener goes on
		t.Error("a third connection was not closed")
	}
	first.Close()
	first.Close() // gives its place back once
	dial()
	if c := <-next; c == nil {
		t.Fatal("no place was given back")
	}
	if n := limit.open[netip.MustParseAddr("127.0.0.1")]; n != 2 {
		t.Errorf("%d places are taken", n)
	}
}

// A connection that does not say where it comes from holds up nobody, and counts
// for the address it names then.
func TestPerAddressBehindAProxy(t *testing.T) {
	limit := &PerAddress{Max: 1}
	q := &queue{conns: make(chan net.Conn, 8)}
	ln := limit.Listener(q)
	from := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5}
	open := func() (*late, net.Conn) {
		t.Helper()
		l := &late{header: make(chan *net.TCPAddr, 1), gone: make(chan struct{})}
		q.conns <- l
		c, err := ln.Accept() // waits for no header
		if err != nil {
			t.Fatal(err)
		}
		return l, c
	}
	silent, silentConn := open()
	a, first := open()
	b, second := open()
	a.header <- from
	if got := first.RemoteAddr().String(); got != "192.0.2.1:5" {
		t.Errorf("the address is %s", got)
	}
	b.header <- from
	if _, err := second.Read(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("over the limit: %v", err)
	}
	second.Close()
	first.Close()
	c, third := open()
	c.header <- from
	if third.RemoteAddr(); limit.open[from.AddrPort().Addr().Unmap()] != 1 {
		t.Errorf("places: %v", limit.open)
	}
	third.Close()
	asked := make(chan struct{})
	go func() { silentConn.RemoteAddr(); close(asked) }()
	silentConn.Close() // while somebody waits for its address
	<-asked
	<-silent.gone
	if len(limit.open) != 0 {
		t.Errorf("places are left: %v", limit.open)
	}
	if none := (*PerAddress)(nil); none.Listener(q) != net.Listener(q) {
		t.Error("no limit is one")
	}
}

func TestDirectTLS(t *testing.T) {
	dir := t.TempDir()
	cs, err := certs.New(certs.Options{Dir: dir, Hosts: []string{"example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	// XEP-0368 §3: TLS comes first, and nothing offers it again.
	addr, _ := server(t, Mode{Direct: cs.ServerConfig(certs.ALPNClient), RequireTLS: true}, c2s.Options{})
	pem, err := os.ReadFile(cs.CAPath())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "example.org", NextProtos: []string{certs.ALPNClient}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	p := &peer{t: t, c: c, r: bufio.NewReader(c)}
	if f := p.open(); strings.Contains(f, "starttls") || !strings.Contains(f, "<mechanism>PLAIN</mechanism>") {
		t.Errorf("features: %s", f)
	}
	p.login("romeo", "secret")
	p.open()
	p.bind("x")

	// Who speaks no TLS is dropped without a word of ours in clear.
	plain := dial(t, addr)
	plain.send("%s", header)
	all, _ := io.ReadAll(plain.r)
	if strings.Contains(string(all), "stream") {
		t.Errorf("in clear: %q", all)
	}
}

// Nothing is left of a server that has ended, whatever its clients are at.
func TestRunLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	db, err := store.Open(ctx, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	users, err := auth.New(db, auth.Options{Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	cs, err := certs.New(certs.Options{Dir: t.TempDir(), Hosts: []string{"example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := New(Options{Hosts: []VirtualHost{{Domain: "example.org", Anonymous: true}}, Store: db, Auth: users, Certs: cs})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var addrs []string
	for _, mode := range []Mode{{}, {Direct: cs.ServerConfig()}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, ln.Addr().String())
		wg.Go(func() {
			if err := srv.ServeTCP(ctx, ln, mode); err != nil {
				t.Error(err)
			}
		})
	}
	silent, bound, handshake := dial(t, addrs[0]), dial(t, addrs[0]), dial(t, addrs[1])
	bound.open()
	bound.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'>=</auth>")
	bound.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
	bound.open()
	bound.bind("x")
	half := dial(t, addrs[0])
	half.send("<stream:str")
	wg.Go(func() { srv.Run(ctx, 50*time.Millisecond) })
	cancel()
	wg.Wait()
	bound.until("<system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>") // RFC 6120 §4.9.3.20
	for _, p := range []*peer{silent, handshake, half, bound} {
		_, _ = io.Copy(io.Discard, p.r) // ends
		p.c.Close()
	}
	if srv.Router.Sessions() != 0 || srv.Sessions.Stats.Streams.Load() != 0 {
		t.Errorf("%d sessions, %d streams", srv.Router.Sessions(), srv.Sessions.Stats.Streams.Load())
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}

func TestNewRefuses(t *testing.T) {
	db, err := store.Open(t.Context(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	users, err := auth.New(db, auth.Options{Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for _, hosts := range [][]VirtualHost{nil, {{Domain: ""}}, {{Domain: "a@b"}}, {{Domain: "example.org"}, {Domain: "EXAMPLE.org"}}} {
		if _, err := New(Options{Hosts: hosts, Store: db, Auth: users}); err == nil {
			t.Errorf("accepted the hosts %v", hosts)
		}
	}
}
