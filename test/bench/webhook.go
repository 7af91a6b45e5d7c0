package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// gatewayDomain is a domain whose messages go to the webhook.
const gatewayDomain = "gateway.localhost"

const (
	hookSenders = 8
	hookTalks   = 200 // conversations: a sender and an address at the gateway
	hookWindow  = 512 // messages under way
	hookBatch   = 16  // written at once, at most
)

// runWebhook sends messages to a gateway domain and counts what is posted.
func runWebhook(ctx context.Context, b *bench, s *server) (*outcome, error) {
	if s.name() != "trivium" {
		return nil, fmt.Errorf("%w: no webhooks", errUnsupported)
	}
	senders, err := loginAll(ctx, s.ep, roadTCP, users(chatFrom, hookSenders))
	if err != nil {
		return nil, err
	}
	var sent, received, strays atomic.Int64
	slots := make(chan struct{}, hookWindow)
	got := func() {
		received.Add(1)
		select {
		case <-slots:
		default: // posted twice
		}
	}
	b.receiver.got.Store(&got)
	defer b.receiver.got.Store(nil)
	sending, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer closeAll(senders)
	defer stop()
	for i, o := range senders {
		wg.Go(func() { countMessages(o, &strays) })
		wg.Go(func() { keepFull(sending, o, i*hookTalks/hookSenders, slots, &sent) })
	}
	if err := pause(ctx, b.rampUp()); err != nil {
		return nil, err
	}
	before := received.Load()
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
	ops := received.Load() - before
	if ops == 0 {
		return nil, errSilent
	}
	stop()
	await(3*drainLimit, func() bool { return received.Load() >= sent.Load() })
	return &outcome{
		Metrics: map[string]float64{"cpu_us": micros(cpu, ops), "per_second": float64(ops) / passed.Seconds()},
		Sent:    sent.Load(), Received: received.Load(), Errors: strays.Load(),
	}, nil
}

// keepFull sends to its share of the conversations in turn while there are slots,
// until ctx ends or the connection does.
func keepFull(ctx context.Context, o *session, first int, slots chan<- struct{}, sent *atomic.Int64) {
	var out []byte
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		out = out[:0]
		n := 1
	more:
		for ; n < hookBatch; n++ {
			select {
			case slots <- struct{}{}:
			default:
				break more
			}
		}
		for range n {
			to := fmt.Sprintf("%05d@%s", first+i%(hookTalks/hookSenders), gatewayDomain)
			out = append(out, o.message(to, body("to a gateway "))...)
			i++
		}
		sent.Add(int64(n))
		if err := o.setDeadline(time.Now().Add(setupTimeout)); err != nil {
			return
		}
		if err := o.send(out); err != nil {
			return
		}
	}
}
