package hostile

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"trivium/core/c2s"
	"trivium/core/mod"
	"trivium/core/mod/register"
	"trivium/test/harness"
)

// settled waits until hardly more goroutines run than before: the server may still have been starting.
func settled(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(harness.Patience); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// Whoever does not read is put out; nobody waits for it, and what was for it is
// kept for its account.
func TestReaderThatDoesNotRead(t *testing.T) {
	s := start(t, harness.Options{Sessions: c2s.Options{Outbox: 64 << 10}})
	for _, framing := range harness.Framings {
		slow, sender, other := login(t, s, framing, "juliet", "slow"), login(t, s, "tcp", "mallory", "x"), login(t, s, "tcp", "romeo", "y")
		available(t, slow)
		text := strings.Repeat("x", 16<<10)
		for i := range 900 { // 14 MiB, more than sockets hold
			must(t, sender.Send("<message to='juliet@example.org/slow' type='headline'><body>"+text+"</body></message>"))
			alive(t, sender)
			if i%50 == 0 {
				alive(t, other)
			}
		}
		n, err := sender.Next()
		must(t, err)
		if e := n.Child(harness.NSClient, "error"); e == nil || e.Child(harness.NSStanzas, "service-unavailable") == nil {
			t.Fatalf("juliet was not put out: %s", n)
		}
		slow.Drop()
		sender.Drop()
		other.Drop()
		for end := time.Now().Add(harness.Patience); s.Core.Router.Sessions() > 0; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%d sessions are left over %s", s.Core.Router.Sessions(), framing)
			}
		}
	}
}

// A stranger that asks and does not read holds only what one answer takes.
func TestStrangerThatDoesNotRead(t *testing.T) {
	s := start(t, harness.Options{Modules: mod.Options{Register: register.Options{Open: []string{"example.org"}}}})
	r := dial(t, s)
	r.send(header)
	r.until("</stream:features>")
	ask := []byte(strings.Repeat("<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>", 500))
	blocked := false
	for range 2000 { // 60 MB of questions
		_ = r.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := r.Write(ask); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			blocked = true
			break
		}
	}
	if !blocked {
		t.Error("the server goes on reading from a peer that does not")
	}
	alive(t, login(t, s, "tcp", "juliet", "here"))
}

// One resource, bound again and again by many at once: one is left, and nothing
// of the others.
func TestSessionReplacedInALoop(t *testing.T) {
	s := start(t, harness.Options{Sessions: c2s.Options{Strangers: -1}})
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for k := range 10 {
				conn, err := s.Dial(harness.Framings[(i+k)%3])
				if err != nil {
					t.Error(err)
					return
				}
				c := &harness.Client{Conn: conn}
				// Any of this may end with <conflict/>.
				if c.Start("example.org") == nil && c.Authenticate("mallory", "example.org", harness.Password) == nil && c.Bind("same") == nil {
					_ = c.Send("<presence/>")
					_ = c.Send("<message to='mallory@example.org' type='chat'><body>to myself</body></message>")
					if k%2 == 0 {
						_ = c.Close()
					}
				}
				c.Drop()
			}
		})
	}
	wg.Wait()
	for end := time.Now().Add(harness.Patience); s.Core.Router.Sessions() > 0; runtime.Gosched() {
		if time.Now().After(end) {
			break // a BOSH session whose client is gone lives until it is inactive
		}
		if c, err := s.Dial("tcp"); err == nil { // replaces what is left
			cl := &harness.Client{Conn: c}
			must(t, cl.Start("example.org"))
			must(t, cl.Authenticate("mallory", "example.org", harness.Password))
			must(t, cl.Bind("same"))
			if n := s.Core.Router.Sessions(); n != 1 {
				t.Errorf("%d sessions of one resource", n)
			}
			must(t, cl.Close())
			_, _ = cl.Receive()
			cl.Drop()
			break
		}
	}
	settled(t, before+4)
}

// Connections that come and go at every stage leave nothing behind.
func TestChurn(t *testing.T) {
	s := start(t, harness.Options{TLS: true})
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 40 {
				c, err := net.Dial("tcp", s.TCP)
				if err != nil {
					t.Error(err)
					return
				}
				in := [...]string{"", "<", header[:60], header, header + starttls, header + starttls + "\x16\x03\x01", "\x00", header + "</stream:stream>"}
				fmt.Fprint(c, in[(i+k)%len(in)])
				if k%3 == 0 {
					_ = c.(*net.TCPConn).SetLinger(0) // a reset
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	settled(t, before+4)
}

// RFC 6120 §4.9.3.20: everybody is told, strangers too.
func TestShutdownTellsEverybody(t *testing.T) {
	var young raw
	told := make(chan bool, 1)
	t.Run("server", func(t2 *testing.T) {
		s := start(t2, harness.Options{})
		young = dial(t, s)
		young.send(header)
		young.until("</stream:features>")
		conn, err := s.Dial("tcp")
		must(t2, err)
		t.Cleanup(conn.Drop)
		old := &harness.Client{Conn: conn}
		must(t2, old.Start("example.org"))
		must(t2, old.Authenticate("juliet", "example.org", harness.Password))
		must(t2, old.Bind(""))
		available(t2, old)
		// The server stops when this returns, and waits for the clients to end their
		// side: somebody has to read.
		go func() {
			for n, err := old.Next(); err == nil; n, err = old.Next() {
				if n.Is(harness.NSStream, "error") {
					told <- n.Child(harness.NSStreams, "system-shutdown") != nil
				}
			}
			close(told)
		}()
	})
	if got := young.ends(); got != "system-shutdown" {
		t.Errorf("a stranger got %s", got)
	}
	if !<-told {
		t.Error("a session was not told")
	}
}
