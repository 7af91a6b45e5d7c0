package webhook

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
)

// errFull says that an endpoint has as many messages waiting as it may.
var errFull = errors.New("webhook: the outbox is full")

// item is one row of the outbox.
type item struct {
	seq      int64
	id       string // webhook-id
	talk     conversation
	doc      []byte // the message as a document
	created  time.Time
	attempts int
	next     time.Time // not before
}

// conversation is what is posted in order.
type conversation struct{ sender, recipient string }

// lastSeq returns a number that no row has exceeded, rows long gone included as
// long as the clock has not been set back by more than the server's uptime.
func (s *Service) lastSeq(ctx context.Context) (int64, error) {
	var last int64
	err := s.opts.Store.QueryRow(ctx, `SELECT COALESCE(MAX(seq), 0) FROM (
		SELECT MAX(seq) AS seq FROM webhook_outbox UNION ALL SELECT MAX(seq) AS seq FROM webhook_dead) AS rows`).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("webhook: %w", err)
	}
	return max(last, time.Now().UnixMicro()), nil
}

// recall reads what the store knows of an endpoint.
func (s *Service) recall(ctx context.Context, e *endpoint) error {
	var pending int64
	if err := s.opts.Store.QueryRow(ctx, `SELECT COUNT(*) FROM webhook_outbox WHERE endpoint = ?`, e.Name).Scan(&pending); err != nil {
		return err
	}
	e.stats.pending.Store(pending)
	var url string
	err := s.opts.Store.QueryRow(ctx, `SELECT url FROM webhook_gone WHERE endpoint = ?`, e.Name).Scan(&url)
	switch {
	case err == nil:
		e.gone.Store(url == e.URL)
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	return nil
}

// enqueue puts a message in the outbox and releases rc once when it is there.
// When it returns an error it has not touched rc.
func (s *Service) enqueue(e *endpoint, st *stanza.Stanza, rc *router.Receipt) error {
	if e.stats.pending.Add(1) > int64(s.opts.MaxPending) {
		e.stats.pending.Add(-1)
		return errFull
	}
	doc := st.AppendDocument(make([]byte, 0, st.Size()+32))
	sender, recipient := st.From.Bare().String(), st.To.Bare().String()
	id := "msg_" + rand.Text()
	now := time.Now().UnixMicro()

	// Rows must become visible in the order of seq, or the reader would pass over
	// one; the store commits in the order of submission.
	s.order.Lock()
	s.seq++
	seq := s.seq
	err := s.opts.Store.Submit(func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO webhook_outbox (seq, endpoint, id, sender, recipient, stanza, created, attempts, next_try)
			VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)`, seq, e.Name, id, sender, recipient, doc, now)
		return err
	}, func(err error) {
		if err != nil {
			e.stats.pending.Add(-1)
		} else {
			e.mail.signal()
		}
		rc.Release(err)
	})
	s.order.Unlock()
	if err != nil {
		e.stats.pending.Add(-1)
	}
	return err
}

const selectItems = `SELECT seq, id, sender, recipient, stanza, created, attempts, next_try FROM webhook_outbox `

// load returns rows of e after seq, oldest first.
func (s *Service) load(ctx context.Context, e *endpoint, after int64, limit int) ([]*item, error) {
	return s.items(s.opts.Store.Query(ctx, selectItems+`WHERE endpoint = ? AND seq > ? ORDER BY seq LIMIT ?`, e.Name, after, limit))
}

// loadLane returns rows of one conversation after seq and up to upTo.
func (s *Service) loadLane(ctx context.Context, e *endpoint, c conversation, after, upTo int64, limit int) ([]*item, error) {
	return s.items(s.opts.Store.Query(ctx, selectItems+
		`WHERE endpoint = ? AND sender = ? AND recipient = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?`,
		e.Name, c.sender, c.recipient, after, upTo, limit))
}

func (s *Service) items(rows *sql.Rows, err error) ([]*item, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []*item
	for rows.Next() {
		it := &item{}
		var created, next int64
		if err := rows.Scan(&it.seq, &it.id, &it.talk.sender, &it.talk.recipient, &it.doc, &created, &it.attempts, &next); err != nil {
			return nil, err
		}
		it.created, it.next = time.UnixMicro(created), time.UnixMicro(next)
		list = append(list, it)
	}
	return list, rows.Err()
}

// delivered takes a message out of the outbox. done is called when it is out, or
// with the reason why it will be posted again after a restart.
func (s *Service) delivered(e *endpoint, it *item, done func(error)) {
	s.submit(e, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM webhook_outbox WHERE seq = ?`, it.seq)
		return err
	}, func(err error) {
		if err == nil {
			e.stats.pending.Add(-1)
		}
		if done != nil {
			done(err)
		}
	})
}

// postpone notes a failed attempt.
func (s *Service) postpone(e *endpoint, it *item) {
	attempts, next, seq := it.attempts, it.next.UnixMicro(), it.seq
	s.submit(e, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE webhook_outbox SET attempts = ?, next_try = ? WHERE seq = ?`, attempts, next, seq)
		return err
	}, nil)
}

// bury moves a message to those that were given up.
func (s *Service) bury(e *endpoint, it *item, why string, done func(error)) {
	now, keep, attempts, seq := time.Now().UnixMicro(), s.opts.MaxDead, it.attempts, it.seq
	s.submit(e, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO webhook_dead (seq, endpoint, id, stanza, created, died, attempts, reason)
			SELECT seq, endpoint, id, stanza, created, ?, ?, ? FROM webhook_outbox WHERE seq = ?`, now, attempts, why, seq)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM webhook_outbox WHERE seq = ?`, seq); err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM webhook_dead WHERE endpoint = ? AND seq <= (
			SELECT seq FROM webhook_dead WHERE endpoint = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)`, e.Name, e.Name, keep)
		return err
	}, func(err error) {
		if err == nil {
			e.stats.pending.Add(-1)
			e.stats.dead.Add(1)
		}
		done(err)
	})
}

// disable notes that an endpoint is gone.
func (s *Service) disable(e *endpoint) {
	now := time.Now().UnixMicro()
	s.submit(e, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO webhook_gone (endpoint, url, since) VALUES (?, ?, ?)
			ON CONFLICT (endpoint) DO UPDATE SET url = excluded.url, since = excluded.since`, e.Name, e.URL, now)
		return err
	}, nil)
}

// submit is Store.Submit where nobody but the log can be told of a failure.
func (s *Service) submit(e *endpoint, op store.Op, done func(error)) {
	end := func(err error) {
		if err != nil && !errors.Is(err, store.ErrClosed) {
			s.log.Error("the outbox was not updated", "webhook", e.Name, "err", err)
		}
		if done != nil {
			done(err)
		}
	}
	if err := s.opts.Store.Submit(op, end); err != nil {
		end(err)
	}
}
