package core

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"trivium/core/stream"
)

// directTimeout bounds the handshake of Direct TLS.
const directTimeout = 10 * time.Second

// ServeTCP accepts client connections from ln until ctx ends or ln fails. It
// closes ln, and does not wait for the sessions.
func (s *Server) ServeTCP(ctx context.Context, ln net.Listener, mode Mode) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for pause := time.Millisecond; ; {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of descriptors, or a connection that was gone already: go on, not
			// in a tight loop.
			s.log.Warn("accept failed", "listener", ln.Addr().String(), "err", err)
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			s.serveTCP(c, mode)
		}()
	}
}

func (s *Server) serveTCP(c net.Conn, mode Mode) {
	sock := stream.NewSocket(c)
	if mode.Direct == nil {
		s.Accept(stream.NewTCP(sock, s.Sessions.Before()), mode.RequireTLS, nil)
		return
	}
	conn, err := stream.NewDirectTLS(sock, mode.Direct, s.Sessions.Before(), directTimeout)
	if err != nil {
		s.log.Debug("TLS handshake failed", "remote", c.RemoteAddr().String(), "err", err)
		return
	}
	s.Accept(conn, mode.RequireTLS, nil)
}

// PerAddress limits how many connections one IP address may have open at a time
// (XEP-0205 §3.3). It is for concurrent use and may serve several listeners.
type PerAddress struct {
	Max int // 0: no limit

	mu   sync.Mutex
	open map[netip.Addr]int
}

// Listener returns ln with connections over the limit closed at once.
func (p *PerAddress) Listener(ln net.Listener) net.Listener {
	if p == nil || p.Max <= 0 {
		return ln
	}
	return &limitedListener{ln, p}
}

type limitedListener struct {
	net.Listener
	limit *PerAddress
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		a, ok := c.RemoteAddr().(*net.TCPAddr)
		if !ok {
			return c, nil // unix sockets have no address to tell peers by
		}
		addr := a.AddrPort().Addr().Unmap()
		if !l.limit.take(addr) {
			c.Close()
			continue
		}
		return &countedConn{Conn: c, end: sync.OnceFunc(func() { l.limit.give(addr) })}, nil
	}
}

func (p *PerAddress) take(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[a] >= p.Max {
		return false
	}
	if p.open == nil {
		p.open = map[netip.Addr]int{}
	}
	p.open[a]++
	return true
}

func (p *PerAddress) give(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[a]--; p.open[a] <= 0 {
		delete(p.open, a)
	}
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	end func()
}

func (c *countedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// SyscallConn implements syscall.Conn where the connection below does.
func (c *countedConn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
