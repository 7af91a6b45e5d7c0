package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"trivium/config"
	"trivium/core"
	"trivium/core/admin"
	"trivium/core/agent"
	"trivium/core/auth"
	"trivium/core/c2s"
	"trivium/core/certs"
	"trivium/core/jid"
	"trivium/core/mod"
	"trivium/core/mod/archive"
	"trivium/core/mod/offline"
	"trivium/core/mod/private"
	"trivium/core/mod/register"
	"trivium/core/mod/roster"
	"trivium/core/mod/vcard"
	"trivium/core/module"
	"trivium/core/sasl"
	"trivium/core/store"
	"trivium/core/wire"
	"trivium/httpapi/delivery"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
	"trivium/httpapi/idempotency"
	"trivium/httpapi/webhook"
)

// engine is the server without its listeners: what the subcommands work on when
// no server runs, and what serve puts on the network.
type engine struct {
	cfg   *config.Config
	log   *slog.Logger
	db    *store.DB
	users *auth.Service
	certs *certs.Store
	core  *core.Server
	admin admin.Registry

	features *mod.Set
	sources  *sources

	// What stands between the core and programs.
	events     *event.Log
	gateways   *gateway.Registry
	webhooks   *webhook.Service
	deliveries *delivery.Tracker
	answers    *idempotency.Keeper
	agents     *agent.Service

	now func() time.Time // the clock of logins by tokens and questions
}

func newEngine(ctx context.Context, cfg *config.Config, log *slog.Logger) (*engine, error) {
	return newEngineAt(ctx, cfg, log, time.Now)
}

// newEngineAt is newEngine with another clock.
func newEngineAt(ctx context.Context, cfg *config.Config, log *slog.Logger, now func() time.Time) (*engine, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	e := &engine{cfg: cfg, log: log, now: now}
	var err error
	if e.db, err = store.Open(ctx, store.Options{Path: cfg.Path(cfg.Store.Path), Logger: log}); err != nil {
		return nil, err
	}
	if err := e.build(ctx); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *engine) build(ctx context.Context) error {
	cfg := e.cfg
	var err error
	if e.sources, err = newSources(cfg, e.log, e.now); err != nil {
		return err
	}
	accounts := authOptions(cfg, e.log)
	accounts.Access, accounts.Now = e.sources.access, e.now
	if e.users, err = auth.New(e.db, accounts); err != nil {
		return err
	}
	var hosts []core.VirtualHost
	for i, h := range cfg.Hosts {
		hosts = append(hosts, core.VirtualHost{Domain: h.Domain, Anonymous: h.Anonymous, Sources: e.sources.hosts[i]})
	}
	names, files := certificates(cfg)
	if e.certs, err = certs.New(certs.Options{Dir: cfg.Path("certs"), Hosts: names, Files: files, Logger: e.log}); err != nil {
		return err
	}
	sessions := sessionOptions(cfg)
	if n := cfg.Limits.FailedLoginsPerAddress; n > 0 {
		sessions.Throttle = auth.NewThrottle(auth.ThrottleOptions{AddressBurst: n, PairBurst: max(n/4, 5)})
	}
	var hookErr error
	e.core, err = core.New(core.Options{
		Hosts: hosts, Store: e.db, Auth: e.users, Certs: e.certs, Logger: e.log,
		SASL: saslOptions(cfg), Sessions: sessions,
		Modules: func(s *core.Server) []module.Module {
			if e.events, hookErr = event.NewLog(ctx, event.Options{Store: s.Store, Logger: e.log}); hookErr != nil {
				return nil
			}
			recorder := event.NewRecorder(e.events)
			if e.gateways, hookErr = newGateways(ctx, e, s); hookErr != nil {
				return nil
			}
			if e.webhooks, hookErr = newWebhooks(ctx, e, s, recorder); hookErr != nil {
				return nil
			}
			o := moduleOptions(cfg)
			o.Archive.Exists = s.Exists
			o.Commands.Commands = e.admin.Commands
			e.features = mod.New(e.users, o)
			if e.answers, hookErr = idempotency.New(ctx, s.Store, idempotency.Options{Logger: e.log}); hookErr != nil {
				return nil
			}
			e.agents = agent.New(agent.Options{})
			if e.deliveries, hookErr = delivery.New(ctx, s.Store, delivery.Options{Events: e.events, Logger: e.log}); hookErr != nil {
				return nil
			}
			return append([]module.Module{e.events, recorder, e.deliveries, e.gateways, e.agents}, e.features.Modules()...)
		},
	})
	if err = errors.Join(err, hookErr); err != nil {
		return err
	}
	if e.admin.Audit, err = admin.NewAudit(ctx, e.db, admin.AuditOptions{
		Keep: cfg.Admin.Audit.Keep, MaxEntries: cfg.Admin.Audit.Entries, Logger: e.log,
	}); err != nil {
		return err
	}
	e.admin.Add(admin.Accounts(e.users, e.core.Modules)...)
	e.admin.Add(admin.Tokens(e.users, e.now)...)
	e.admin.Add(admin.Sessions(e.users, e.core.Modules)...)
	e.admin.Add(admin.AuditLog(e.admin.Audit)...)
	e.admin.Add(admin.Figures(admin.StatsSources{
		Version: version, Started: e.now(), Users: e.users, Modules: e.core.Modules, Store: e.db, Clients: &e.core.Sessions.Stats,
	})...)
	return nil
}

