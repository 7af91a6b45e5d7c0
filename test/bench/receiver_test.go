package main

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

func TestReceiver(t *testing.T) {
	r, err := newReceiver()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	var n atomic.Int64
	got := func() { n.Add(1) }
	r.got.Store(&got)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Post(r.url(), "application/json", strings.NewReader(`{"type":"message"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	if n.Load() != 3 {
		t.Errorf("%d posts were counted, want 3", n.Load())
	}
}

func TestReadPost(t *testing.T) {
	for in, want := range map[string]int{
		"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 12\r\n\r\n": 12,
		"POST / HTTP/1.1\r\nHost: a\r\n\r\n":                       -1,
		"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n":              -1,
		"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n":             -1,
	} {
		n, err := readPost(bufio.NewReader(strings.NewReader(in)))
		if err != nil {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, %v, want %d", in, n, err, want)
		}
	}
}

// Requests that an Idempotency-Key is added to stay what they were otherwise, and
// none has the key of another.
func TestPosterKeys(t *testing.T) {
	p := &poster{request: jsonPost("127.0.0.1:1", "/api/v1/messages", "Authorization: Bearer x\r\n", `{"to":"a@b"}`)}
	p.addKey()
	seen := map[string]bool{}
	for range 3 {
		p.next()
		rq, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(p.request))))
		if err != nil {
			t.Fatal(err)
		}
		if rq.ContentLength != 12 || rq.Header.Get("Authorization") != "Bearer x" {
			t.Errorf("the request has become %q", p.request)
		}
		seen[rq.Header.Get("Idempotency-Key")] = true
	}
	if len(seen) != 3 {
		t.Errorf("keys %v, want three", seen)
	}
}

// A connection per request: the answer ends each.
func TestPosterConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int64
	srv := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }),
		ConnState: func(_ net.Conn, s http.ConnState) { conns.Add(int64(btoi(s == http.StateNew))) },
	}
	go srv.Serve(ln)
	defer srv.Close()
	for _, fresh := range []bool{false, true} {
		conns.Store(0)
		var stop atomic.Bool
		var posted, failed atomic.Int64
		p := &poster{address: ln.Addr().String(), request: jsonPost("h", "/", "", `{}`), fresh: fresh}
		done := make(chan error)
		go func() { done <- p.loop(t.Context(), &stop, &posted, &failed) }()
		await(drainLimit, func() bool { return posted.Load() >= 5 })
		stop.Store(true)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, n := conns.Load(), posted.Load(); failed.Load() != 0 || !fresh && got != 1 || fresh && got != n {
			t.Errorf("fresh %v: %d requests on %d connections, %d failed", fresh, n, got, failed.Load())
		}
	}
}
