package main

import (
	"context"
	"time"
)

// runIdle opens connections that have sent initial presence and then say nothing,
// and divides what the server's proportional set size has grown by their number.
// A few logins come first, so that code and tables loaded once are not counted.
func runIdle(ctx context.Context, b *bench, s *server, r road) (*outcome, error) {
	warm, err := loginAll(ctx, s.ep, r, users(chatFrom, 20))
	if err != nil {
		return nil, err
	}
	for _, w := range warm {
		if err := w.available(); err != nil {
			return nil, err
		}
	}
	closeAll(warm)
	rest := 10 * time.Second
	if b.quick {
		rest = 200 * time.Millisecond
	}
	if err := pause(ctx, rest/2); err != nil {
		return nil, err
	}
	before, err := s.meter().pss()
	if err != nil {
		return nil, err
	}
	sessions, err := loginAll(ctx, s.ep, r, users(idleFrom, b.idle))
	if err != nil {
		return nil, err
	}
	defer closeAll(sessions)
	err = each(len(sessions), func(i int) error { return sessions[i].available() })
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, rest); err != nil {
		return nil, err
	}
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	after, err := s.meter().pss()
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, rest/2); err != nil {
		return nil, err
	}
	cpu, passed, err := w.close()
	if err != nil {
		return nil, err
	}
	alive := int64(0)
	for _, session := range sessions { // the server must still know every one of them
		if err := session.setDeadline(time.Now().Add(setupTimeout)); err != nil {
			return nil, err
		}
		if _, err := session.query("get", "alive", "<query xmlns='jabber:iq:roster'/>"); err == nil {
			alive++
		}
	}
	n := int64(len(sessions))
	return &outcome{
		Metrics: map[string]float64{
			"pss_kb":      float64(after-before) / 1e3 / float64(n),
			"base_mb":     float64(before) / 1e6,
			"cpu_percent": 100 * cpu.Seconds() / passed.Seconds(),
		},
		Sent: n, Received: alive, Errors: n - alive,
	}, nil
}
