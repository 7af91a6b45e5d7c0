package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	offlineSenders    = 10
	offlineRecipients = 40
)

// runOffline sends messages to accounts that are not online, then lets them come
// online. Storing ends when every sender's following iq is answered and the
// server is quiet; delivering begins with logged-in sessions, so that the cost of
// a login is not in it.
func runOffline(ctx context.Context, b *bench, s *server) (*outcome, error) {
	senders, err := loginAll(ctx, s.ep, roadTCP, users(offlineFrom, offlineSenders))
	if err != nil {
		return nil, err
	}
	defer closeAll(senders)
	recipients := users(offlineFrom+offlineSenders, offlineRecipients)
	total := b.offline / offlineSenders * offlineSenders
	if _, err := s.meter().settled(2 * time.Second); err != nil {
		return nil, err
	}
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	err = each(len(senders), func(i int) error { return storeMessages(senders[i], recipients, i, total/offlineSenders) })
	if err != nil {
		return nil, err
	}
	stored := time.Since(w.start)
	end, err := s.meter().settled(5 * time.Second)
	if err != nil {
		return nil, err
	}
	store := end - w.cpu

	sessions, err := loginAll(ctx, s.ep, roadTCP, recipients)
	if err != nil {
		return nil, err
	}
	var received atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	defer closeAll(sessions)
	for _, r := range sessions {
		wg.Go(func() { countMessages(r, &received) })
	}
	if _, err := s.meter().settled(2 * time.Second); err != nil {
		return nil, err
	}
	if w, err = b.openWindow(s); err != nil {
		return nil, err
	}
	for _, r := range sessions {
		if err := r.sendXML("<presence/>"); err != nil {
			return nil, err
		}
	}
	await(4*drainLimit, func() bool { return received.Load() >= int64(total) })
	delivered := time.Since(w.start)
	if end, err = s.meter().settled(5 * time.Second); err != nil { // deleting them counts too
		return nil, err
	}
	deliver := end - w.cpu
	return &outcome{
		Metrics: map[string]float64{
			"store_us": micros(store, int64(total)), "deliver_us": micros(deliver, received.Load()),
			"store_per_second":   float64(total) / stored.Seconds(),
			"deliver_per_second": float64(received.Load()) / delivered.Seconds(),
		},
		Sent: int64(total), Received: received.Load(),
	}, nil
}

// storeMessages sends n messages to the bare JIDs of the recipients in turn and
// waits for the answer to an iq behind them.
func storeMessages(s *session, recipients []string, first, n int) error {
	if err := s.setDeadline(time.Now().Add(2 * setupTimeout)); err != nil {
		return err
	}
	const batch = 16
	var out []byte
	for i := range n {
		to := recipients[(first+i)%len(recipients)] + "@" + domain
		out = append(out, s.message(to, body("stored offline "))...)
		if (i+1)%batch == 0 || i+1 == n {
			if err := s.send(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	_, err := s.query("get", "stored", "<query xmlns='jabber:iq:roster'/>")
	return err
}

// countMessages reads until the connection ends.
func countMessages(s *session, received *atomic.Int64) {
	c := newCounter("</message>")
	for buf := make([]byte, 16<<10); ; {
		n, err := s.recv(buf)
		if err != nil {
			return
		}
		received.Add(int64(c.count(buf[:n])))
	}
}
