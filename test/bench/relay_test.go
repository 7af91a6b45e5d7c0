package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// relayServer is a relay within the test's own process; its meter reads that process.
func relayServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = runRelay(l) }()
	t.Cleanup(func() { _ = l.Close(); <-done })
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return &server{
		driver: &relay{}, ep: endpoint{tcp: l.Addr().String(), relay: true},
		cmd: &exec.Cmd{Process: self}, done: make(chan struct{}),
	}
}

func testBench() *bench {
	return &bench{duration: 50 * time.Millisecond, write: "batch", quick: true, log: slog.New(slog.DiscardHandler)}
}

// The whole closed loop, for every window, loses nothing on a relay.
func TestChatOverRelay(t *testing.T) {
	s := relayServer(t)
	for _, size := range []int{1, 32} {
		for _, write := range []string{"batch", "each"} {
			b := testBench()
			b.write = write
			out, err := chat{road: roadTCP, window: size}.run(context.Background(), b, s)
			if err != nil {
				t.Fatal(err)
			}
			if out.Sent < int64(size*chatPairs) || out.Received != out.Sent || out.Errors != 0 {
				t.Errorf("window %d, %s: %+v", size, write, out)
			}
			if out.Metrics["cpu_us"] <= 0 {
				t.Errorf("window %d, %s: no processor time: %v", size, write, out.Metrics)
			}
		}
	}
}

func TestLatencyOverRelay(t *testing.T) {
	s := relayServer(t)
	b := testBench()
	b.duration = 200 * time.Millisecond
	out, err := runLatency(context.Background(), b, s, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if out.Sent != 250 || out.Received != 250 { // a ramp of a quarter of the window, at 1,000 a second
		t.Errorf("sent %d, received %d, want 250", out.Sent, out.Received)
	}
	if p50, p99 := out.Metrics["p50_ms"], out.Metrics["p99_ms"]; p50 <= 0 || p99 < p50 || out.Metrics["max_ms"] < p99 {
		t.Errorf("quantiles out of order: %v", out.Metrics)
	}
}

// A context that ends must end a run whose server has stopped reading.
func TestLatencyEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it never accepts: the kernel's buffers fill up
	s := relayServer(t)
	s.ep.tcp = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b := testBench()
	b.duration = 10 * time.Second
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := runLatency(ctx, b, s, 200_000); err == nil {
		t.Error("the run ended without an error")
	}
}
