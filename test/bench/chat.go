package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pair is two connections: messages flow from one to the other.
type pair struct {
	from, to *session
	target   string // the receiver's full JID

	sent, received, strays atomic.Int64
	acked                  atomic.Int64 // of sent, by the server (XEP-0198)
}

// chat is what a closed-loop scenario does.
type chat struct {
	road    road
	window  int  // messages a sender keeps under way
	managed bool // both ends use stream management
}

// openPairs connects pairs over a road and makes both ends available.
func openPairs(ctx context.Context, ep endpoint, r road, n int) ([]*pair, error) {
	pairs := make([]*pair, n)
	err := each(n, func(i int) (err error) {
		p := &pair{}
		pairs[i] = p
		if ep.relay {
			return p.dialRelay(ctx, ep, i)
		}
		if p.from, err = login(ctx, ep, r, userName(chatFrom+2*i)); err != nil {
			return err
		}
		if p.to, err = login(ctx, ep, r, userName(chatFrom+2*i+1)); err != nil {
			return err
		}
		p.target = p.to.jid
		for _, s := range []*session{p.from, p.to} {
			if err = s.available(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		closePairs(pairs)
		return nil, err
	}
	return pairs, nil
}

func (p *pair) dialRelay(ctx context.Context, ep endpoint, i int) error {
	for _, end := range []**session{&p.from, &p.to} {
		l, err := dialRelay(ctx, ep, fmt.Sprintf("pair %d", i))
		if err != nil {
			return err
		}
		*end = &session{link: l}
	}
	p.target = userName(chatFrom+2*i+1) + "@" + domain + "/b" // the same bytes as elsewhere
	return nil
}

func closePairs(pairs []*pair) {
	for _, p := range pairs {
		if p != nil {
			closeAll([]*session{p.from, p.to})
		}
	}
}

// drain reads and drops what comes back to the sender. A message there is an
// error answer.
func (p *pair) drain() {
	c := newCounter("</message>")
	for buf := make([]byte, 4096); ; {
		n, err := p.from.recv(buf)
		if err != nil {
			return
		}
		p.strays.Add(int64(c.count(buf[:n])))
	}
}

// echo keeps the window full: each message read frees a slot, and the slots freed
// by one read are filled at once. It ends when its connection does.
func (p *pair) echo(stop *atomic.Bool, batch []byte, unit int, oneByOne bool) {
	c := newCounter("</message>")
	for buf := make([]byte, 16<<10); ; {
		n, err := p.to.recv(buf)
		if err != nil {
			return
		}
		k := c.count(buf[:n])
		if k == 0 {
			continue
		}
		p.received.Add(int64(k))
		if stop.Load() {
			continue
		}
		k = min(k, len(batch)/unit)
		p.sent.Add(int64(k))
		if oneByOne {
			for range k {
				if err := p.from.send(batch[:unit]); err != nil {
					return
				}
			}
			continue
		}
		if err := p.from.send(batch[:k*unit]); err != nil {
			return
		}
	}
}

// run is the closed loop: every sender keeps window messages under way.
func (c chat) run(ctx context.Context, b *bench, s *server) (*outcome, error) {
	var archive *archiveCheck
	var err error
	drain := drainLimit
	if s.setup.archive {
		drain *= 3 // a store that syncs for each message has much to catch up
		if archive, err = newArchiveCheck(ctx); err != nil {
			return nil, err
		}
	}
	pairs, err := openPairs(ctx, s.ep, c.road, chatPairs)
	if err != nil {
		return nil, err
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer closePairs(pairs)
	defer context.AfterFunc(ctx, func() { closePairs(pairs) })()
	for _, p := range pairs {
		start := p.start
		if c.managed {
			start = p.startManaged
		}
		if err := start(c.window, b.write == "each", &stop, &wg); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, b.rampUp()); err != nil {
		return nil, err
	}
	if archive != nil { // opening an archive for the first time costs Prosody a look at all of it
		await(drain, func() bool {
			return !slices.ContainsFunc(pairs, func(p *pair) bool { return p.received.Load() < int64(c.window) })
		})
	}
	_, before, _ := totals(pairs)
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, b.duration); err != nil {
		return nil, err
	}
	cpu, passed, err := w.close()
	if err != nil {
		return nil, err
	}
	_, after, _ := totals(pairs)
	stop.Store(true)
	await(drain, func() bool { sent, received, _ := totals(pairs); return received >= sent })
	sent, received, strays := totals(pairs)
	if archive != nil { // an archive may lag behind: it is the same work, so it counts
		passed, after = time.Since(w.start), received
		end, err := s.meter().settled(drain)
		if err != nil {
			return nil, err
		}
		cpu = end - w.cpu
	}
	ops := after - before
	if ops == 0 {
		return nil, errSilent
	}
	out := &outcome{
		Metrics: map[string]float64{"cpu_us": micros(cpu, ops), "per_second": float64(ops) / passed.Seconds()},
		Sent:    sent, Received: received, Errors: strays,
	}
	if c.managed {
		out.addErrors(awaitAcks(pairs))
	}
	if archive != nil {
		closePairs(pairs)
		if err := archive.verify(ctx, s.ep, pairs, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// addErrors counts n errors of one kind, with a note that says which.
func (o *outcome) addErrors(n int64, note string) {
	if n != 0 {
		o.Errors += n
		o.Notes = append(o.Notes, note)
	}
}

// start fills the window, and keeps it full until stop is set.
func (p *pair) start(window int, oneByOne bool, stop *atomic.Bool, wg *sync.WaitGroup) error {
	message := p.from.message(p.target, body("closed loop "))
	batch := bytes.Repeat(message, window)
	wg.Go(p.drain)
	wg.Go(func() { p.echo(stop, batch, len(message), oneByOne) })
	p.sent.Add(int64(window))
	return p.from.send(batch)
}

func totals(pairs []*pair) (sent, received, strays int64) {
	for _, p := range pairs {
		sent += p.sent.Load()
		received += p.received.Load()
		strays += p.strays.Load()
	}
	return sent, received, strays
}

// clockStart is what the timestamps in messages count from.
var clockStart = time.Now()

// runLatency is the open loop: messages leave by the clock, whatever returns.
func runLatency(ctx context.Context, b *bench, s *server, rate int) (*outcome, error) {
	pairs, err := openPairs(ctx, s.ep, roadTCP, chatPairs)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer closePairs(pairs)
	defer context.AfterFunc(ctx, func() { closePairs(pairs) })()
	recorders := make([]*recorder, len(pairs))
	messages := make([][]byte, len(pairs))
	for i, p := range pairs {
		messages[i] = p.from.message(p.target, body(stampTemplate))
		recorders[i] = &recorder{}
		wg.Go(p.drain)
		wg.Go(func() { p.record(recorders[i]) })
	}
	total := int((b.rampUp() + b.duration).Seconds() * float64(rate))
	skip := int(b.rampUp().Seconds() * float64(rate))
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	lag, err := sendByClock(ctx, pairs, messages, rate, total)
	if err != nil {
		return nil, err
	}
	await(drainLimit, func() bool { sent, received, _ := totals(pairs); return received >= sent })
	cpu, _, err := w.close()
	if err != nil {
		return nil, err
	}
	sent, received, strays := totals(pairs)
	var all []time.Duration
	for _, r := range recorders {
		r.mu.Lock()
		all = append(all, r.after(time.Duration(float64(skip)/float64(rate)*1e9)+lag.started)...)
		r.mu.Unlock()
	}
	out := &outcome{
		Metrics: map[string]float64{
			"p50_ms": millis(quantile(all, 0.50)), "p99_ms": millis(quantile(all, 0.99)), "max_ms": millis(quantile(all, 1)),
			"cpu_us": micros(cpu, received), "lag_p99_ms": millis(quantile(lag.lags[skip:], 0.99)),
		},
		Sent: sent, Received: received, Errors: strays,
	}
	return out, nil
}

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
