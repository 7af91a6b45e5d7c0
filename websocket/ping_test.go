package websocket

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gorilla "github.com/gorilla/websocket"

	"trivium/core/stream"
)

// pipes is a listener of connections in memory, for tests whose clock is false.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return stream.NewSocket(c), nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(t *testing.T) *gorilla.Conn {
	t.Helper()
	d := gorilla.Dialer{Subprotocols: []string{"xmpp"}, NetDial: func(string, string) (net.Conn, error) {
		here, there := net.Pipe()
		p.conns <- there
		return here, nil
	}}
	c, _, err := d.Dial("ws://example.com"+Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bubble runs a server in memory.
func bubble(t *testing.T, accept func(stream.Conn), opt Options, f func(*testing.T, *Handler, *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		h := New(taking(accept), opt)
		p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		srv := &http.Server{Handler: h}
		go srv.Serve(p)
		f(t, h, p)
		srv.Close()
		h.Close()
		synctest.Wait()
	})
}

func TestPing(t *testing.T) {
	const interval = time.Minute
	ended := make(chan error, 1)
	accept := func(c stream.Conn) {
		for {
			if _, err := c.Read(nil); err != nil {
				ended <- err
				return
			}
		}
	}
	bubble(t, accept, Options{PingInterval: interval}, func(t *testing.T, h *Handler, p *pipes) {
		ended = make(chan error, 1)
		c := p.dial(t)
		start := time.Now()
		var pings atomic.Int32
		var silence atomic.Bool
		c.SetPingHandler(func(data string) error {
			pings.Add(1)
			if silence.Load() {
				return nil
			}
			return c.WriteControl(gorilla.PongMessage, []byte(data), time.Now().Add(time.Second))
		})
		read := make(chan error, 1)
		go func() {
			_, _, err := c.ReadMessage()
			read <- err
		}()
		time.Sleep(10*interval + time.Second)
		synctest.Wait()
		if n := pings.Load(); n < 9 || n > 11 {
			t.Errorf("%d pings in %v", n, time.Since(start))
		}
		select {
		case err := <-ended:
			t.Fatalf("dropped though it answers: %v", err)
		default:
		}
		silence.Store(true)
		silent := time.Now()
		var wrong *stream.Error
		if err := <-ended; errors.As(err, &wrong) {
			t.Errorf("Read: %v", err)
		}
		if d := time.Since(silent); d > 2*interval {
			t.Errorf("dropped after %v of silence", d)
		}
		if err := <-read; err == nil {
			t.Error("the client's side is still open")
		}
		// The pinger ends with the last connection.
		time.Sleep(interval)
		synctest.Wait()
		h.mu.Lock()
		if h.wheel.running || h.wheel.size != 0 {
			t.Errorf("pinger running %v, %d connections", h.wheel.running, h.wheel.size)
		}
		h.mu.Unlock()
		// And begins again with the next one.
		c = p.dial(t)
		c.SetPingHandler(func(string) error { return nil })
		go c.ReadMessage()
		<-ended
		c.Close()
	})
}

// A peer that talks is not pinged.
func TestNoPingNeeded(t *testing.T) {
	bubble(t, echo, Options{PingInterval: time.Minute}, func(t *testing.T, _ *Handler, p *pipes) {
		c := p.dial(t)
		c.SetPingHandler(func(string) error { t.Error("pinged"); return nil })
		send(t, c, open)
		expect(t, c, opened)
		expect(t, c, features2)
		for range 50 {
			time.Sleep(10 * time.Second)
			send(t, c, `<presence xmlns='jabber:client'/>`)
			expect(t, c, `<presence xmlns='jabber:client'/>`)
		}
		c.Close()
	})
}

// After our end of the stream, a peer that ends neither the stream nor the
// connection has closeTimeout.
func TestCloseTimeout(t *testing.T) {
	ended := make(chan time.Duration, 1)
	accept := func(c stream.Conn) {
		start := time.Now()
		c.Close(nil)
		if _, err := c.Read(nil); err != io.EOF {
			t.Errorf("Read: %v", err)
		}
		ended <- time.Since(start)
	}
	bubble(t, accept, Options{}, func(t *testing.T, _ *Handler, p *pipes) {
		ended = make(chan time.Duration, 1)
		c := p.dial(t)
		expect(t, c, closed)
		c.SetCloseHandler(func(int, string) error { return nil }) // never answered
		// RFC 7395 §3.6: the closing handshake all the same.
		_, _, err := c.ReadMessage()
		var end *gorilla.CloseError
		if !errors.As(err, &end) || end.Code != 1000 {
			t.Errorf("read %v", err)
		}
		if d := <-ended; d != closeTimeout {
			t.Errorf("waited %v", d)
		}
		c.Close()
	})
}

// Handler.Close drops all connections and lets none in.
func TestHandlerClose(t *testing.T) {
	h, s := server(t, false, echo, Options{})
	var conns []*gorilla.Conn
	for range 20 {
		c := dial(t, s, nil)
		send(t, c, open)
		expect(t, c, opened)
		expect(t, c, features2)
		conns = append(conns, c)
	}
	h.Close()
	for _, c := range conns {
		if _, _, err := c.ReadMessage(); err == nil {
			t.Error("still open")
		}
	}
	late := dial(t, s, nil)
	if _, _, err := late.ReadMessage(); err == nil {
		t.Error("let in after Close")
	}
}
