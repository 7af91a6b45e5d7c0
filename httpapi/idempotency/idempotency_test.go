package idempotency

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"trivium/core/store"
)

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, c.at.Load()) }

func open(t testing.TB, path string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newKeeper(t testing.TB, db *store.DB, c *clock) *Keeper {
	t.Helper()
	k, err := New(context.Background(), db, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newClock() *clock {
	c := new(clock)
	c.at.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *Claim) wait(a Answer) error {
	done := make(chan error, 1)
	c.Store(a, nil, func(err error) { done <- err })
	return <-done
}

var (
	one   = FingerprintOf("POST", "/messages", "application/json", []byte("one"))
	other = FingerprintOf("POST", "/messages", "application/json", []byte("other"))
	ok    = Answer{Status: 202, Media: "application/json", Body: []byte(`{"id":"x"}`)}
)

func TestLife(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "db")
	clock := newClock()
	db := open(t, path)
	k := newKeeper(t, db, clock)

	first, a, err := k.Begin(ctx, "token", "key", one)
	if err != nil || a != nil {
		t.Fatal(a, err)
	}
	id := first.ID()
	if len(id) != 26 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		t.Errorf("id %q", id)
	}
	// Draft §2.7: under way, and another payload.
	if _, _, err := k.Begin(ctx, "token", "key", one); !errors.Is(err, ErrUnderWay) {
		t.Fatal(err)
	}
	if _, _, err := k.Begin(ctx, "token", "key", other); !errors.Is(err, ErrReused) {
		t.Fatal(err)
	}
	// Keys of other tokens are others, however they are cut.
	for _, tt := range [][2]string{{"token2", "key"}, {"toke", "nkey"}, {"token", "Key"}} {
		c, a, err := k.Begin(ctx, tt[0], tt[1], other)
		if err != nil || a != nil || c.ID() == id {
			t.Fatal(tt, a, err)
		}
		c.Release()
	}
	// Given up: carried out again, with the same id.
	first.Release()
	if first, _, err = k.Begin(ctx, "token", "key", other); err != nil || first.ID() != id {
		t.Fatal(err)
	}
	first.Release()
	if first, _, err = k.Begin(ctx, "token", "key", one); err != nil {
		t.Fatal(err)
	}
	if err := first.wait(ok); err != nil {
		t.Fatal(err)
	}
	replayed := func() {
		t.Helper()
		c, a, err := k.Begin(ctx, "token", "key", one)
		if err != nil || c != nil || !reflect.DeepEqual(*a, ok) {
			t.Fatal(c, a, err)
		}
		if _, _, err := k.Begin(ctx, "token", "key", other); !errors.Is(err, ErrReused) {
			t.Fatal(err)
		}
	}
	replayed()

	// Across a restart, the id too.
	db.Close()
	db = open(t, path)
	k = newKeeper(t, db, clock)
	replayed()
	if c, _, err := k.Begin(ctx, "token", "another", one); err != nil || c.ID() == id {
		t.Fatal(err)
	} else {
		c.Release()
	}

	clock.at.Add(int64(24*time.Hour - time.Minute))
	if err := k.Trim(ctx); err != nil {
		t.Fatal(err)
	}
	replayed()
	clock.at.Add(int64(2 * time.Minute))
	// Not trimmed yet: it counts no more, and its row is replaced.
	c, a, err := k.Begin(ctx, "token", "key", other)
	if err != nil || a != nil || c.ID() != id {
		t.Fatal(a, err)
	}
	if err := c.wait(ok); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Begin(ctx, "token", "key", one); !errors.Is(err, ErrReused) {
		t.Fatal(err)
	}
	clock.at.Add(int64(25 * time.Hour))
	if err := k.Trim(ctx); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow(ctx, `SELECT COUNT(*) FROM idempotency`).Scan(&n); err != nil || n != 0 {
		t.Fatal(n, err)
	}
}

// What goes with the answer is committed with it, or neither is.
func TestStoreWith(t *testing.T) {
	ctx := context.Background()
	db := open(t, "")
	k := newKeeper(t, db, newClock())
	c, _, err := k.Begin(ctx, "t", "k", one)
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	done := make(chan error, 1)
	c.Store(ok, func(*store.Tx) error { return boom }, func(err error) { done <- err })
	if err := <-done; !errors.Is(err, boom) {
		t.Fatal(err)
	}
	c, a, err := k.Begin(ctx, "t", "k", one)
	if err != nil || a != nil {
		t.Fatal(a, err)
	}
	c.Store(ok, func(tx *store.Tx) error { _, err := tx.Exec(`CREATE TABLE beside (x)`); return err }, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(ctx, `SELECT COUNT(*) FROM beside`).Scan(new(int)); err != nil {
		t.Fatal(err)
	}
	// The store's refusal ends the claim as well.
	c, _, err = k.Begin(ctx, "t", "k2", one)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	if err := c.wait(ok); !errors.Is(err, store.ErrClosed) {
		t.Fatal(err)
	}
	if len(k.under) != 0 {
		t.Error("the claim is still held")
	}
}

// Of any number of requests with one key, one is carried out.
func TestRace(t *testing.T) {
	ctx := context.Background()
	k := newKeeper(t, open(t, ""), newClock())
	var carried, replays atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				key := fmt.Sprint(i)
				for {
					c, a, err := k.Begin(ctx, "t", key, one)
					if errors.Is(err, ErrUnderWay) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if a != nil {
						replays.Add(1)
						break
					}
					carried.Add(1)
					if err := c.wait(ok); err != nil {
						t.Error(err)
					}
					break
				}
				if i == 25 {
					k.index.Write()
				}
			}
		})
	}
	wg.Wait()
	if carried.Load() != 50 || replays.Load() != 7*50 {
		t.Errorf("%d carried out, %d replayed", carried.Load(), replays.Load())
	}
}

