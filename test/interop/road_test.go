package interop

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A road is a loopback proxy in front of one listener of the server that loses
// connections the way networks do: nothing arrives any more, and one end or
// neither is told. Connections made afterwards pass.
type road struct {
	to       string // host:port of the server's listener
	entrance net.Listener
	pumps    sync.WaitGroup

	mu    sync.Mutex
	links map[*link]struct{}
}

// newRoad opens a road that is closed with the test.
func newRoad(t *testing.T, to string) *road {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{to: to, entrance: l, links: make(map[*link]struct{})}
	r.pumps.Go(r.accept)
	t.Cleanup(func() {
		r.entrance.Close()
		for _, k := range r.all() {
			k.close()
		}
		r.pumps.Wait()
	})
	return r
}

// addr is where clients connect.
func (r *road) addr() string { return r.entrance.Addr().String() }

func (r *road) accept() {
	for {
		c, err := r.entrance.Accept()
		if err != nil {
			return // closed
		}
		s, err := net.DialTimeout("tcp", r.to, 5*time.Second)
		if err != nil {
			c.Close()
			continue
		}
		k := &link{client: c.(*net.TCPConn), server: s.(*net.TCPConn)}
		r.mu.Lock()
		r.links[k] = struct{}{}
		r.mu.Unlock()
		r.pumps.Go(func() { k.pump(k.server, k.client) })
		r.pumps.Go(func() { k.pump(k.client, k.server) })
	}
}

func (r *road) all() []*link {
	r.mu.Lock()
	defer r.mu.Unlock()
	links := make([]*link, 0, len(r.links))
	for k := range r.links {
		links = append(links, k)
	}
	return links
}

// freeze stops forwarding on every connection there is. When it returns, nothing
// more arrives at either end; both are open and neither is told.
func (r *road) freeze() {
	for _, k := range r.all() {
		k.freeze()
	}
}

// loseClient freezes, and resets the clients' ends. The server is not told.
func (r *road) loseClient() {
	r.freeze()
	for _, k := range r.all() {
		reset(k.client)
	}
}

// loseServer freezes, and resets the server's ends. The clients are not told.
func (r *road) loseServer() {
	r.freeze()
	for _, k := range r.all() {
		reset(k.server)
	}
}

// reset closes a connection with RST.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// A link is one connection over a road.
type link struct {
	client, server *net.TCPConn
	frozen         atomic.Bool
	writing        [2]sync.Mutex // held while something is on its way, by direction
}

// freeze ends the pumps. A write that waits for a peer that does not read gives up.
func (k *link) freeze() {
	k.frozen.Store(true)
	for _, c := range []*net.TCPConn{k.client, k.server} {
		_ = c.SetDeadline(time.Unix(1, 0)) // also wakes the reads
	}
	for i := range k.writing {
		k.writing[i].Lock()
		//lint:ignore SA2001 nothing is to be done but to wait until what had begun has ended
		k.writing[i].Unlock()
	}
}

func (k *link) close() {
	k.client.Close()
	k.server.Close()
}

// pump forwards octets and the end of the stream until the link freezes.
func (k *link) pump(dst, src *net.TCPConn) {
	lock := &k.writing[0]
	if dst == k.client {
		lock = &k.writing[1]
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		lock.Lock()
		if k.frozen.Load() {
			lock.Unlock()
			return // the ends stay as they are
		}
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				err = errors.Join(err, werr)
			}
		}
		if err != nil && !k.frozen.Load() {
			_ = dst.CloseWrite()
		}
		lock.Unlock()
		if err != nil {
			return
		}
	}
}

// TestRoad holds the proxy to what the dramas take for granted.
func TestRoad(t *testing.T) {
	const soon = 10 * time.Second // until something that must happen
	for _, tt := range []struct {
		name           string
		lose           func(*road)
		client, server error // what each end reads afterwards
	}{
		{"frozen", (*road).freeze, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		{"client-told", (*road).loseClient, syscall.ECONNRESET, os.ErrDeadlineExceeded},
		{"server-told", (*road).loseServer, os.ErrDeadlineExceeded, syscall.ECONNRESET},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			r := newRoad(t, l.Addr().String())
			meet := func() (client, server net.Conn) {
				t.Helper()
				c, err := net.Dial("tcp", r.addr())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				s, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				return c, s
			}
			pass := func(from, to net.Conn, text string) {
				t.Helper()
				_ = to.SetReadDeadline(time.Now().Add(soon))
				got := make([]byte, len(text))
				if _, err := io.WriteString(from, text); err != nil {
					t.Fatal(err)
				} else if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
					t.Fatalf("got %q, %v; want %q", got, err, text)
				}
			}
			client, server := meet()
			pass(client, server, "there")
			pass(server, client, "and back")

			tt.lose(r)
			for _, end := range []struct {
				name  string
				conn  net.Conn
				other net.Conn
				want  error
				told  error // what the other reads
			}{{"client", client, server, tt.client, tt.server}, {"server", server, client, tt.server, tt.client}} {
				if errors.Is(end.told, os.ErrDeadlineExceeded) {
					if _, err := io.WriteString(end.other, "lost"); err != nil {
						t.Errorf("the end opposite to the %s was told: %v", end.name, err)
					}
				}
				// Nothing can arrive any more: the pumps have ended when lose returns. A
				// reset is on its way, so that is waited for.
				wait := soon
				if errors.Is(end.want, os.ErrDeadlineExceeded) {
					wait = 10 * time.Millisecond
				}
				_ = end.conn.SetReadDeadline(time.Now().Add(wait))
				if n, err := end.conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, end.want) {
					t.Errorf("the %s reads %d octets, %v; want %v", end.name, n, err, end.want)
				}
			}
			client, server = meet() // later connections pass
			pass(client, server, "again")
		})
	}
}
