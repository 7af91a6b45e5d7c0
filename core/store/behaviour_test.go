package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"trivium/core/store"
	"trivium/core/store/storetest"
)

func TestQueueFull(t *testing.T) {
	db := open(t, store.Options{QueueMax: 3})
	storetest.CreateItems(t, db)
	began, gate := make(chan struct{}), make(chan struct{})
	if err := db.Submit(func(*store.Tx) error { close(began); <-gate; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	<-began
	p, err := db.SubmitCancelable(insertSize(0, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 3; i++ {
		if err := db.Submit(insertSize(i, 1), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Submit(insertSize(3, 1), func(error) { t.Error("done of a refused operation") }); !errors.Is(err, store.ErrBusy) {
		t.Errorf("Submit to a full queue: %v", err)
	}
	if !p.Cancel() {
		t.Error("Cancel: false")
	}
	if err := db.Submit(insertSize(4, 1), nil); err != nil {
		t.Errorf("a withdrawn operation keeps its place: %v", err)
	}
	result := make(chan error, 1)
	go func() { result <- db.Write(t.Context(), insertSize(5, 1)) }() // waits, is not refused
	close(gate)
	if err := <-result; err != nil {
		t.Errorf("Write: %v", err)
	}
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := checkStored(db, map[int]bool{1: true, 2: true, 4: true, 5: true}); err != nil {
		t.Error(err)
	}
}

// TestWithdrawnMemory withdraws many operations while the writer stands still:
// the queue does not keep them.
func TestWithdrawnMemory(t *testing.T) {
	db := open(t, store.Options{QueueMax: 10})
	storetest.CreateItems(t, db)
	began, gate := make(chan struct{}), make(chan struct{})
	if err := db.Submit(func(*store.Tx) error { close(began); <-gate; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	<-began
	if err := db.Submit(insertSize(1, 1), nil); err != nil {
		t.Fatal(err)
	}
	for range 10000 {
		p, err := db.SubmitCancelable(insertSize(2, 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Cancel() {
			t.Fatal("Cancel: false")
		}
	}
	if n := store.QueueLen(db); n > 200 {
		t.Errorf("%d entries in the queue", n)
	}
	close(gate)
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := checkStored(db, map[int]bool{1: true}); err != nil {
		t.Error(err)
	}
}

func TestPrivateFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	db := open(t, store.Options{Path: filepath.Join(dir, "a.db")})
	storetest.CreateItems(t, db)
	for _, name := range []string{"", "a.db", "a.db-wal", "a.db-shm"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q has mode %v", name, st.Mode())
		}
	}
}

func TestTemporaryIsGone(t *testing.T) {
	db := open(t, store.Options{})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(db.Path())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, garbage, filepath.Join(garbage, "below")} {
		if db, err := store.Open(t.Context(), store.Options{Path: path}); err == nil {
			t.Errorf("Open(%q) succeeded", path)
			_ = db.Close()
		}
	}
}

// TestStatementCacheIsBounded runs more texts than the caches hold.
func TestStatementCacheIsBounded(t *testing.T) {
	db := open(t, store.Options{})
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		for i := range 1500 {
			var got int
			if err := tx.QueryRow(fmt.Sprint("SELECT ", i)).Scan(&got); err != nil || got != i {
				return fmt.Errorf("SELECT %d: %d, %w", i, got, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1500 {
		var got int
		if err := db.QueryRow(t.Context(), fmt.Sprint("SELECT ", i)).Scan(&got); err != nil || got != i {
			t.Fatalf("SELECT %d: %d, %v", i, got, err)
		}
	}
}

// TestOneFailureOneReplay: one bad operation among many costs them one more
// commit, not one each.
func TestOneFailureOneReplay(t *testing.T) {
	db := open(t, store.Options{})
	storetest.CreateItems(t, db)
	began, gate := make(chan struct{}), make(chan struct{})
	if err := db.Submit(func(*store.Tx) error { close(began); <-gate; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	<-began
	runs := 0
	for i := range 200 {
		id := i
		if i == 150 {
			id = 149 // not unique
		}
		err := db.Submit(func(tx *store.Tx) error { runs++; return insertSize(id, 1)(tx) }, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := db.Stats(); s.Replays != 1 || s.Failed != 1 || runs != 151+200 {
		t.Errorf("stats %+v, %d runs", s, runs)
	}
	var n int
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM items`).Scan(&n); err != nil || n != 199 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// TestLockedByAnother: a lock that another process holds for too long is
// ErrLocked, and writes go on when it is gone.
func TestLockedByAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locked.db")
	db := open(t, store.Options{Path: path})
	storetest.CreateItems(t, db)
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		return tx.QueryRow(`PRAGMA busy_timeout = 20`).Scan(new(int))
	})
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, store.Options{Path: path})
	err = other.Write(t.Context(), func(*store.Tx) error {
		for i := range 3 {
			if err := db.Write(t.Context(), insertSize(i, 1)); !errors.Is(err, store.ErrLocked) {
				t.Errorf("write %d under another's lock: %v", i, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), insertSize(3, 1)); err != nil {
		t.Errorf("write without the lock: %v", err)
	}
	if err := checkStored(db, map[int]bool{3: true}); err != nil {
		t.Error(err)
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	db, err := store.Open(t.Context(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	storetest.CreateItems(t, db)
	if err := db.Write(t.Context(), insertSize(1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := checkStored(db, map[int]bool{1: true}); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPragmas: what kill -9 cannot show. Without synchronous=FULL (2) a loss of
// power takes acknowledged commits.
func TestPragmas(t *testing.T) {
	db := open(t, store.Options{Path: filepath.Join(t.TempDir(), "pragmas.db")})
	want := map[string]string{"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "5000", "query_only": "0"}
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		for name, want := range want {
			var got string
			if err := tx.QueryRow("PRAGMA " + name).Scan(&got); err != nil || got != want {
				t.Errorf("writer: %s = %q, want %s, %v", name, got, want, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want["query_only"] = "1"
	delete(want, "synchronous")
	for name, want := range want {
		var got string
		if err := db.QueryRow(t.Context(), "PRAGMA "+name).Scan(&got); err != nil || got != want {
			t.Errorf("reader: %s = %q, want %s, %v", name, got, want, err)
		}
	}
}
