package main

import (
	"bytes"
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A stamp is the sending time in a message's body: nanoseconds since clockStart
// as stampDigits decimal digits.
const (
	stampDigits   = 16
	stampTemplate = "0000000000000000 "
)

// putStamp writes t over the digits that follow <body>.
func putStamp(message []byte, at int, t time.Duration) {
	for i := at + stampDigits - 1; i >= at; i-- {
		message[i] = byte('0' + t%10)
		t /= 10
	}
}

// readStamp returns the stamp of a message.
func readStamp(message []byte) (time.Duration, bool) {
	i := bytes.Index(message, []byte("<body>"))
	if i < 0 || len(message) < i+6+stampDigits {
		return 0, false
	}
	var t time.Duration
	for _, c := range message[i+6 : i+6+stampDigits] {
		if c < '0' || c > '9' {
			return 0, false
		}
		t = t*10 + time.Duration(c-'0')
	}
	return t, true
}

// recorder keeps one receiver's samples.
type recorder struct {
	mu      sync.Mutex
	sentAt  []time.Duration
	latency []time.Duration
}

// after returns the latencies of messages sent at or after t.
func (r *recorder) after(t time.Duration) []time.Duration {
	var kept []time.Duration
	for i, at := range r.sentAt {
		if at >= t {
			kept = append(kept, r.latency[i])
		}
	}
	return kept
}

// record reads stamped messages until its connection ends.
func (p *pair) record(r *recorder) {
	end := []byte("</message>")
	var in []byte
	for buf := make([]byte, 16<<10); ; {
		n, err := p.to.recv(buf)
		if err != nil {
			return
		}
		now := time.Since(clockStart)
		in = append(in, buf[:n]...)
		rest := in
		for {
			i := bytes.Index(rest, end)
			if i < 0 {
				break
			}
			if t, ok := readStamp(rest[:i]); ok {
				r.mu.Lock()
				r.sentAt = append(r.sentAt, t)
				r.latency = append(r.latency, now-t)
				r.mu.Unlock()
				p.received.Add(1)
			}
			rest = rest[i+len(end):]
		}
		in = in[:copy(in, rest)]
	}
}

// schedule is what sendByClock did: when it began, on the stamps' clock, and by
// how much each message left later than planned.
type schedule struct {
	started time.Duration
	lags    []time.Duration
}

// sendByClock sends total messages at a fixed rate, round robin over the pairs,
// from a thread of its own that sleeps in the kernel: Go's timers are rounded to
// a millisecond when the process is idle. A message is stamped when it is
// written; how late that is against the plan is returned, so that a sender held
// up (by a server that does not read, or by a busy machine) is seen.
func sendByClock(ctx context.Context, pairs []*pair, messages [][]byte, rate, total int) (schedule, error) {
	at := bytes.Index(messages[0], []byte("<body>")) + len("<body>")
	type result struct {
		schedule
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		interval := time.Second / time.Duration(rate)
		r := result{schedule: schedule{lags: make([]time.Duration, 0, total)}}
		r.started = time.Since(clockStart)
		for i := range total {
			due := r.started + time.Duration(i)*interval
			now := time.Since(clockStart)
			for now < due {
				ts := syscall.NsecToTimespec(int64(due - now))
				_ = syscall.Nanosleep(&ts, nil) // a signal may cut it short: then sleep on
				now = time.Since(clockStart)
			}
			p, message := pairs[i%len(pairs)], messages[i%len(pairs)]
			putStamp(message, at, now)
			if r.err = p.from.send(message); r.err != nil {
				break
			}
			p.sent.Add(1)
			r.lags = append(r.lags, now-due)
			if i%256 == 0 && ctx.Err() != nil {
				r.err = ctx.Err()
				break
			}
		}
		done <- r
	}()
	r := <-done
	return r.schedule, r.err
}

// quantile returns the q-quantile by the nearest-rank method, 0 of nothing; q is
// 0 to 1. It sorts its argument.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[max(0, int(math.Ceil(q*float64(len(d))))-1)]
}
