package idempotency

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"time"

	"trivium/core/store"
)

// filter is a Bloom filter of keys: it says no only for keys that were never added.
// Nearly every key is new, and to ask the database for each would cost as much as
// to store the answer.
type filter struct{ bits []uint64 }

const (
	leastBits = 1 << 20 // 128 KiB
	mostBits  = 1 << 29 // 64 MiB
	probes    = 4
)

func newFilter(keys int64) filter {
	n := int64(leastBits)
	for n < keys*20 && n < mostBits { // some 2 in 1000 are taken for known
		n *= 2
	}
	return filter{make([]uint64, n/64)}
}

// The octets of a digest are as good as random: they are the hashes.
func (f filter) add(d digest) {
	mask := uint64(len(f.bits)*64 - 1)
	a, b := binary.LittleEndian.Uint64(d[:]), binary.LittleEndian.Uint64(d[8:])|1
	for range probes {
		i := a & mask
		f.bits[i/64] |= 1 << (i % 64)
		a += b
	}
}

func (f filter) has(d digest) bool {
	mask := uint64(len(f.bits)*64 - 1)
	a, b := binary.LittleEndian.Uint64(d[:]), binary.LittleEndian.Uint64(d[8:])|1
	for range probes {
		i := a & mask
		if f.bits[i/64]&(1<<(i%64)) == 0 {
			return false
		}
		a += b
	}
	return true
}

// full tells whether more than half of the bits of a sample are set: then one key
// in sixteen is asked for in vain.
func (f filter) full() bool {
	if f.bits == nil {
		return true
	}
	set := 0
	for i := range 64 {
		for w := f.bits[i*(len(f.bits)/64)]; w != 0; w &= w - 1 {
			set++
		}
	}
	return set > 64*64/2
}

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
	k.mu.Lock()
	full := k.known.full()
	k.mu.Unlock()
	if !full {
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
	k.next = newFilter(rows) // from now on Store adds to both
	k.mu.Unlock()
	if err := k.db.Sync(ctx); err != nil { // what was added to the old one alone
		return fmt.Errorf("idempotency: %w", err)
	}
	for n, at := loadStep, int64(-1); n == loadStep; {
		if n, at, err = k.load(ctx, at); err != nil {
			return err
		}
	}
	k.mu.Lock()
	k.known, k.next = k.next, filter{}
	k.mu.Unlock()
	return nil
}

const loadStep = 1000

// load adds the keys of some rows after at to the next filter, and returns how many
// and the number of the last.
func (k *Keeper) load(ctx context.Context, at int64) (n int, last int64, err error) {
	rows, err := k.db.Query(ctx, `SELECT seq, key FROM idempotency WHERE seq > ? ORDER BY seq LIMIT ?`, at, loadStep)
	if err != nil {
		return 0, at, fmt.Errorf("idempotency: %w", err)
	}
	defer rows.Close()
	var keys [loadStep]digest
	for last = at; rows.Next() && n < loadStep; n++ {
		var key sql.RawBytes
		if err := rows.Scan(&last, &key); err != nil {
			return n, last, fmt.Errorf("idempotency: %w", err)
		}
		copy(keys[n][:], key)
	}
	if err := rows.Err(); err != nil {
		return n, last, fmt.Errorf("idempotency: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range keys[:n] {
		k.next.add(d)
	}
	return n, last, nil
}