func (e *engine) close() {
	if e.sources != nil {
		e.sources.close()
	}
	if err := e.db.Close(); err != nil {
		e.log.Error("closing the store failed", "err", err)
	}
}

func certificates(cfg *config.Config) (hosts []string, files []certs.File) {
	for _, h := range cfg.Hosts {
		hosts = append(hosts, h.Domain)
		if h.Certificate != "" {
			files = append(files, certs.File{Hosts: []string{h.Domain}, Cert: cfg.Path(h.Certificate), Key: cfg.Path(h.Key)})
		}
	}
	return hosts, files
}

func authOptions(cfg *config.Config, log *slog.Logger) auth.Options {
	o := auth.Options{Iterations: cfg.SASL.Iterations, TokenLifetime: cfg.SASL.FastLifetime, Logger: log}
	if o.TokenLifetime == 0 {
		o.TokenLifetime = -1
	}
	return o
}

func saslOptions(cfg *config.Config) sasl.Options {
	o := sasl.Options{NoPlain: true, Hashes: []sasl.Hash{}}
	for _, m := range cfg.SASL.Mechanisms {
		switch m {
		case "SCRAM-SHA-512":
			o.Hashes = append(o.Hashes, sasl.SHA512)
		case "SCRAM-SHA-256":
			o.Hashes = append(o.Hashes, sasl.SHA256)
		case "SCRAM-SHA-1":
			o.Hashes = append(o.Hashes, sasl.SHA1)
		case "PLAIN":
			o.NoPlain = false
		}
	}
	return o
}

func sessionOptions(cfg *config.Config) c2s.Options {
	l := cfg.Limits
	o := c2s.Options{
		Before:       wire.Limits{Bytes: int(l.StanzaSizeBeforeAuth), Depth: 8, Attrs: min(l.Attributes, 16), NSDecls: 16, Children: 64},
		After:        afterLogin(cfg),
		LoginTimeout: l.LoginTimeout,
		PingAfter:    l.PingInterval,
		PingTimeout:  l.PingTimeout,
		Attempts:     l.AuthAttempts,
		MaxSessions:  l.ResourcesPerAccount,
		Outbox:       int(l.OutboxSize),
		Rate:         int(l.RateBytes),
		Burst:        int(l.BurstBytes),
		Pace:         l.RateStanzas,
		PaceBurst:    l.BurstStanzas,
		Strangers:    l.UnauthenticatedPerAddress,
	}
	if o.PingAfter == 0 {
		o.PingAfter = -1
	}
	sm := cfg.StreamManagement
	o.Unacked, o.Resume, o.AckEarly = sm.Unacknowledged, sm.Resume, !sm.Promise
	if o.Resume == 0 {
		o.Resume = -1
	}
	return o
}

func afterLogin(cfg *config.Config) wire.Limits {
	l := cfg.Limits
	return wire.Limits{Bytes: int(l.StanzaSize), Depth: l.Depth, Attrs: l.Attributes, Children: l.Children}
}

func moduleOptions(cfg *config.Config) mod.Options {
	// Stored messages come in portions of which an outbox holds several.
	share := min(int(cfg.Limits.OutboxSize)/4, 256<<10)
	o := mod.Options{
		Version: version,
		Roster:  roster.Options{Items: cfg.Limits.RosterItems},
		VCard:   vcard.Options{MaxSize: int(cfg.Limits.PrivateSize)},
		Private: private.Options{MaxSize: int(cfg.Limits.PrivateSize)},
		Offline: offline.Options{Messages: cfg.Limits.OfflineMessages, BatchBytes: share / 2},
		Archive: archive.Options{
			Default: archive.Policy(cfg.Archive.Default), MaxAge: cfg.Archive.MaxAge, MaxBytes: int64(cfg.Archive.MaxSize),
			PageMax: cfg.Archive.PageLimit, PageBytes: share, FullText: cfg.Archive.Search,
		},
	}
	o.Upload = uploadOptions(cfg)
	for _, a := range cfg.Admin.Accounts {
		if j, err := jid.Parse(a); err == nil { // checked with the configuration
			o.Commands.Admins = append(o.Commands.Admins, j)
		}
	}
	if n := cfg.Limits.RegistrationsPerHour; n > 0 {
		o.Register = register.Options{Burst: n, Every: time.Hour / time.Duration(n)}
		for _, h := range cfg.Hosts {
			if h.Registration {
				o.Register.Open = append(o.Register.Open, h.Domain)
			}
		}
	}
	for _, h := range cfg.Hosts {
		if !h.Auth.Internal {
			o.Register.Elsewhere = append(o.Register.Elsewhere, h.Domain)
		}
	}
	return o
}
