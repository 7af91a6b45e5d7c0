package harness

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"trivium/bosh"
	"trivium/core"
	"trivium/core/auth"
	"trivium/core/c2s"
	"trivium/core/certs"
	"trivium/core/jid"
	"trivium/core/mod"
	"trivium/core/mod/archive"
	"trivium/core/module"
	"trivium/core/store"
	"trivium/core/stream"
	"trivium/httpapi/gateway"
	"trivium/websocket"
)

// Options of Start. The zero value is a server for example.org without accounts.
// Archives keep nothing unless an account asks (XEP-0441), so that messages come
// as the RFCs show them, without ids.
type Options struct {
	Hosts    []string // example.org when empty
	Accounts []string // bare JIDs; their password is Password
	TLS      bool     // STARTTLS on TCP, required before login
	Sessions c2s.Options
	Modules  mod.Options
	BOSH     bosh.Options
	Gateways []gateway.Define // whose events somebody follows
}

// Server is a server that listens on loopback until the test is over.
type Server struct {
	Core *core.Server
	Auth *auth.Service
	TCP  string         // host:port
	HTTP string         // http://host:port
	CA   *x509.CertPool // trusts the server's certificate; nil without Options.TLS
}

// Start runs a server with an empty store.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	ctx := context.Background()
	logger := slog.New(slog.NewTextHandler(&testLog{tb: tb}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := store.Open(ctx, store.Options{})
	must(err)
	tb.Cleanup(func() { must(db.Close()) })
	users, err := auth.New(db, auth.Options{Iterations: 4096})
	must(err)
	for _, a := range o.Accounts {
		must(users.CreateAccount(ctx, jid.Must(a), Password))
	}
	if len(o.Hosts) == 0 {
		o.Hosts = []string{"example.org"}
	}
	if o.Modules.Archive.Default == "" {
		o.Modules.Archive.Default = archive.Never
	}
	co := core.Options{
		Store: db, Auth: users, Sessions: o.Sessions, Logger: logger,
	}
	var served *gateway.Registry
	co.Modules = func(s *core.Server) []module.Module {
		list := mod.New(users, o.Modules).Modules()
		if len(o.Gateways) > 0 {
			served = gateways(tb, s, o.Gateways)
			list = append([]module.Module{served}, list...)
		}
		return list
	}
	for _, h := range o.Hosts {
		co.Hosts = append(co.Hosts, core.VirtualHost{Domain: h})
	}
	s := &Server{Auth: users}
	if o.TLS {
		co.Certs, err = certs.New(certs.Options{Dir: tb.TempDir(), Hosts: o.Hosts})
		must(err)
		pem, err := os.ReadFile(co.Certs.CAPath())
		must(err)
		s.CA = x509.NewCertPool()
		s.CA.AppendCertsFromPEM(pem)
	}
	s.Core, err = core.New(co)
	must(err)

	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	web, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	s.TCP, s.HTTP = tcp.Addr().String(), "http://"+web.Addr().String()
	accept := func(c stream.Conn, over func()) { s.Core.Accept(c, false, over) }
	sockets := websocket.New(accept, websocket.Options{})
	requests := bosh.New(accept, o.BOSH)
	mux := http.NewServeMux()
	mux.Handle(websocket.Path, sockets)
	mux.Handle(bosh.Path, requests)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	run, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Core.ServeTCP(run, tcp, core.Mode{RequireTLS: o.TLS}) })
	wg.Go(func() { _ = srv.Serve(web) })
	wg.Go(func() { s.Core.Run(run, 2*time.Second) })
	if served != nil {
		wg.Go(func() { served.Run(run) })
	}
	tb.Cleanup(func() {
		cancel()
		sockets.Close()
		requests.Close()
		srv.Close()
		wg.Wait()
	})
	return s
}

// testLog passes what the server warns of to the test's log until the test ends.
type testLog struct {
	mu sync.Mutex
	tb testing.TB
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tb.Logf("server: %s", b)
	return len(b), nil
}
