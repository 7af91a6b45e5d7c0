package idempotency

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"trivium/core/store"
	"trivium/httpapi/bloom"
)

// trimStep is how many rows go in one transaction.
const trimStep = 500

// Run trims the table until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := k.Trim(ctx); err != nil && ctx.Err() == nil {
				k.log.Error("answers of requests were not trimmed", "err", err)
			}
		}
	}
}

// Trim drops answers that have been kept long enough.
func (k *Keeper) Trim(ctx context.Context) error {
	before := k.now().Add(-k.keep).UnixMicro()
	for n := int64(trimStep); n == trimStep; {
		err := k.db.Write(ctx, func(tx *store.Tx) error {
			res, err := tx.Exec(`DELETE FROM idempotency WHERE seq IN (SELECT seq FROM idempotency WHERE seq < ? ORDER BY seq LIMIT ?)`, before, trimStep)
			if err == nil {
				n, err = res.RowsAffected()
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("idempotency: %w", err)
		}
	}
	if known := k.known.Load(); known != nil && !known.Full() {
		return nil
	}
	return k.index(ctx)
}

// index makes the filter anew from the table.
func (k *Keeper) index(ctx context.Context) error {
	k.indexing.Lock()
	defer k.indexing.Unlock()
	var rows, last int64
	err := k.db.QueryRow(ctx, `SELECT COUNT(*), COALESCE(MAX(seq), 0) FROM idempotency`).Scan(&rows, &last)
	if err != nil {
		return fmt.Errorf("idempotency: %w", err)
	}
	k.mu.Lock()
	k.last = max(k.last, last)
	next := bloom.New(rows)
	k.next.Store(next) // from now on answers are added to both
	k.mu.Unlock()
	if err := k.db.Sync(ctx); err != nil { // what was added to the old one alone
		return fmt.Errorf("idempotency: %w", err)
	}
	for n, at := loadStep, int64(-1); n == loadStep; {
		if n, at, err = k.load(ctx, next, at); err != nil {
			return err
		}
	}
	k.mu.Lock()
	k.known.Store(next)
	k.next.Store(nil)
	k.mu.Unlock()
	return nil
}

const loadStep = 1000

// load adds the keys of some rows after at to f, and returns how many and the
// number of the last.
func (k *Keeper) load(ctx context.Context, f *bloom.Filter, at int64) (n int, last int64, err error) {
	rows, err := k.db.Query(ctx, `SELECT seq, key FROM idempotency WHERE seq > ? ORDER BY seq LIMIT ?`, at, loadStep)
	if err != nil {
		return 0, at, fmt.Errorf("idempotency: %w", err)
	}
	defer rows.Close()
	for last = at; rows.Next(); n++ {
		var key sql.RawBytes
		if err := rows.Scan(&last, &key); err != nil {
			return n, last, fmt.Errorf("idempotency: %w", err)
		}
		var d bloom.Digest
		copy(d[:], key)
		f.Add(d)
	}
	if err := rows.Err(); err != nil {
		return n, last, fmt.Errorf("idempotency: %w", err)
	}
	return n, last, nil
}
