package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"trivium/config"
	"trivium/core"
	"trivium/core/admin"
	"trivium/core/certs"
	"trivium/core/stream"
)

// proxyHeaderTimeout bounds the wait for a PROXY protocol header.
const proxyHeaderTimeout = 5 * time.Second

// headerMax bounds the header of an HTTP request, in octets.
const headerMax = 16 << 10

// listen opens every listener, or none.
func (s *server) listen() ([]*listener, error) {
	var all []*listener
	perAddress := &core.PerAddress{Max: s.cfg.Limits.ConnectionsPerAddress}
	for i, conf := range s.cfg.Listeners {
		ln, err := open(conf.Address)
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, fmt.Errorf("listeners[%d]: %w", i, err)
		}
		if conf.ProxyProtocol {
			ln = &proxyproto.Listener{
				Listener: ln, ReadHeaderTimeout: proxyHeaderTimeout,
				ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.REQUIRE, nil },
			}
		}
		l := &listener{kind: conf.Kind, addr: ln.Addr().String(), Listener: perAddress.Listener(ln), conf: conf}
		switch conf.Kind {
		case config.XMPPStartTLS:
			l.serve = func(ctx context.Context) error {
				return s.core.ServeTCP(ctx, l, core.Mode{RequireTLS: conf.RequireTLS})
			}
		case config.XMPPTLS:
			direct := s.certs.ServerConfig(certs.ALPNClient)
			l.serve = func(ctx context.Context) error {
				return s.core.ServeTCP(ctx, l, core.Mode{Direct: direct, RequireTLS: true})
			}
		case config.HTTP, config.HTTPS:
			l.serve = func(ctx context.Context) error { return s.serveHTTP(ctx, l) }
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, errNoListener
	}
	return all, nil
}

// open listens on HOST:PORT or unix:PATH. A unix socket that nobody answers on
// any more is replaced.
func open(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return net.Listen("tcp", address)
	}
	if err := admin.RemoveStale(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// socketListener makes every connection a stream.Socket, which WebSocket turns
// into one that never waits for the peer.
type socketListener struct{ net.Listener }

func (l socketListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return stream.NewSocket(c), nil
}

// serveHTTP serves one HTTP or HTTPS listener until ctx ends.
func (s *server) serveHTTP(ctx context.Context, l *listener) error {
	srv := &http.Server{
		Handler:           s.web.handler(l.conf),
		ReadHeaderTimeout: s.cfg.Limits.HandshakeTimeout,
		IdleTimeout:       s.cfg.Limits.HTTPIdleTimeout,
		MaxHeaderBytes:    headerMax,
		ErrorLog:          httpErrorLog(s.log),
	}
	var ln net.Listener = socketListener{l}
	if l.kind == config.HTTPS {
		srv.TLSConfig = s.certs.ServerConfig(certs.ALPNHTTP)
		ln = tlsListener(ln, srv.TLSConfig)
	}
	s.web.track(srv)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	if err := srv.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return err
	}
	return nil
}
