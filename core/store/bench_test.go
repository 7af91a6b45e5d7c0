package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"trivium/core/store"
	"trivium/core/store/storetest"
)

// cpu returns the CPU time this process has used, in microseconds.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	us := func(t syscall.Timeval) float64 { return float64(t.Sec)*1e6 + float64(t.Usec) }
	return us(u.Utime) + us(u.Stime)
}

// BenchmarkInsert stores 100-byte rows durably, with a number of submitters'
// operations in flight, and reports the process's CPU per row.
func BenchmarkInsert(b *testing.B) {
	body := []byte(strings.Repeat("x", 100))
	for _, inFlight := range []int{1, 8, 256} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			db := open(b, store.Options{Path: filepath.Join(b.TempDir(), "bench.db")})
			storetest.CreateItems(b, db)
			slots := make(chan struct{}, inFlight)
			var failed error
			var once sync.Once
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu(b)
			for i := range b.N {
				slots <- struct{}{}
				err := db.Submit(func(tx *store.Tx) error {
					_, err := tx.Exec(`INSERT INTO items (id, body) VALUES (?, ?)`, i, body)
					return err
				}, func(err error) {
					if err != nil {
						once.Do(func() { failed = err })
					}
					<-slots
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			if err := db.Sync(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if failed != nil {
				b.Fatal(failed)
			}
			b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-µs/row")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(b.N)/float64(db.Stats().Batches), "rows/batch")
		})
	}
}

// BenchmarkExec is one statement inside a transaction: a Tx, and for comparison
// database/sql on the same driver.
func BenchmarkExec(b *testing.B) {
	const insert = `INSERT INTO items (id, body) VALUES (?, ?)`
	body := make([]byte, 100)
	b.Run("tx", func(b *testing.B) {
		db := open(b, store.Options{Path: filepath.Join(b.TempDir(), "a.db")})
		storetest.CreateItems(b, db)
		b.ReportAllocs()
		b.ResetTimer()
		before := cpu(b)
		err := db.Write(context.Background(), func(tx *store.Tx) error {
			for i := range b.N {
				if _, err := tx.Exec(insert, i, body); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-µs/row")
	})
	b.Run("database-sql", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "a.db")
		storetest.CreateItems(b, open(b, store.Options{Path: path}))
		pool, err := sql.Open("sqlite", path)
		if err != nil {
			b.Fatal(err)
		}
		defer pool.Close()
		tx, err := pool.Begin()
		if err != nil {
			b.Fatal(err)
		}
		stmt, err := tx.Prepare(insert)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.ResetTimer()
		before := cpu(b)
		for i := range b.N {
			if _, err := stmt.Exec(i, body); err != nil {
				b.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-µs/row")
	})
}

// BenchmarkRead looks one row of 10000 up by its key.
func BenchmarkRead(b *testing.B) {
	db := open(b, store.Options{Path: filepath.Join(b.TempDir(), "bench.db")})
	storetest.CreateItems(b, db)
	body := []byte(strings.Repeat("x", 100))
	err := db.Write(context.Background(), func(tx *store.Tx) error {
		for i := range 10000 {
			if _, err := tx.Exec(`INSERT INTO items (id, body) VALUES (?, ?)`, i, body); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	cancelable, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
	}{{"background", context.Background()}, {"cancelable", cancelable}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				var out []byte
				if err := db.QueryRow(c.ctx, `SELECT body FROM items WHERE id = ?`, i%10000).Scan(&out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func open(tb testing.TB, o store.Options) *store.DB {
	tb.Helper()
	db, err := store.Open(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}
