// Package storetest holds the contract of core/store as a test suite, so that
// every engine behind it is held to the same behaviour.
package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"trivium/core/store"
)

// CreateItems migrates one table, items(id INTEGER PRIMARY KEY, body BLOB), as
// the module "items".
func CreateItems(tb testing.TB, db *store.DB) {
	tb.Helper()
	err := db.Migrate(context.Background(), "items", fstest.MapFS{
		"00001_items.sql": {Data: []byte("-- +goose Up\nCREATE TABLE items (id BIGINT PRIMARY KEY, body BYTEA NOT NULL);\n")},
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// Run exercises the contract. open returns an empty database with the default
// options, closed by the test's cleanup at the latest.
func Run(t *testing.T, open func(t *testing.T) *store.DB) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *store.DB)
	}{
		{"WriteThenRead", writeThenRead},
		{"OneErrorIsItsOwn", oneErrorIsItsOwn},
		{"ErrorAfterWriteUndoesTheOperation", errorUndoes},
		{"Unique", unique},
		{"PanicIsAnError", panicIsAnError},
		{"CallbacksInOrder", callbacksInOrder},
		{"CallbackMaySubmit", callbackMaySubmit},
		{"CallbackPanicCostsOnlyItself", callbackPanic},
		{"ConcurrentWriters", concurrentWriters},
		{"CancelPending", cancelPending},
		{"CancelRace", cancelRace},
		{"WriteWithEndedContext", writeEndedContext},
		{"ReadWithEndedContext", readEndedContext},
		{"WriteWithdrawnByContext", writeWithdrawn},
		{"Sync", syncWaits},
		{"CloseDrains", closeDrains},
		{"ClosedRefuses", closedRefuses},
		{"TxReadsItsWrites", txReadsItsWrites},
		{"TxNestedQueries", txNestedQueries},
		{"TxRowsLeftOpen", txRowsLeftOpen},
		{"Values", values},
		{"ReadersSeeCommittedOnly", readersSeeCommittedOnly},
		{"ReadersCannotWrite", readersCannotWrite},
		{"BadSQL", badSQL},
		{"Migrate", migrate},
		{"MigrateFailureKeepsGoodFiles", migrateFailure},
		{"MigrateWhileWriting", migrateWhileWriting},
		{"Model", model},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := open(t)
			CreateItems(t, db)
			tt.run(t, db)
		})
	}
}

func insert(id int) store.Op {
	return func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO items (id, body) VALUES (?, ?)`, id, []byte{byte(id)})
		return err
	}
}

// ids returns the committed rows in order.
func ids(t *testing.T, db *store.DB) []int {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT id FROM items ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got := []int{}
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		got = append(got, id)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return got
}

func wantIDs(t *testing.T, db *store.DB, want ...int) {
	t.Helper()
	if got := ids(t, db); !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
}

// hold keeps the writer busy inside an operation until release is called, so
// that what is submitted meanwhile makes up one batch.
func hold(t *testing.T, db *store.DB) (release func()) {
	t.Helper()
	began, gate := make(chan struct{}), make(chan struct{})
	err := db.Submit(func(*store.Tx) error {
		close(began)
		<-gate
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-began
	return sync.OnceFunc(func() { close(gate) })
}

func writeThenRead(t *testing.T, db *store.DB) {
	if err := db.Write(t.Context(), insert(7)); err != nil {
		t.Fatal(err)
	}
	var body []byte
	if err := db.QueryRow(t.Context(), `SELECT body FROM items WHERE id = ?`, 7).Scan(&body); err != nil || len(body) != 1 || body[0] != 7 {
		t.Errorf("read %v, %v", body, err)
	}
	err := db.QueryRow(t.Context(), `SELECT body FROM items WHERE id = ?`, 8).Scan(&body)
	if !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("missing row: %v, want sql.ErrNoRows", err)
	}
}

// submitAll submits ops while the writer is held and returns their errors.
func submitAll(t *testing.T, db *store.DB, ops ...store.Op) []error {
	t.Helper()
	release := hold(t, db)
	errs := make([]error, len(ops))
	for i, op := range ops {
		if err := db.Submit(op, func(err error) { errs[i] = err }); err != nil {
			t.Fatal(err)
		}
	}
	release()
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return errs
}

func oneErrorIsItsOwn(t *testing.T, db *store.DB) {
	refusal := errors.New("refused")
	errs := submitAll(t, db, insert(1), func(*store.Tx) error { return refusal }, insert(2), insert(1), insert(3))
	for i, want := range []error{nil, refusal, nil, store.ErrUnique, nil} {
		if !errors.Is(errs[i], want) || (want == nil && errs[i] != nil) {
			t.Errorf("operation %d: %v, want %v", i, errs[i], want)
		}
	}
	wantIDs(t, db, 1, 2, 3)
}

func errorUndoes(t *testing.T, db *store.DB) {
	refusal := errors.New("refused")
	errs := submitAll(t, db, insert(1), func(tx *store.Tx) error {
		if err := insert(2)(tx); err != nil {
			return err
		}
		return refusal
	}, insert(3))
	if errs[0] != nil || errs[2] != nil || !errors.Is(errs[1], refusal) {
		t.Errorf("errors %v", errs)
	}
	wantIDs(t, db, 1, 3)
	// Alone in its batch it is undone as well.
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		return errors.Join(insert(4)(tx), refusal)
	})
	if !errors.Is(err, refusal) {
		t.Errorf("alone: %v", err)
	}
	wantIDs(t, db, 1, 3)
}

func unique(t *testing.T, db *store.DB) {
	if err := db.Write(t.Context(), insert(1)); err != nil {
		t.Fatal(err)
	}
	err := db.Write(t.Context(), insert(1))
	if !errors.Is(err, store.ErrUnique) || !errors.Is(err, store.ErrConstraint) {
		t.Errorf("second insert: %v", err)
	}
	err = db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO items (id, body) VALUES (?, NULL)`, 2)
		return err
	})
	if errors.Is(err, store.ErrUnique) || !errors.Is(err, store.ErrConstraint) {
		t.Errorf("NULL in a NOT NULL column: %v", err)
	}
}

