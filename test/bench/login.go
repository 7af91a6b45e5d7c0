package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// loginWorkers is how many logins are under way at once.
const loginWorkers = 8

// runLogins logs accounts in and out again, with all that a client does then: TCP
// connection, TLS handshake where the road has one, SCRAM, bind, initial presence,
// roster, end of stream. Each worker has accounts of its own.
func runLogins(ctx context.Context, b *bench, s *server, r road) (*outcome, error) {
	names := users(chatFrom, 2*chatPairs/loginWorkers*loginWorkers)
	warm, err := loginAll(ctx, s.ep, r, names) // derives every account's key in the client once
	if err != nil {
		return nil, err
	}
	closeAll(warm)
	return b.countLogins(ctx, s, len(names), func(i int) error {
		session, err := login(ctx, s.ep, r, names[i])
		if err != nil {
			return err
		}
		return errors.Join(session.available(), session.close())
	})
}

// countLogins has workers log accounts 0 to n-1 in, and out again, until the time is
// over. n is a multiple of loginWorkers.
func (b *bench) countLogins(ctx context.Context, s *server, n int, visit func(i int) error) (*outcome, error) {
	if _, err := s.meter().settled(3 * time.Second); err != nil {
		return nil, err
	}
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(b.duration)
	var tried, done atomic.Int64
	var wg sync.WaitGroup
	for worker := range loginWorkers {
		wg.Go(func() {
			for i := worker; time.Now().Before(deadline) && ctx.Err() == nil; i += loginWorkers {
				tried.Add(1)
				if err := visit(i % n); err != nil {
					b.log.Debug("login failed", "server", s.name(), "err", err)
					continue
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	passed := time.Since(w.start)
	end, err := s.meter().settled(3 * time.Second)
	if err != nil {
		return nil, err
	}
	return &outcome{
		Metrics: map[string]float64{
			"cpu_ms":     micros(end-w.cpu, done.Load()) / 1e3,
			"per_second": float64(done.Load()) / passed.Seconds(),
		},
		Sent: tried.Load(), Received: done.Load(), Errors: tried.Load() - done.Load(),
	}, nil
}
