package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	streamReaders = 50
	streamWindow  = 64 // events that some reader has not got yet
)

// subscriber reads the event stream of the gateway domain.
type subscriber struct {
	conn     net.Conn
	body     io.Reader
	received atomic.Int64
}

// subscribe opens a stream; the server has answered when it returns.
func (t *trivium) subscribe(ctx context.Context) (*subscriber, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", t.ep.http)
	if err != nil {
		return nil, err
	}
	s := &subscriber{conn: conn}
	err = conn.SetDeadline(time.Now().Add(setupTimeout))
	if err == nil {
		_, err = fmt.Fprintf(conn, "GET /api/v1/events?type=message&host=%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n\r\n",
			gatewayDomain, t.ep.http, t.token)
	}
	if err == nil {
		br := bufio.NewReaderSize(conn, 32<<10)
		s.body = br
		var h httpHeader
		if h, err = readHTTPHeader(br); err == nil && (h.status != 200 || !h.chunked) {
			err = fmt.Errorf("the event stream was answered with status %d", h.status)
		}
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// count reads until the stream ends; progress is told that there is something new.
func (s *subscriber) count(progress chan<- struct{}) {
	c := newCounter("event: message\n")
	for buf := make([]byte, 32<<10); ; {
		n, err := s.body.Read(buf)
		if err != nil {
			return
		}
		if k := c.count(buf[:n]); k > 0 {
			s.received.Add(int64(k))
			select {
			case progress <- struct{}{}:
			default:
			}
		}
	}
}

// slowest returns how many events every subscriber has got, and all together.
func slowest(all []*subscriber) (least, total int64) {
	for i, s := range all {
		n := s.received.Load()
		if total += n; i == 0 || n < least {
			least = n
		}
	}
	return least, total
}

// runStream sends messages to a gateway domain that subscribers follow.
func runStream(ctx context.Context, b *bench, s *server) (*outcome, error) {
	t, ok := s.driver.(*trivium)
	if !ok {
		return nil, fmt.Errorf("%w: no event stream", errUnsupported)
	}
	sender, err := login(ctx, s.ep, roadTCP, userName(restFrom)) // whom the token speaks for
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer closeAll([]*session{sender})
	var strays atomic.Int64
	wg.Go(func() { countMessages(sender, &strays) })
	all := make([]*subscriber, 0, streamReaders)
	defer func() {
		for _, r := range all {
			_ = r.conn.Close()
		}
	}()
	progress := make(chan struct{}, 1)
	for range streamReaders {
		r, err := t.subscribe(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		wg.Go(func() { r.count(progress) })
	}
	var sent int64
	feed := func(d time.Duration) error {
		for over := time.After(d); ; {
			least, _ := slowest(all)
			if room := int(streamWindow - (sent - least)); room > 0 {
				var out []byte
				for range room {
					out = append(out, sender.message("all@"+gatewayDomain, body("to a gateway "))...)
				}
				sent += int64(room)
				if err := sender.send(out); err != nil {
					return err
				}
			}
			select {
			case <-progress:
			case <-ctx.Done():
				return ctx.Err()
			case <-over:
				return nil
			}
		}
	}
	if err := feed(b.rampUp()); err != nil {
		return nil, err
	}
	_, before := slowest(all)
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	if err := feed(b.duration); err != nil {
		return nil, err
	}
	cpu, passed, err := w.close()
	if err != nil {
		return nil, err
	}
	_, after := slowest(all)
	if after == before {
		return nil, errSilent
	}
	await(drainLimit, func() bool { least, _ := slowest(all); return least >= sent })
	_, total := slowest(all)
	return &outcome{
		Metrics: map[string]float64{"cpu_us": micros(cpu, after-before), "per_second": float64(after-before) / passed.Seconds()},
		Sent:    sent * streamReaders, Received: total, Errors: strays.Load(),
	}, nil
}
