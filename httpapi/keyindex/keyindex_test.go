package keyindex

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"trivium/core/store"
	"trivium/httpapi/bloom"
)

func name(i int) (d bloom.Digest) {
	sum := sha256.Sum256(fmt.Append(nil, i))
	copy(d[:], sum[:])
	return d
}

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time { return time.UnixMicro(c.at.Load()) }

func open(t testing.TB, path string) *store.DB {
	t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	err = db.Write(ctx, func(tx *store.Tx) error {
		for _, q := range []string{
			`CREATE TABLE IF NOT EXISTS x_a (key BLOB NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (key, row)) WITHOUT ROWID`,
			`CREATE TABLE IF NOT EXISTS x_b (key BLOB NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (key, row)) WITHOUT ROWID`,
			`CREATE TABLE IF NOT EXISTS x_state (current INTEGER NOT NULL, since INTEGER NOT NULL, indexed INTEGER NOT NULL)`,
			`INSERT INTO x_state SELECT 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM x_state)`,
		} {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (x *Index) now(t testing.TB) {
	t.Helper()
	done := make(chan error, 1)
	x.write(func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func (x *Index) rows(t testing.TB, i int) []int64 {
	t.Helper()
	rows, err := x.Find(context.Background(), name(i))
	if err != nil {
		t.Fatal(err)
	}
	var in []int64
	err = x.db.Write(context.Background(), func(tx *store.Tx) error {
		var err error
		in, err = x.FindIn(tx, name(i))
		return err
	})
	if err != nil || !slices.Equal(in, rows) {
		t.Fatalf("%v inside an operation, %v outside, %v", in, rows, err)
	}
	if len(rows) > 0 && !x.MayHave(name(i)) {
		t.Fatalf("%d is found and not thought to be there", i)
	}
	return rows
}

// Names are found wherever they are, with all their rows, the latest first, across
// restarts and turns of the tables.
func TestIndex(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "db")
	c := new(clock)
	c.at.Store(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
	o := Options{Keep: time.Hour, Most: 3000, Now: c.now}
	db := open(t, path)
	x, indexed, err := New(ctx, db, "x", o)
	if err != nil || indexed != 0 {
		t.Fatal(indexed, err)
	}
	const n = 5 * writeStep / 2
	row := int64(0)
	add := func(i int) bool {
		row++
		return x.Add(name(i), row)
	}
	for i := range n {
		if add(i) {
			t.Fatal("too many already")
		}
	}
	add(7) // again
	if got := x.rows(t, 7); !slices.Equal(got, []int64{n + 1, 8}) {
		t.Fatal(got)
	}
	x.now(t)
	if len(x.recent.list)+len(x.leaving.list) != 0 {
		t.Error("names are still in memory")
	}
	add(7)
	if got := x.rows(t, 7); !slices.Equal(got, []int64{n + 2, n + 1, 8}) {
		t.Fatal(got)
	}
	if got := x.rows(t, -1); got != nil {
		t.Fatal(got)
	}

	// What was in memory is the owner's to add again.
	db.Close()
	db = open(t, path)
	if x, indexed, err = New(ctx, db, "x", o); err != nil || indexed != n+1 {
		t.Fatal(indexed, err)
	}
	x.Add(name(7), n+2)
	for _, i := range []int{0, 1, n - 1} {
		if got := x.rows(t, i); !slices.Equal(got, []int64{int64(i) + 1}) {
			t.Fatal(i, got)
		}
	}
	if got := x.rows(t, 7); !slices.Equal(got, []int64{n + 2, n + 1, 8}) {
		t.Fatal(got)
	}

	// An hour later the other table is taken, and an hour later this one is cleared.
	c.at.Add(int64(time.Hour / time.Microsecond))
	x.now(t)
	if got := x.rows(t, 1); len(got) != 1 {
		t.Fatal("lost after an hour")
	}
	c.at.Add(int64(time.Hour / time.Microsecond))
	row = n + 2
	add(n)
	x.now(t)
	if got := x.rows(t, 1); len(got) != 0 {
		t.Fatal("there after two hours", got)
	}
	if a, b := x.rows(t, 7), x.rows(t, n); !slices.Equal(a, []int64{n + 2}) || !slices.Equal(b, []int64{n + 3}) {
		t.Fatal(a, b)
	}
	// The turn is remembered.
	db.Close()
	db = open(t, path)
	if x, indexed, err = New(ctx, db, "x", o); err != nil || indexed != n+3 {
		t.Fatal(indexed, err)
	}
	row = n + 3
	add(n + 1)
	x.now(t)
	if a, b := x.rows(t, 7), x.rows(t, n); len(a) != 1 || len(b) != 1 {
		t.Fatal("cleared too early", a, b)
	}
}

// A failure loses nothing.
func TestFailure(t *testing.T) {
	ctx := context.Background()
	db := open(t, "")
	x, _, err := New(ctx, db, "x", Options{})
	if err != nil {
		t.Fatal(err)
	}
	insert := x.sql.insert
	x.Add(name(1), 1)
	x.sql.insert = [2]string{`INSERT INTO nowhere VALUES (?, ?)`, `INSERT INTO nowhere VALUES (?, ?)`}
	done := make(chan error, 1)
	x.write(func(err error) { done <- err })
	if <-done == nil {
		t.Fatal("it has been written nowhere")
	}
	if got := x.rows(t, 1); len(got) != 1 {
		t.Fatal(got)
	}
	x.sql.insert = insert
	x.Add(name(2), 2)
	x.now(t)
	x.now(t)
	if a, b := x.rows(t, 1), x.rows(t, 2); len(a) != 1 || len(b) != 1 || len(x.recent.list)+len(x.leaving.list) != 0 {
		t.Fatal(a, b)
	}
}

// What is there is found at every moment, whoever writes.
func TestRace(t *testing.T) {
	db := open(t, "")
	x, _, err := New(context.Background(), db, "x", Options{Most: 100})
	if err != nil {
		t.Fatal(err)
	}
	const n = 3000
	var added atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			if x.Add(name(i), int64(i)) {
				x.Write()
			}
			added.Store(int64(i + 1))
		}
	})
	for range 2 {
		wg.Go(func() {
			for i := int64(0); i < n; {
				if i >= added.Load() {
					continue
				}
				rows, err := x.Find(context.Background(), name(int(i)))
				if err != nil || len(rows) != 1 || rows[0] != i {
					t.Errorf("%d: %v, %v", i, rows, err)
					return
				}
				i++
			}
		})
	}
	wg.Wait()
	if err := x.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
}
