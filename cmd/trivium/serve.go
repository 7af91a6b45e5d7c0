package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"trivium/config"
	"trivium/core/admin"
)

type serveCmd struct{}

func (cmd *serveCmd) Run(c *cli) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	var level slog.LevelVar
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // validated
	log := newLogger(os.Stderr, cfg.Log.Format, &level)
	adoptStandardLog(log)
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s := &server{cli: c, level: &level}
	return s.run(ctx, cfg, log)
}

func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// server is the engine on the network.
type server struct {
	*engine
	cli   *cli
	level *slog.LevelVar
	web   *web
	live  *config.Config // what holds since the last reload; owned by reloadOnHangup
}

// run serves until ctx ends. It stops in the reverse order of starting: first
// nothing new comes in, then the sessions end, then the store closes.
func (s *server) run(ctx context.Context, cfg *config.Config, log *slog.Logger) (err error) {
	if s.engine, err = newEngine(ctx, cfg, log); err != nil {
		return err
	}
	defer s.close()

	adminLn, err := admin.Listen(cfg.Path(cfg.Admin.Socket))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", admin.Handler(&s.admin, log))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	adminSrv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = adminSrv.Serve(adminLn) }()
	defer adminSrv.Close()

	if s.web, err = newWeb(s.engine); err != nil {
		return err
	}
	if err := s.agents.Start(ctx); err != nil {
		return err
	}
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	var demo *demoSetup
	if cfg.Development {
		if demo, err = s.setUpDemo(ctx); err != nil {
			return err
		}
		s.web.demo = demo.page(s.core.Hosts())
	}

	// Background work and listeners end with accept; sessions are told after that.
	accept, noMore := context.WithCancel(context.Background())
	defer noMore()
	var running sync.WaitGroup
	background, endBackground := context.WithCancel(context.Background())
	defer endBackground()
	var watchers sync.WaitGroup
	watchers.Go(func() { s.certs.Run(background, time.Minute) })
	watchers.Go(func() { s.reloadOnHangup(background) })
	s.web.start(background, &watchers)

	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		running.Go(func() {
			if err := l.serve(accept); err != nil {
				failed <- fmt.Errorf("%s: %w", l.addr, err)
			}
		})
		log.Info("listening", "kind", l.kind, "address", l.addr)
	}
	sessions, endSessions := context.WithCancel(context.Background())
	defer endSessions()
	over := make(chan struct{})
	go func() { defer close(over); s.core.Run(sessions, cfg.Shutdown.Grace) }()
	if cfg.Development {
		demo.explain(os.Stdout, s, listeners)
	}
	log.Info("ready", "version", version, "hosts", s.core.Hosts())

	select {
	case <-ctx.Done():
	case err = <-failed:
		log.Error("a listener failed", "err", err)
	}
	log.Info("stopping")
	s.web.health.Stopping()
	noMore()
	endSessions()
	<-over
	s.web.stop(cfg.Shutdown.Grace)
	running.Wait()
	endBackground()
	watchers.Wait()
	log.Info("stopped")
	return err
}

// reloadOnHangup takes over what can be changed live when SIGHUP comes. A file
// that is not valid changes nothing.
func (s *server) reloadOnHangup(ctx context.Context) {
	s.live = s.cfg
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			s.reload()
		}
	}
}

func (s *server) reload() {
	next, err := s.cli.load()
	if err != nil {
		s.log.Error("the configuration is not valid; nothing has changed", "err", err)
		return
	}
	live, restart := config.Diff(s.live, next)
	_ = s.level.UnmarshalText([]byte(next.Log.Level))
	hosts, files := certificates(next)
	if len(hosts) != len(s.core.Hosts()) {
		hosts, files = certificates(s.cfg) // hosts need a restart
	}
	if err := s.certs.Replace(hosts, files); err != nil {
		s.log.Error("certificates are not reloaded", "err", err)
	}
	s.core.Sessions.Tune(sessionOptions(next))
	s.web.reload(next)
	s.log.Info("configuration reloaded", "changed", live)
	if len(restart) > 0 {
		s.log.Warn("some changes need a restart", "keys", restart)
	}
	// What needs a restart keeps its old value, so that the next reload tells again.
	s.live = config.Live(s.live, next)
}

// listener is one socket at work.
type listener struct {
	kind, addr string
	net.Listener
	conf  config.Listener
	serve func(context.Context) error
}

var errNoListener = errors.New("listeners: there is none")
