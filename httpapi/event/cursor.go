package event

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"

	"trivium/core/store"
)

// Gateway is the name under which the program behind a gateway domain acknowledges.
func Gateway(domain string) string { return gatewayPrefix + domain }

const gatewayPrefix = "gateway:"

// Ack notes that a consumer has taken everything up to a number. It returns when
// that is committed, and never goes back. What a Gateway has taken waits no more.
func (l *Log) Ack(ctx context.Context, consumer string, seq int64) error {
	host, ok := strings.CutPrefix(consumer, gatewayPrefix)
	settles := ok && l.waiting.count(host) > 0
	if settles {
		l.waiting.claims.RLock()
		defer l.waiting.claims.RUnlock()
	}
	var removed int64
	err := l.db.Write(ctx, func(tx *store.Tx) (err error) {
		if settles {
			if removed, err = settle(tx, host, nil, 0, seq); err != nil {
				return err
			}
		}
		_, err = tx.Exec(`INSERT INTO event_cursor (consumer, seq) VALUES (?, ?)
			ON CONFLICT (consumer) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > event_cursor.seq`, consumer, seq)
		return err
	})
	if err == nil && settles {
		l.waiting.add(host, -removed)
	}
	return err
}

// Acked returns what Ack has noted, 0 for a consumer that is not known.
func (l *Log) Acked(ctx context.Context, consumer string) (seq int64, err error) {
	err = l.db.QueryRow(ctx, `SELECT seq FROM event_cursor WHERE consumer = ?`, consumer).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return seq, err
}

// follower is a stream that serves hosts.
type follower struct{ types []Type } // that it takes; none: all

// followers knows the streams of each host.
type followers struct {
	order sync.Mutex // makes notices come in the order of what they are about
	told  []func(host string, n int)

	mu sync.Mutex
	of map[string][]*follower
}

// Followers returns how many streams are connected that serve the host.
func (l *Log) Followers(host string) int {
	l.followers.mu.Lock()
	defer l.followers.mu.Unlock()
	return len(l.followers.of[host])
}

// Follows tells whether a stream is connected that serves the host and takes events of
// a type.
func (l *Log) Follows(host string, t Type) bool {
	l.followers.mu.Lock()
	defer l.followers.mu.Unlock()
	return slices.ContainsFunc(l.followers.of[host], func(f *follower) bool {
		return len(f.types) == 0 || slices.Contains(f.types, t)
	})
}

// OnFollow adds what is called with the new number whenever a stream that serves
// the host has come or gone: one call at a time, on the stream's goroutine.
func (l *Log) OnFollow(f func(host string, n int)) {
	l.followers.order.Lock()
	defer l.followers.order.Unlock()
	l.followers.told = append(l.followers.told, f)
}

// follow adds a stream, or takes it away.
func (l *Log) follow(f *follower, hosts []string, comes bool) {
	fs := &l.followers
	fs.order.Lock()
	defer fs.order.Unlock()
	for _, host := range hosts {
		n := fs.set(f, host, comes)
		for _, told := range fs.told {
			told(host, n)
		}
	}
}

func (fs *followers) set(f *follower, host string, comes bool) int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	list := fs.of[host]
	if comes {
		list = append(list, f)
	} else if i := slices.Index(list, f); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if fs.of[host] = list; len(list) == 0 {
		delete(fs.of, host)
	}
	return len(list)
}