// Keys are found in a table of any size, after a restart and after the filter was
// made anew.
func TestMany(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	k := newKeeper(t, db, newClock())
	const n = 3 * loadStep / 2
	for i := range n {
		c, _, err := k.Begin(ctx, "t", fmt.Sprint(i), one)
		if err != nil {
			t.Fatal(err)
		}
		c.Store(ok, nil, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	db.Close()
	k = newKeeper(t, open(t, path), newClock())
	for round := range 2 {
		for i := range n {
			if _, a, err := k.Begin(ctx, "t", fmt.Sprint(i), one); a == nil || err != nil {
				t.Fatal(round, i, a, err)
			}
		}
		k.index.Write() // and from the tables
		for range 4 {
			if err := k.db.Sync(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestParseKey(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		key   string
		ok    bool
		fails bool
	}{
		{nil, "", false, false},
		{[]string{`"8e03978e-40d5-43e8-bc93-6894a57f9324"`}, "8e03978e-40d5-43e8-bc93-6894a57f9324", true, false}, // draft §2.1
		{[]string{` "a b" `}, "a b", true, false},
		{[]string{`"a\"b\\c"`}, `a"b\c`, true, false}, // RFC 9651 §4.2.5
		{[]string{`8e03978e`}, "8e03978e", true, false},
		{[]string{``}, "", true, true},
		{[]string{`""`}, "", true, true},
		{[]string{`"`}, "", true, true},
		{[]string{`"a`}, "", true, true},
		{[]string{`"a"b`}, "", true, true},
		{[]string{`"a\b"`}, "", true, true},
		{[]string{`"a\"`}, "", true, true},
		{[]string{`"a";p=1`}, "", true, true},
		{[]string{`a b`}, "", true, true},
		{[]string{`"ü"`}, "", true, true},
		{[]string{"a\x7f"}, "", true, true},
		{[]string{`a`, `b`}, "", true, true},
		{[]string{strings.Repeat("a", MaxKey)}, strings.Repeat("a", MaxKey), true, false},
		{[]string{strings.Repeat("a", MaxKey+1)}, "", true, true},
	} {
		key, ok, err := ParseKey(http.Header{"Idempotency-Key": tt.lines})
		if ok != tt.ok || (err != nil) != tt.fails || err == nil && key != tt.key {
			t.Errorf("%q: %q, %v, %v", tt.lines, key, ok, err)
		}
	}
}

func TestFingerprint(t *testing.T) {
	seen := map[Fingerprint]string{}
	for _, p := range [][4]string{
		{"POST", "/a", "m", "b"},
		{"PUT", "/a", "m", "b"},
		{"POST", "/b", "m", "b"},
		{"POST", "/a", "n", "b"},
		{"POST", "/a", "m", "c"},
		{"POST", "/am", "", "b"},
		{"POST", "/a", "mb", ""},
		{"POST/a", "", "m", "b"},
	} {
		f := FingerprintOf(p[0], p[1], p[2], []byte(p[3]))
		if again := FingerprintOf(p[0], p[1], p[2], []byte(p[3])); again != f {
			t.Errorf("%q: not the same twice", p)
		}
		if before, dup := seen[f]; dup {
			t.Errorf("%q is taken for %s", p, before)
		}
		seen[f] = fmt.Sprint(p)
	}
}

func BenchmarkStore(b *testing.B) {
	ctx := context.Background()
	k := newKeeper(b, open(b, ""), newClock())
	b.ReportAllocs()
	var wg sync.WaitGroup
	i := 0
	body := []byte(strings.Repeat("x", 90))
	for b.Loop() {
		i++
		c, _, err := k.Begin(ctx, "t", fmt.Sprint(i), FingerprintOf("POST", "/messages", "application/json", body))
		if err != nil {
			b.Fatal(err)
		}
		_ = c.ID()
		wg.Add(1)
		c.Store(Answer{202, "application/json", body, "romeo@example.net"}, nil, func(error) { wg.Done() })
		if i%256 == 0 {
			wg.Wait()
		}
	}
	wg.Wait()
}

// Distinct keys do not fill the disk: what is beyond the bound is refused, what is kept
// is still told, and there is room again when it is old.
func TestFull(t *testing.T) {
	ctx, clock := context.Background(), newClock()
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	o := Options{Now: clock.now, Max: 3}
	k, err := New(ctx, db, o)
	if err != nil {
		t.Fatal(err)
	}
	send := func(key string) error {
		c, _, err := k.Begin(ctx, "t", key, one)
		if err == nil {
			done := make(chan error, 1)
			c.Store(ok, nil, func(err error) { done <- err })
			err = <-done
		}
		return err
	}
	for _, key := range []string{"a", "b", "c"} {
		if err := send(key); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := send("d"); !errors.Is(err, ErrFull) {
			t.Errorf("beyond the bound: %v", err)
		}
		if _, a, err := k.Begin(ctx, "t", "a", one); a == nil || err != nil {
			t.Errorf("an answer that is kept: %v, %v", a, err)
		}
		if err := db.Close(); err != nil { // the same after a restart
			t.Fatal(err)
		}
		db = open(t, path)
		if k, err = New(ctx, db, o); err != nil {
			t.Fatal(err)
		}
	}
	clock.at.Add(int64(25 * time.Hour))
	if err := k.Trim(ctx); err != nil {
		t.Fatal(err)
	}
	if err := send("d"); err != nil {
		t.Errorf("when the others are old: %v", err)
	}
	if len(k.under) != 0 {
		t.Errorf("%d claims are left", len(k.under))
	}
}
