package stream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback returns both ends of a TCP connection whose kernel buffers are bounded.
func loopback(t testing.TB) (ours *Socket, peer *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	peer = c.(*net.TCPConn)
	_ = peer.SetReadBuffer(64 << 10)
	_ = a.(*net.TCPConn).SetWriteBuffer(64 << 10)
	deadline := time.Now().Add(30 * time.Second)
	_ = peer.SetDeadline(deadline)
	ours = NewSocket(a)
	t.Cleanup(func() { ours.Close(); peer.Close() })
	return ours, peer
}

// pattern returns n octets of which no two neighbouring pieces are alike.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	return b
}

// stuff writes until the kernel takes no more, and returns what was written and a
// channel that gets what done was told.
func stuff(t *testing.T, s *Socket, size int) ([]byte, chan error) {
	t.Helper()
	all := pattern(size)
	for rest := all; len(rest) > 0; {
		n, err := s.Write(rest[:min(len(rest), 40_000)])
		if err != nil || n == 0 {
			t.Fatalf("Write: %d, %v", n, err)
		}
		rest = rest[n:]
	}
	told := make(chan error, 2)
	sent, err := s.Flushed(func(err error) { told <- err })
	if sent || err != nil {
		t.Fatalf("Flushed: %v, %v; the peer has read nothing", sent, err)
	}
	return all, told
}

func once(t *testing.T, told chan error) error {
	t.Helper()
	err := <-told
	select {
	case again := <-told:
		t.Errorf("done was called again, with %v", again)
	default:
	}
	return err
}

func TestEagerKeepsWhatTheKernelDoesNotTake(t *testing.T) {
	s, peer := loopback(t)
	s.Eager()
	all, told := stuff(t, s, 4<<20)
	got := make([]byte, len(all))
	if _, err := io.ReadFull(peer, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, all) {
		t.Fatal("the peer read something else than was written")
	}
	if err := once(t, told); err != nil {
		t.Errorf("done(%v)", err)
	}
	// The goroutine and its deadline are gone: the next octets go straight out.
	if _, err := s.Write([]byte("on")); err != nil {
		t.Fatal(err)
	}
	if sent, err := s.Flushed(nil); !sent || err != nil {
		t.Errorf("Flushed: %v, %v", sent, err)
	}
	if _, err := io.ReadFull(peer, got[:2]); err != nil || string(got[:2]) != "on" {
		t.Errorf("%q, %v", got[:2], err)
	}
}

func TestDoneIsToldOfTheEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*Socket, *net.TCPConn)
	}{
		{"by us", func(s *Socket, _ *net.TCPConn) { s.Close() }},
		{"by the peer", func(_ *Socket, peer *net.TCPConn) { _ = peer.SetLinger(0); peer.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, peer := loopback(t)
			s.Eager()
			_, told := stuff(t, s, 4<<20)
			tt.end(s, peer)
			err := once(t, told)
			if err == nil || !Gone(err) {
				t.Errorf("done(%v)", err)
			}
			if _, err := s.Write([]byte("x")); err == nil {
				t.Error("Write goes on")
			}
			if sent, err := s.Flushed(func(error) { t.Error("done after the end") }); sent || err == nil {
				t.Errorf("Flushed: %v, %v", sent, err)
			}
			s.Settle(time.Hour) // returns at once
		})
	}
}

// tls.Conn.CloseWrite sets a write deadline in the past; what is still pending
// was lost by it.
func TestCloseNotifyBehindPendingOctets(t *testing.T) {
	s, peer := loopback(t)
	s.Eager()
	server := tls.Server(s, serverTLS(t))
	client := tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	all := pattern(4 << 20)
	if _, err := server.Write(all); err != nil {
		t.Fatal(err)
	}
	if sent, _ := s.Flushed(nil); sent {
		t.Fatal("nothing is pending")
	}
	if err := server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, all) {
		t.Errorf("%d octets of %d, %v", len(got), len(all), err)
	}
}

func TestDrainTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, peer := net.Pipe()
		s := NewSocket(a)
		s.Eager()
		start := time.Now()
		_, told := stuff(t, s, 4*drainPiece)
		// A slow peer is no dead one.
		for range 2 {
			time.Sleep(drainTimeout - time.Second)
			if _, err := io.ReadFull(peer, make([]byte, drainPiece)); err != nil {
				t.Fatal(err)
			}
		}
		if err := once(t, told); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("done(%v)", err)
		}
		if d := time.Since(start); d != 3*drainTimeout-2*time.Second {
			t.Errorf("gave up after %v", d)
		}
		s.Close()
		peer.Close()
	})
}

func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, peer := net.Pipe()
		s := NewSocket(a)
		s.Eager()
		s.Settle(time.Hour) // nothing is pending
		all, _ := stuff(t, s, 3*drainPiece)
		start := time.Now()
		s.Settle(time.Second)
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited %v for a peer that reads nothing", d)
		}
		var waiting atomic.Int32
		for range 2 {
			waiting.Add(1)
			go func() { s.Settle(time.Hour); waiting.Add(-1) }()
		}
		synctest.Wait()
		if waiting.Load() != 2 {
			t.Error("Settle does not wait")
		}
		if _, err := io.ReadFull(peer, make([]byte, len(all))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if waiting.Load() != 0 {
			t.Error("Settle waits for nothing")
		}
		s.Close()
		peer.Close()
	})
}

func TestReadAhead(t *testing.T) {
	s, peer := loopback(t)
	s.Eager()
	idle := 0
	s.OnIdle(func() { idle++ })
	if _, err := peer.Write([]byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 2)
	for _, want := range []string{"ab", "cd", "ef"} {
		n, err := s.Read(p)
		if err != nil || string(p[:n]) != want {
			t.Fatalf("Read: %q, %v; want %q", p[:n], err, want)
		}
	}
	if idle != 1 {
		t.Errorf("the kernel was asked %d times", idle)
	}
	if s.ahead != nil {
		t.Error("a buffer is held with nothing in it")
	}
	peer.Close()
	if n, err := s.Read(p); n != 0 || err != io.EOF {
		t.Errorf("Read at the end: %d, %v", n, err)
	}
}

func TestTakeAllocatesNothing(t *testing.T) {
	s, peer := loopback(t)
	s.Eager()
	one := []byte{'x'}
	n := testing.AllocsPerRun(200, func() {
		if _, err := peer.Write(one); err != nil {
			t.Fatal(err)
		}
		buf, end, err := s.Take(1)
		if err != nil || end != 2 || (*buf)[1] != 'x' {
			t.Fatalf("Take: %d, %v", end, err)
		}
		Give(buf)
		if _, err := s.Write(one); err != nil {
			t.Fatal(err)
		}
		if sent, err := s.Flushed(nil); !sent || err != nil {
			t.Fatalf("Flushed: %v, %v", sent, err)
		}
		if _, err := peer.Read(one); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 && !raceEnabled {
		t.Errorf("%v allocs, want 0", n)
	}
}