func panicIsAnError(t *testing.T, db *store.DB) {
	errs := submitAll(t, db, insert(1), func(tx *store.Tx) error {
		if err := insert(2)(tx); err != nil {
			return err
		}
		panic("at the disco")
	}, insert(3))
	var panicked *store.PanicError
	if !errors.As(errs[1], &panicked) || panicked.Value != "at the disco" {
		t.Errorf("panic became %v", errs[1])
	}
	wantIDs(t, db, 1, 3)
}

func callbacksInOrder(t *testing.T, db *store.DB) {
	const n = 3000 // several batches
	var order []int
	for i := range n {
		op := insert(i)
		if i%100 == 50 {
			op = func(tx *store.Tx) error { return errors.Join(insert(-i)(tx), errors.New("refused")) }
		}
		if err := db.Submit(op, func(error) { order = append(order, i) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(order) != n || !slices.IsSorted(order) {
		t.Errorf("%d callbacks, sorted %v", len(order), slices.IsSorted(order))
	}
	if got := len(ids(t, db)); got != n-n/100 {
		t.Errorf("%d rows, want %d", got, n-n/100)
	}
}

func callbackMaySubmit(t *testing.T, db *store.DB) {
	second := make(chan error, 1)
	err := db.Submit(insert(1), func(err error) {
		if err == nil {
			err = db.Submit(insert(2), func(err error) { second <- err })
		}
		if err != nil {
			second <- err
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	wantIDs(t, db, 1, 2)
}

func callbackPanic(t *testing.T, db *store.DB) {
	release := hold(t, db)
	var called []int
	for i := range 3 {
		err := db.Submit(insert(i), func(error) {
			called = append(called, i)
			if i == 1 {
				panic("in a callback")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	release()
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(called, []int{0, 1, 2}) {
		t.Errorf("called %v", called)
	}
	wantIDs(t, db, 0, 1, 2)
}

func concurrentWriters(t *testing.T, db *store.DB) {
	const writers, each = 16, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				id := w*each + i
				if err := db.Write(t.Context(), insert(id)); err != nil {
					t.Errorf("write %d: %v", id, err)
				}
				var n int
				if err := db.QueryRow(t.Context(), `SELECT count(*) FROM items WHERE id = ?`, id).Scan(&n); err != nil || n != 1 {
					t.Errorf("row %d after its write: %d, %v", id, n, err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(ids(t, db)); got != writers*each {
		t.Errorf("%d rows", got)
	}
}

func cancelPending(t *testing.T, db *store.DB) {
	release := hold(t, db)
	called := false
	p, err := db.SubmitCancelable(insert(1), func(error) { called = true })
	if err != nil {
		t.Fatal(err)
	}
	kept, err := db.SubmitCancelable(insert(2), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Cancel() {
		t.Error("Cancel of a waiting operation: false")
	}
	if p.Cancel() {
		t.Error("second Cancel: true")
	}
	release()
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kept.Cancel() {
		t.Error("Cancel of a committed operation: true")
	}
	if called {
		t.Error("done of a withdrawn operation was called")
	}
	wantIDs(t, db, 2)
}

// cancelRace: an operation either runs and reports, or is withdrawn and silent.
func cancelRace(t *testing.T, db *store.DB) {
	const n = 2000
	done := make([]bool, n)
	canceled := make([]bool, n)
	for i := range n {
		p, err := db.SubmitCancelable(insert(i), func(err error) { done[i] = err == nil })
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			canceled[i] = p.Cancel()
		}
	}
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows := map[int]bool{}
	for _, id := range ids(t, db) {
		rows[id] = true
	}
	for i := range n {
		if done[i] == canceled[i] || rows[i] != done[i] {
			t.Fatalf("operation %d: done %v, canceled %v, stored %v", i, done[i], canceled[i], rows[i])
		}
	}
}

func writeEndedContext(t *testing.T, db *store.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Write(ctx, insert(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v", err)
	}
	wantIDs(t, db)
}

func readEndedContext(t *testing.T, db *store.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.QueryRow(ctx, `SELECT 1`).Scan(new(int)); !errors.Is(err, context.Canceled) {
		t.Errorf("QueryRow: %v", err)
	}
	if _, err := db.Query(ctx, `SELECT 1`); !errors.Is(err, context.Canceled) {
		t.Errorf("Query: %v", err)
	}
}

func writeWithdrawn(t *testing.T, db *store.DB) {
	release := hold(t, db)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- db.Write(ctx, insert(1)) }()
	for db.Stats().Waiting == 0 { // until it is queued
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v", err)
	}
	release()
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, db)
}

func syncWaits(t *testing.T, db *store.DB) {
	const n = 1200
	finished := 0
	for i := range n {
		if err := db.Submit(insert(i), func(error) { finished++ }); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if finished != n {
		t.Errorf("%d of %d finished after Sync", finished, n)
	}
}

func closeDrains(t *testing.T, db *store.DB) {
	const n = 1500
	var errs []error
	finished := 0
	for i := range n {
		err := db.Submit(insert(i), func(err error) {
			finished++
			if err != nil {
				errs = append(errs, err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if finished != n || len(errs) > 0 {
		t.Errorf("%d of %d finished, errors %v", finished, n, errs)
	}
}

func closedRefuses(t *testing.T, db *store.DB) {
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Submit(insert(1), func(error) { t.Error("done called") }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Submit: %v", err)
	}
	if err := db.Write(t.Context(), insert(1)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func txReadsItsWrites(t *testing.T, db *store.DB) {
	var before error
	var after []byte
	var changed int64
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		before = tx.QueryRow(`SELECT body FROM items WHERE id = ?`, 5).Scan(&after)
		if err := insert(5)(tx); err != nil {
			return err
		}
		res, err := tx.Exec(`UPDATE items SET body = ? WHERE id = ?`, []byte("new"), 5)
		if err != nil {
			return err
		}
		if changed, err = res.RowsAffected(); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT body FROM items WHERE id = ?`, 5).Scan(&after)
	})
	if err != nil || !errors.Is(before, sql.ErrNoRows) || string(after) != "new" || changed != 1 {
		t.Errorf("before %v, after %q, changed %d, err %v", before, after, changed, err)
	}
}

// txNestedQueries walks over a statement while running the same text again.
func txNestedQueries(t *testing.T, db *store.DB) {
	var pairs []string
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		pairs = nil
		for i := range 3 {
			if err := insert(i)(tx); err != nil {
				return err
			}
		}
		const text = `SELECT id FROM items WHERE id >= ? ORDER BY id`
		outer, err := tx.Query(text, 1)
		if err != nil {
			return err
		}
		for outer.Next() {
			var a int
			if err := outer.Scan(&a); err != nil {
				return err
			}
			inner, err := tx.Query(text, 1)
			if err != nil {
				return err
			}
			for inner.Next() {
				var b int
				if err := inner.Scan(&b); err != nil {
					return err
				}
				pairs = append(pairs, fmt.Sprint(a, b))
			}
			if err := inner.Err(); err != nil {
				return err
			}
		}
		return outer.Err()
	})
	if want := []string{"1 1", "1 2", "2 1", "2 2"}; err != nil || !slices.Equal(pairs, want) {
		t.Errorf("pairs %v, err %v", pairs, err)
	}
}

func txRowsLeftOpen(t *testing.T, db *store.DB) {
	for range 3 {
		err := db.Write(t.Context(), func(tx *store.Tx) error {
			rows, err := tx.Query(`SELECT id FROM items UNION SELECT -1 UNION SELECT -2`)
			if err != nil {
				return err
			}
			rows.Next()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Write(t.Context(), insert(1)); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, db, 1)
}

func values(t *testing.T, db *store.DB) {
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		var (
			i    int
			i64  int64
			u32  uint32
			b    bool
			s    string
			bs   []byte
			null sql.NullString
			dur  time.Duration
			f    float64
			what any
		)
		err := tx.QueryRow(`SELECT ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?`,
			-3, int64(1)<<40, uint32(9), true, "Röm\x00eo", []byte{0, 1, 255}, 5*time.Second, 1.5, "x").
			Scan(&i, &i64, &u32, &b, &s, &bs, &null, &dur, &f, &what)
		if err != nil {
			return err
		}
		if i != -3 || i64 != 1<<40 || u32 != 9 || !b || s != "Röm\x00eo" || string(bs) != "\x00\x01\xff" ||
			null.Valid || dur != 5*time.Second || f != 1.5 || what != "x" {
			t.Errorf("came back as %v %v %v %v %q %v %v %v %v %v", i, i64, u32, b, s, bs, null, dur, f, what)
		}
		for _, dest := range []any{new(int), new(string), new(bool), new(chan int)} {
			if err := tx.QueryRow(`SELECT NULL`).Scan(dest); err == nil {
				t.Errorf("NULL went into %T", dest)
			}
		}
		if err := tx.QueryRow(`SELECT 300`).Scan(new(uint8)); err == nil {
			t.Error("300 went into a uint8")
		}
		if err := tx.QueryRow(`SELECT 1, 2`).Scan(new(int)); err == nil {
			t.Error("two columns went into one variable")
		}
		if _, err := tx.Exec(`SELECT ?`, make(chan int)); err == nil {
			t.Error("a channel was taken as an argument")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func readersSeeCommittedOnly(t *testing.T, db *store.DB) {
	seen := -1
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		if err := insert(1)(tx); err != nil {
			return err
		}
		return db.QueryRow(context.Background(), `SELECT count(*) FROM items`).Scan(&seen)
	})
	if err != nil || seen != 0 {
		t.Errorf("a reader saw %d rows of an open transaction, err %v", seen, err)
	}
	wantIDs(t, db, 1)
}

func readersCannotWrite(t *testing.T, db *store.DB) {
	rows, err := db.Query(t.Context(), `INSERT INTO items (id, body) VALUES (1, 'x') RETURNING id`)
	if err == nil {
		for rows.Next() {
		}
		err = rows.Err()
		_ = rows.Close()
	}
	if err == nil {
		t.Error("an INSERT through Query succeeded")
	}
	wantIDs(t, db)
}

func badSQL(t *testing.T, db *store.DB) {
	if _, err := db.Query(t.Context(), `SELECT nothing FROM nowhere`); err == nil {
		t.Error("Query: no error")
	}
	if err := db.QueryRow(t.Context(), `SELECT nothing FROM nowhere`).Scan(new(int)); err == nil {
		t.Error("QueryRow: no error")
	}
	errs := submitAll(t, db, insert(1), func(tx *store.Tx) error {
		_, err := tx.Exec(`SELEKT`)
		return err
	}, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO items (id, body) VALUES (?, ?)`, 2) // one argument short
		return err
	}, insert(3))
	if errs[0] != nil || errs[1] == nil || errs[2] == nil || errs[3] != nil {
		t.Errorf("errors %v", errs)
	}
	wantIDs(t, db, 1, 3)
}

func migrate(t *testing.T, db *store.DB) {
	files := fstest.MapFS{
		"00001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a (x BIGINT);\nINSERT INTO a VALUES (1);\n")},
	}
	for range 2 { // the second time there is nothing to do
		if err := db.Migrate(t.Context(), "alpha", files); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	count := func() int {
		t.Helper()
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM a`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := count(); got != 1 {
		t.Errorf("the first file ran %d times", got)
	}
	files["00002_b.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nALTER TABLE a ADD COLUMN y BIGINT;\nINSERT INTO a (x, y) VALUES (2, 2);\n")}
	if err := db.Migrate(t.Context(), "alpha", files); err != nil {
		t.Fatal(err)
	}
	if got := count(); got != 2 {
		t.Errorf("%d rows after the second file", got)
	}
	// Another module has its own numbers.
	err := db.Migrate(t.Context(), "beta", fstest.MapFS{
		"00001_c.sql": {Data: []byte("-- +goose Up\nCREATE TABLE c (x BIGINT);\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "Alpha", "a; DROP TABLE a", "1a"} {
		if err := db.Migrate(t.Context(), name, files); err == nil {
			t.Errorf("module name %q was taken", name)
		}
	}
}

func migrateFailure(t *testing.T, db *store.DB) {
	files := fstest.MapFS{
		"00001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a (x BIGINT);\n")},
		"00002_b.sql": {Data: []byte("-- +goose Up\nCREATE TABLE b (x BIGINT);\nCREATE TABLE a (x BIGINT);\n")},
	}
	if err := db.Migrate(t.Context(), "alpha", files); err == nil {
		t.Fatal("a failing file was taken")
	}
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM a`).Scan(new(int)); err != nil {
		t.Errorf("the good file: %v", err)
	}
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM b`).Scan(new(int)); err == nil {
		t.Error("half of the failing file stayed")
	}
}

func migrateWhileWriting(t *testing.T, db *store.DB) {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := db.Write(t.Context(), insert(i)); err != nil {
				t.Errorf("write %d: %v", i, err)
				return
			}
		}
	})
	for i := range 5 {
		err := db.Migrate(t.Context(), fmt.Sprint("m", i), fstest.MapFS{
			"00001_a.sql": {Data: fmt.Appendf(nil, "-- +goose Up\nCREATE TABLE m%d (x BIGINT);\nALTER TABLE items ADD COLUMN c%d BIGINT;\n", i, i)},
		})
		if err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// model runs random operations in random batches and holds the table and every
// report against a map: operations take effect in the order of submission, each
// wholly or not at all.
func model(t *testing.T, db *store.DB) {
	refusal := errors.New("refused")
	rapid.Check(t, func(rt *rapid.T) {
		if err := db.Write(context.Background(), func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM items`)
			return err
		}); err != nil {
			rt.Fatal(err)
		}
		table := map[int]byte{}
		for range rapid.IntRange(1, 4).Draw(rt, "batches") {
			release := hold(t, db)
			defer release() // the writer must go on whatever fails
			type outcome struct {
				called bool
				got    error
				want   error
			}
			var outcomes []*outcome
			for range rapid.IntRange(0, 12).Draw(rt, "operations") {
				id, v := rapid.IntRange(0, 5).Draw(rt, "id"), rapid.Byte().Draw(rt, "value")
				put := func(tx *store.Tx) error {
					_, err := tx.Exec(`INSERT INTO items (id, body) VALUES (?, ?)`, id, []byte{v})
					return err
				}
				replace := func(tx *store.Tx) error {
					_, err := tx.Exec(`DELETE FROM items WHERE id = ?`, id)
					if err != nil {
						return err
					}
					return put(tx)
				}
				var op store.Op
				want := error(nil)
				canceled := false
				switch kind := rapid.SampledFrom([]string{"insert", "replace", "refuse", "undo", "panic", "cancel"}).Draw(rt, "kind"); kind {
				case "insert":
					op = put
					if _, there := table[id]; there {
						want = store.ErrUnique
					} else {
						table[id] = v
					}
				case "replace":
					op = replace
					table[id] = v
				case "refuse":
					op, want = func(*store.Tx) error { return refusal }, refusal
				case "undo":
					op, want = func(tx *store.Tx) error { return errors.Join(replace(tx), refusal) }, refusal
				case "panic":
					op, want = func(tx *store.Tx) error { _ = replace(tx); panic(refusal) }, new(store.PanicError)
				case "cancel":
					op, canceled = replace, true
				}
				o := &outcome{want: want}
				p, err := db.SubmitCancelable(op, func(err error) { o.called, o.got = true, err })
				if err != nil {
					rt.Fatal(err)
				}
				if canceled {
					if !p.Cancel() {
						rt.Fatal("Cancel: false")
					}
					continue
				}
				outcomes = append(outcomes, o)
			}
			release()
			if err := db.Sync(context.Background()); err != nil {
				rt.Fatal(err)
			}
			for i, o := range outcomes {
				var panicked *store.PanicError
				if _, ok := o.want.(*store.PanicError); ok {
					if !errors.As(o.got, &panicked) {
						rt.Fatalf("operation %d: %v, want a panic", i, o.got)
					}
				} else if !o.called || !errors.Is(o.got, o.want) {
					rt.Fatalf("operation %d: called %v, %v, want %v", i, o.called, o.got, o.want)
				}
			}
		}
		got := map[int]byte{}
		rows, err := db.Query(context.Background(), `SELECT id, body FROM items`)
		if err != nil {
			rt.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id int
			var body []byte
			if err := rows.Scan(&id, &body); err != nil {
				rt.Fatal(err)
			}
			got[id] = body[0]
		}
		if !maps.Equal(got, table) {
			rt.Fatalf("table %v, want %v", got, table)
		}
	})
}
