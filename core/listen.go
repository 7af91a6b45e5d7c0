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
// closes ln and waits for the handshakes of Direct TLS, which end with ctx, but not
// for the sessions.
func (s *Server) ServeTCP(ctx context.Context, ln net.Listener, mode Mode) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
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
		wg.Go(func() { s.serveTCP(ctx, c, mode) })
	}
}

func (s *Server) serveTCP(ctx context.Context, c net.Conn, mode Mode) {
	sock := stream.NewSocket(c)
	if mode.Direct == nil {
		s.Accept(stream.NewTCP(sock, s.Sessions.Before()), mode.RequireTLS, nil)
		return
	}
	stop := context.AfterFunc(ctx, func() { sock.Close() })
	defer stop()
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

// Listener returns ln with connections over the limit closed at once, or, where
// the address is only known when something has been read (PROXY protocol), then.
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
		counted := &countedConn{Conn: c, limit: l.limit}
		if _, known := c.(*net.TCPConn); known && !counted.count() {
			continue
		}
		return counted, nil
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

// countedConn takes a place for its address before anything is read from it, and
// gives it back when it is closed.
type countedConn struct {
	net.Conn
	limit *PerAddress
	first sync.Once // decides on addr and over
	addr  netip.Addr
	over  bool // there was no place
	last  sync.Once
}

// count takes the place and reports whether there was one; if not the connection
// is closed. It waits as long as Conn.RemoteAddr does.
func (c *countedConn) count() bool {
	c.first.Do(func() {
		a, ok := c.Conn.RemoteAddr().(*net.TCPAddr)
		if !ok {
			return // unix sockets have no address to tell peers by
		}
		addr := a.AddrPort().Addr().Unmap()
		if !c.limit.take(addr) {
			c.over = true
			c.Conn.Close()
			return
		}
		c.addr = addr
	})
	return !c.over
}

// RemoteAddr implements net.Conn.
func (c *countedConn) RemoteAddr() net.Addr {
	c.count()
	return c.Conn.RemoteAddr()
}

// Read implements net.Conn.
func (c *countedConn) Read(p []byte) (int, error) {
	if !c.count() {
		return 0, net.ErrClosed
	}
	return c.Conn.Read(p)
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.last.Do(func() {
		c.first.Do(func() {}) // too late to be counted
		if c.addr.IsValid() {
			c.limit.give(c.addr)
		}
	})
	return err
}

// SyscallConn implements syscall.Conn where the connection below does.
func (c *countedConn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
