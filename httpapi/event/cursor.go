package event

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"trivium/core/store"
)

// Ack notes that a consumer has taken everything up to a number. It returns when
// that is committed, and never goes back.
func (l *Log) Ack(ctx context.Context, consumer string, seq int64) error {
	return l.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO event_cursor (consumer, seq) VALUES (?, ?)
			ON CONFLICT (consumer) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > event_cursor.seq`, consumer, seq)
		return err
	})
}

// Acked returns what Ack has noted, 0 for a consumer that is not known.
func (l *Log) Acked(ctx context.Context, consumer string) (seq int64, err error) {
	err = l.db.QueryRow(ctx, `SELECT seq FROM event_cursor WHERE consumer = ?`, consumer).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return seq, err
}

// followers counts the streams of each host.
type followers struct {
	order sync.Mutex // makes notices come in the order of what they are about
	told  []func(host string, n int)

	mu     sync.Mutex
	counts map[string]int
}

// Followers returns how many streams are connected whose filter names the host.
func (l *Log) Followers(host string) int {
	l.followers.mu.Lock()
	defer l.followers.mu.Unlock()
	return l.followers.counts[host]
}

// OnFollow adds what is called with the new number whenever a stream that names
// the host has come or gone: one call at a time, on the stream's goroutine.
func (l *Log) OnFollow(f func(host string, n int)) {
	l.followers.order.Lock()
	defer l.followers.order.Unlock()
	l.followers.told = append(l.followers.told, f)
}

// follow counts a stream that has come (1) or gone (-1).
func (l *Log) follow(hosts []string, change int) {
	fs := &l.followers
	fs.order.Lock()
	defer fs.order.Unlock()
	for _, host := range hosts {
		fs.mu.Lock()
		n := fs.counts[host] + change
		if n > 0 {
			fs.counts[host] = n
		} else {
			delete(fs.counts, host)
		}
		fs.mu.Unlock()
		for _, f := range fs.told {
			f(host, n)
		}
	}
}
