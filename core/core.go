// Package core is the engine: it puts router, modules and sessions together for
// a set of virtual hosts. It knows connections as stream.Conn and nothing of
// HTTP, configuration files or gateways; those are handed in by cmd/trivium.
package core

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"trivium/core/auth"
	"trivium/core/c2s"
	"trivium/core/certs"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/sasl"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/stream"
)

// VirtualHost is one domain with accounts.
type VirtualHost struct {
	Domain    string
	Anonymous bool          // offers SASL ANONYMOUS
	Sources   *auth.Sources // where accounts come from; nil: our own tables alone
}

// Options of New. Store, Auth and Hosts are required; zero values of the rest
// are defaults.
type Options struct {
	Hosts    []VirtualHost
	Store    *store.DB
	Auth     *auth.Service
	Certs    *certs.Store // nil: no STARTTLS
	Modules  func(*Server) []module.Module
	SASL     sasl.Options // Anonymous is taken from the host
	Sessions c2s.Options  // Hosts and Logger are filled in
	Logger   *slog.Logger
}

// Server is the engine. It is safe for concurrent use.
type Server struct {
	Router   *router.Router
	Modules  *module.Host
	Sessions *c2s.Service
	Store    *store.DB
	Auth     *auth.Service
	Started  time.Time

	log      *slog.Logger
	hosts    []string
	accounts map[string]*auth.Accounts // by host; constant after New
	wg       sync.WaitGroup
}

// New builds a Server. Nothing runs before Run, but connections may be accepted.
func New(o Options) (*Server, error) {
	if len(o.Hosts) == 0 {
		return nil, errors.New("core: no virtual host")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		Router: router.New(router.Options{Logger: o.Logger}),
		Store:  o.Store, Auth: o.Auth, Started: time.Now(), log: o.Logger,
		accounts: make(map[string]*auth.Accounts, len(o.Hosts)),
	}
	sessions := o.Sessions
	sessions.Logger = o.Logger
	for _, h := range o.Hosts {
		d, err := jid.New("", h.Domain, "")
		if err != nil {
			return nil, fmt.Errorf("core: virtual host %q: %w", h.Domain, err)
		}
		domain := d.Domain()
		if s.Router.Serves(domain) {
			return nil, fmt.Errorf("core: virtual host %s is named twice", domain)
		}
		s.hosts = append(s.hosts, domain)
		s.Router.Serve(domain, s.Router.Local())
		sources := auth.Sources{Internal: true}
		if h.Sources != nil {
			sources = *h.Sources
		}
		accounts := o.Auth.Source(domain, sources)
		s.accounts[domain] = accounts
		so := o.SASL
		so.Anonymous = h.Anonymous
		v := c2s.VirtualHost{Domain: d, Backend: accounts.Backend(), SASL: accounts.SASL(so)}
		if o.Certs != nil {
			v.TLS = o.Certs.HostConfig(domain)
		}
		sessions.Hosts = append(sessions.Hosts, v)
	}
	s.Modules = module.NewHost(s.Router, o.Store, o.Logger, time.Now, s.hosts, s.Exists)
	var mods []module.Module
	if o.Modules != nil {
		mods = o.Modules(s)
	}
	if err := s.Modules.Build(mods...); err != nil {
		return nil, fmt.Errorf("core: %w", err)
	}
	o.Auth.OnRemove(func(_ context.Context, tx *store.Tx, account jid.JID) error {
		return s.Modules.AccountRemoved(tx, account)
	})
	s.Sessions = c2s.New(s.Router, s.Modules, sessions)
	return s, nil
}

// Exists reports whether account's bare address is an account of a virtual host;
// sessions of ANONYMOUS have none but are found in the router before this is asked.
// It rarely waits, but for seconds where a host has an auth.Directory that does not
// answer. The error is then a *stanza.Error that asks to try again; another is the
// store's.
func (s *Server) Exists(ctx context.Context, account jid.JID) (bool, error) {
	a := s.accounts[account.Domain()]
	if a == nil {
		return false, nil
	}
	ok, err := a.Exists(ctx, account)
	if errors.Is(err, auth.ErrDirectory) {
		// Neither yes nor no would be true: RFC 6120 §8.3.3.18.
		return false, &stanza.Error{
			Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: "whether there is such an account cannot be told now", Cause: err,
		}
	}
	return ok, err
}

// Hosts returns the virtual hosts' domains.
func (s *Server) Hosts() []string { return s.hosts }

// Accept takes over a client connection and returns at once; over, if not nil, is
// called when its session has ended.
func (s *Server) Accept(conn stream.Conn, requireTLS bool, over func()) {
	s.Sessions.Accept(conn, requireTLS, over)
}

// Run does the server's periodic work until ctx ends, then shuts the sessions
// down; grace is how long they have to end in order.
func (s *Server) Run(ctx context.Context, grace time.Duration) {
	s.wg.Go(func() { s.tidyMemory(ctx) })
	s.Sessions.Run(ctx)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	s.Sessions.Shutdown(end)
	s.Modules.Stop()
	s.wg.Wait()
}

// Mode says how a TCP listener of clients begins.
type Mode struct {
	// Direct is the configuration of Direct TLS (XEP-0368); nil means STARTTLS.
	Direct *tls.Config
	// RequireTLS refuses logins in clear where Direct is nil.
	RequireTLS bool
}
