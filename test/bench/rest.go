package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const restConnections = 8

// runREST posts messages to online users over persistent HTTP connections, each
// with one request under way.
func runREST(ctx context.Context, b *bench, s *server) (*outcome, error) {
	if s.rest("", "", "") == nil {
		return nil, fmt.Errorf("%w: no bundled REST interface", errUnsupported)
	}
	from := userName(restFrom)
	online, err := loginAll(ctx, s.ep, roadTCP, users(restFrom+1, restConnections))
	if err != nil {
		return nil, err
	}
	var received, posted, failed atomic.Int64
	var stop atomic.Bool
	var readers, posters sync.WaitGroup
	defer readers.Wait()
	defer closeAll(online)
	for _, o := range online {
		if err := o.available(); err != nil {
			return nil, err
		}
		readers.Go(func() { countMessages(o, &received) })
	}
	conns := make([]net.Conn, 0, restConnections)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
		posters.Wait()
	}()
	problem := make(chan error, restConnections)
	for _, o := range online {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", s.ep.http)
		if err != nil {
			return nil, err
		}
		conns = append(conns, conn)
		request := s.rest(from, o.jid, body("sent over HTTP "))
		posters.Go(func() {
			if err := postLoop(conn, request, &stop, &posted, &failed); err != nil && !stop.Load() {
				problem <- err
			}
		})
	}
	wait := func(d time.Duration) error {
		select {
		case err := <-problem:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	if err := wait(b.rampUp()); err != nil {
		return nil, err
	}
	before := posted.Load()
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	if err := wait(b.duration); err != nil {
		return nil, err
	}
	cpu, passed, err := w.close()
	if err != nil {
		return nil, err
	}
	ops := posted.Load() - before
	if ops == 0 {
		return nil, errSilent
	}
	stop.Store(true)
	posters.Wait()
	await(drainLimit, func() bool { return received.Load() >= posted.Load()-failed.Load() })
	return &outcome{
		Metrics: map[string]float64{"cpu_us": micros(cpu, ops), "per_second": float64(ops) / passed.Seconds()},
		Sent:    posted.Load(), Received: received.Load(), Errors: failed.Load(),
	}, nil
}

// postLoop sends the same request until stop is set. An answer that is no success
// is counted; the first one is returned as an error when nothing succeeds at all.
func postLoop(conn net.Conn, request []byte, stop *atomic.Bool, posted, failed *atomic.Int64) error {
	br := bufio.NewReader(conn)
	var answer []byte
	for n := 0; !stop.Load(); n++ {
		if err := conn.SetDeadline(time.Now().Add(setupTimeout)); err != nil {
			return err
		}
		if _, err := conn.Write(request); err != nil {
			return err
		}
		status, text, err := readHTTPResponse(br, answer[:0])
		if err != nil {
			return err
		}
		answer = text
		posted.Add(1)
		if status != 200 && status != 202 {
			failed.Add(1)
			if n == 0 {
				return fmt.Errorf("status %d: %.300s", status, text)
			}
		}
	}
	return nil
}
