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
	"syscall"
	"testing"

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
