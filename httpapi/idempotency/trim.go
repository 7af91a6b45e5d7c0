package idempotency

import (
	"context"
	"fmt"
	"time"

	"trivium/core/store"
	"trivium/httpapi/bloom"
	"trivium/httpapi/keyindex"
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
		k.count.Add(-n)
	}
	return k.index.Refresh(ctx)
}

const loadStep = 1000

// load opens the index and adds what is not in it yet.
func (k *Keeper) load(ctx context.Context) (err error) {
	if k.index, k.last, err = keyindex.New(ctx, k.db, "idempotency_key", keyindex.Options{Keep: k.keep, Logger: k.log, Now: k.now}); err != nil {
		return err
	}
	for n := loadStep; n == loadStep; {
		if n, err = k.add(ctx); err != nil {
			return fmt.Errorf("idempotency: %w", err)
		}
	}
	return nil
}

// add adds some rows to the index.
func (k *Keeper) add(ctx context.Context) (n int, err error) {
	rows, err := k.db.Query(ctx, `SELECT seq, key FROM idempotency WHERE seq > ? ORDER BY seq LIMIT ?`, k.last, loadStep)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var key []byte
		if err := rows.Scan(&k.last, &key); err != nil {
			return n, err
		}
		var d bloom.Digest
		copy(d[:], key)
		k.index.Add(d, k.last)
	}
	return n, rows.Err()
}
