package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"trivium/core/store"
	"trivium/core/store/storetest"
)

// Children of these tests are this test binary with childEnv naming what to do
// and childPath the database.
const (
	childEnv  = "TRIVIUM_STORE_TEST_CHILD"
	childPath = "TRIVIUM_STORE_TEST_PATH"
)

func TestMain(m *testing.M) {
	var child func(*store.DB) error
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "insert":
		child = insertForever
	case "limit":
		child = hitFileSizeLimit
	}
	db, err := store.Open(context.Background(), store.Options{Path: os.Getenv(childPath)})
	if err == nil {
		err = child(db)
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childCommand(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+what, childPath+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// insertForever keeps 64 inserts in flight and prints each id once its commit
// was reported, unbuffered, so that a line printed is a promise made.
func insertForever(db *store.DB) error {
	slots := make(chan struct{}, 64)
	failed := make(chan error, 64)
	var first int
	if err := db.QueryRow(context.Background(), `SELECT coalesce(max(id), -1) + 1 FROM items`).Scan(&first); err != nil {
		return err
	}
	for i := first; ; i++ {
		select {
		case slots <- struct{}{}:
		case err := <-failed:
			return err
		}
		err := db.Submit(func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO items (id, body) VALUES (?, ?)`, i, make([]byte, 100))
			return err
		}, func(err error) {
			if err == nil {
				_, err = os.Stdout.WriteString(strconv.Itoa(i) + "\n")
			}
			if err != nil {
				failed <- err
			}
			<-slots
		})
		if err != nil {
			return err
		}
	}
}

// TestKill9 kills a writing process at different moments: every id it had
// acknowledged is there afterwards, over several lives of one file.
func TestKill9(t *testing.T) {
	path := filepath.Join(t.TempDir(), "killed.db")
	db := open(t, store.Options{Path: path})
	storetest.CreateItems(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[int]bool{}
	for round := range 4 {
		cmd := childCommand(t, "insert", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		enough := 200 + 700*round
		for n := 0; lines.Scan(); n++ {
			id, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			acknowledged[id] = true
			if n == enough {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("child ended with %v", err)
		}
		db := open(t, store.Options{Path: path})
		stored := map[int]bool{}
		rows, err := db.Query(t.Context(), `SELECT id FROM items`)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id int
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			stored[id] = true
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		lost := 0
		for id := range acknowledged {
			if !stored[id] {
				lost++
			}
		}
		if lost > 0 || len(acknowledged) < enough {
			t.Fatalf("round %d: %d of %d acknowledged rows are lost", round, lost, len(acknowledged))
		}
		var verdict string
		if err := db.QueryRow(t.Context(), `PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
			t.Fatalf("integrity: %q, %v", verdict, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func insertSize(id, size int) store.Op {
	return func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO items (id, body) VALUES (?, ?)`, id, make([]byte, size))
		return err
	}
}

// fillUp writes batches until one is refused and returns the ids stored and the refusals.
func fillUp(db *store.DB, size int) (stored map[int]bool, refused []error, err error) {
	stored = map[int]bool{}
	for id := 0; len(refused) == 0; {
		for range 20 {
			i := id
			id++
			err := db.Submit(insertSize(i, size), func(err error) {
				if err == nil {
					stored[i] = true
				} else {
					refused = append(refused, err)
				}
			})
			if err != nil {
				return nil, nil, err
			}
		}
		if err := db.Sync(context.Background()); err != nil && len(refused) == 0 {
			return nil, nil, err
		}
		if id > 10000 {
			return nil, nil, errors.New("the limit was never met")
		}
	}
	return stored, refused, nil
}

func checkStored(db *store.DB, stored map[int]bool) error {
	rows, err := db.Query(context.Background(), `SELECT id FROM items`)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			return err
		}
		if !stored[id] {
			return fmt.Errorf("row %d was refused and is there", id)
		}
		n++
	}
	if n != len(stored) {
		return fmt.Errorf("%d rows of %d acknowledged", n, len(stored))
	}
	return rows.Err()
}

// TestDatabaseFull meets a limit on the file's size: what does not fit is
// refused as ErrFull, nothing else is harmed, and room helps at once.
func TestDatabaseFull(t *testing.T) {
	db := open(t, store.Options{Path: filepath.Join(t.TempDir(), "full.db")})
	storetest.CreateItems(t, db)
	setMax := func(pages int) {
		t.Helper()
		err := db.Write(t.Context(), func(tx *store.Tx) error {
			return tx.QueryRow(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)).Scan(&pages)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	setMax(50)
	stored, refused, err := fillUp(db, 3000)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range refused {
		if !errors.Is(err, store.ErrFull) {
			t.Errorf("refusal: %v, want ErrFull", err)
		}
	}
	if err := checkStored(db, stored); err != nil {
		t.Error(err)
	}
	// An operation that frees room works, and so does what then fits.
	err = db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM items WHERE id IN (0, 1, 2)`)
		return err
	})
	if err != nil {
		t.Fatalf("delete on a full disk: %v", err)
	}
	if err := db.Write(t.Context(), insertSize(20000, 3000)); err != nil {
		t.Errorf("insert after the delete: %v", err)
	}
	if err := db.Write(t.Context(), insertSize(20001, 60000)); !errors.Is(err, store.ErrFull) {
		t.Errorf("insert of much: %v, want ErrFull", err)
	}
	setMax(10000)
	if err := db.Write(t.Context(), insertSize(20001, 60000)); err != nil {
		t.Errorf("insert with room: %v", err)
	}
}

// TestWriteError is the same with a real write that the kernel refuses: the
// child meets its RLIMIT_FSIZE, then raises it.
func TestWriteError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limited.db")
	db := open(t, store.Options{Path: path})
	storetest.CreateItems(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := childCommand(t, "limit", path).Output(); err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
}

func hitFileSizeLimit(db *store.DB) error {
	signal.Ignore(syscall.SIGXFSZ) // the write fails with EFBIG instead
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 600_000, Max: old.Max}); err != nil {
		return err
	}
	stored, refused, err := fillUp(db, 3000)
	if err != nil {
		return err
	}
	for _, err := range refused {
		if !errors.Is(err, store.ErrFull) && !errors.Is(err, store.ErrIO) {
			return fmt.Errorf("refusal is neither ErrFull nor ErrIO: %w", err)
		}
	}
	if err := checkStored(db, stored); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := db.Write(context.Background(), insertSize(20000, 3000)); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	stored[20000] = true
	return checkStored(db, stored)
}

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
