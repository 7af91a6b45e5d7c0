package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	restConnections = 8  // and users who get what is sent
	restMany        = 64 // connections, where it is commits that requests share
)

// restLoad posts messages to online users, each poster with one request under way.
type restLoad struct {
	posters int  // 0: restConnections
	fresh   bool // each request has a connection of its own
	keyed   bool // each request has an Idempotency-Key of its own
}

func (l restLoad) run(ctx context.Context, b *bench, s *server) (*outcome, error) {
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
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		posters.Wait()
	}()
	n := cmp.Or(l.posters, restConnections)
	problem := make(chan error, n)
	for i := range n {
		p := &poster{address: s.ep.http, request: s.rest(from, online[i%len(online)].jid, body("sent over HTTP ")), fresh: l.fresh}
		if l.keyed {
			p.addKey()
		}
		posters.Go(func() {
			if err := p.loop(ctx, &stop, &posted, &failed); err != nil && !stop.Load() {
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

// poster sends one request again and again.
type poster struct {
	address string
	request []byte
	key     []byte // the part of request that is another each time, or nil
	fresh   bool
}

// keyDigits is the length of the part of a key that counts.
const keyDigits = 10

var keySerial atomic.Int64

// addKey gives the request an Idempotency-Key behind its first line.
func (p *poster) addKey() {
	line, rest, _ := bytes.Cut(p.request, []byte("\r\n"))
	start := fmt.Appendf(nil, "%s\r\nIdempotency-Key: \"bench-%d-", line, time.Now().UnixNano())
	p.request = fmt.Appendf(nil, "%s%0*d\"\r\n%s", start, keyDigits, 0, rest)
	p.key = p.request[len(start) : len(start)+keyDigits]
}

// next makes the request one that was not sent before.
func (p *poster) next() {
	if p.key == nil {
		return
	}
	var digits [20]byte
	n := strconv.AppendInt(digits[:0], keySerial.Add(1), 10)
	copy(p.key[keyDigits-len(n):], n)
}

// loop sends the request until stop is set. An answer that is no success is
// counted; the first one is returned as an error when nothing succeeds at all.
func (p *poster) loop(ctx context.Context, stop *atomic.Bool, posted, failed *atomic.Int64) error {
	for n := 0; !stop.Load(); {
		err := p.connection(ctx, func(status int, text []byte) (more bool, err error) {
			n++
			posted.Add(1)
			if status != 200 && status != 202 {
				failed.Add(1)
				if n == 1 {
					return false, fmt.Errorf("status %d: %.300s", status, text)
				}
			}
			return !p.fresh && !stop.Load(), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// connection sends the request over a connection until answered wants no more.
func (p *poster) connection(ctx context.Context, answered func(status int, text []byte) (more bool, err error)) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	br := bufio.NewReader(conn)
	var answer []byte
	for more := true; more; {
		if err := conn.SetDeadline(time.Now().Add(setupTimeout)); err != nil {
			return err
		}
		p.next()
		if _, err := conn.Write(p.request); err != nil {
			return err
		}
		var status int
		if status, answer, err = readHTTPResponse(br, answer[:0]); err != nil {
			return err
		}
		if more, err = answered(status, answer); err != nil {
			return err
		}
	}
	return nil
}
