package auth_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/xdg-go/scram"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/sasl"
	"trivium/core/store"
)

var (
	juliet = jid.Must("juliet@example.org")
	romeo  = jid.Must("romeo@example.org")
)

func openStore(tb testing.TB, path string) *store.DB {
	tb.Helper()
	db, err := store.Open(context.Background(), store.Options{Path: path})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

func newService(tb testing.TB, db *store.DB, o auth.Options) *auth.Service {
	tb.Helper()
	if o.Iterations == 0 {
		o.Iterations = sasl.MinIterations
	}
	s, err := auth.New(db, o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func create(tb testing.TB, s *auth.Service, account jid.JID, password string) {
	tb.Helper()
	if err := s.CreateAccount(context.Background(), account, password); err != nil {
		tb.Fatal(err)
	}
}

func checkPlain(tb testing.TB, b sasl.Backend, username, password string, want bool) {
	tb.Helper()
	if got, err := b.CheckPlain(context.Background(), username, password); got != want || err != nil {
		tb.Errorf("CheckPlain(%s, %s) = %v, %v, want %v", username, password, got, err, want)
	}
}

func checkExists(tb testing.TB, s *auth.Service, account jid.JID, want bool) {
	tb.Helper()
	if got, err := s.Exists(context.Background(), account); got != want || err != nil {
		tb.Errorf("Exists(%v) = %v, %v, want %v", account, got, err, want)
	}
}

func TestAccountLife(t *testing.T) {
	s := newService(t, openStore(t, ""), auth.Options{})
	ctx, b := t.Context(), s.Host("example.org")
	checkExists(t, s, juliet, false)
	checkPlain(t, b, "juliet", "R0m30myr0m30", false)
	if err := s.SetPassword(ctx, juliet, "x"); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("SetPassword of nobody: %v", err)
	}
	if err := s.RemoveAccount(ctx, juliet); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("RemoveAccount of nobody: %v", err)
	}

	create(t, s, jid.Must("juliet@example.org/balcony"), "R0m30myr0m30")
	checkExists(t, s, juliet, true)
	checkExists(t, s, jid.Must("juliet@example.org/chamber"), true)
	checkExists(t, s, jid.Must("juliet@example.net"), false)
	checkExists(t, s, jid.Must("example.org"), false)
	checkPlain(t, b, "juliet", "R0m30myr0m30", true)
	checkPlain(t, b, "juliet", "r0m30myr0m30", false)
	checkPlain(t, b, "romeo", "R0m30myr0m30", false)
	checkPlain(t, s.Host("example.net"), "juliet", "R0m30myr0m30", false)
	if err := s.CreateAccount(ctx, juliet, "other"); !errors.Is(err, auth.ErrExists) {
		t.Errorf("second CreateAccount: %v", err)
	}

	if err := s.SetPassword(ctx, juliet, "pencil"); err != nil {
		t.Fatal(err)
	}
	checkPlain(t, b, "juliet", "R0m30myr0m30", false)
	checkPlain(t, b, "juliet", "pencil", true)

	if err := s.RemoveAccount(ctx, juliet); err != nil {
		t.Fatal(err)
	}
	checkExists(t, s, juliet, false)
	checkPlain(t, b, "juliet", "pencil", false)
	create(t, s, juliet, "again")
	checkPlain(t, b, "juliet", "pencil", false)
	checkPlain(t, b, "juliet", "again", true)
}

func TestRefusedInput(t *testing.T) {
	s := newService(t, openStore(t, ""), auth.Options{})
	for _, tt := range []struct {
		account, password string
		want              error
	}{
		{"example.org", "secret", auth.ErrAddress},
		{"example.org/x", "secret", auth.ErrAddress},
		{"juliet@example.org", "", sasl.ErrPassword},
		{"juliet@example.org", "a\x00b", sasl.ErrPassword},
	} {
		if err := s.CreateAccount(t.Context(), jid.Must(tt.account), tt.password); !errors.Is(err, tt.want) {
			t.Errorf("CreateAccount(%s, %q): %v, want %v", tt.account, tt.password, err, tt.want)
		}
	}
	checkExists(t, s, juliet, false)
}

// TestKeysAreSCRAM holds the stored keys against another implementation's.
func TestKeysAreSCRAM(t *testing.T) {
	s := newService(t, openStore(t, ""), auth.Options{})
	create(t, s, juliet, "pencil")
	b := s.Host("example.org")
	salts := map[string]bool{}
	for h, generator := range map[sasl.Hash]scram.HashGeneratorFcn{
		sasl.SHA1: scram.SHA1, sasl.SHA256: scram.SHA256, sasl.SHA512: scram.SHA512,
	} {
		got, ok, err := b.Keys(t.Context(), "juliet", h)
		if err != nil || !ok {
			t.Fatalf("%v: ok %v, err %v", h, ok, err)
		}
		client, err := generator.NewClient("juliet", "pencil", "")
		if err != nil {
			t.Fatal(err)
		}
		want, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(got.Salt), Iters: got.Iterations})
		if err != nil {
			t.Fatal(err)
		}
		if string(got.StoredKey) != string(want.StoredKey) || string(got.ServerKey) != string(want.ServerKey) {
			t.Errorf("%v: keys differ", h)
		}
		if got.Iterations != sasl.MinIterations || len(got.Salt) != sasl.SaltSize || salts[string(got.Salt)] {
			t.Errorf("%v: %d iterations, salt %x", h, got.Iterations, got.Salt)
		}
		salts[string(got.Salt)] = true
	}
	if _, _, err := b.Keys(t.Context(), "juliet", sasl.Hash(9)); err == nil {
		t.Error("keys for an unknown hash")
	}
}

// TestUnknownLooksKnown: an account that is none has keys of the same shape,
// which stay the same over a restart and differ by name, host and hash.
func TestUnknownLooksKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.db")
	db := openStore(t, path)
	s := newService(t, db, auth.Options{Iterations: 5000})
	create(t, s, juliet, "pencil")
	keys := func(s *auth.Service, host, username string, h sasl.Hash) sasl.Keys {
		t.Helper()
		k, ok, err := s.Host(host).Keys(t.Context(), username, h)
		if ok || err != nil {
			t.Fatalf("keys of %s@%s: ok %v, err %v", username, host, ok, err)
		}
		return k
	}
	known, _, err := s.Host("example.org").Keys(t.Context(), "juliet", sasl.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	k := keys(s, "example.org", "nobody", sasl.SHA256)
	if k.Iterations != known.Iterations || len(k.Salt) != len(known.Salt) ||
		len(k.StoredKey) != len(known.StoredKey) || len(k.ServerKey) != len(known.ServerKey) {
		t.Errorf("invented %+v beside known %+v", k, known)
	}
	seen := map[string]bool{string(k.Salt): true}
	for _, other := range []sasl.Keys{
		keys(s, "example.org", "nobody", sasl.SHA1),
		keys(s, "example.org", "nobody2", sasl.SHA256),
		keys(s, "example.net", "nobody", sasl.SHA256),
	} {
		if seen[string(other.Salt)] {
			t.Error("a salt was invented twice")
		}
		seen[string(other.Salt)] = true
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	restarted := newService(t, openStore(t, path), auth.Options{Iterations: 5000})
	if again := keys(restarted, "example.org", "nobody", sasl.SHA256); string(again.Salt) != string(k.Salt) {
		t.Error("the invented salt changed over a restart")
	}
	checkPlain(t, restarted.Host("example.org"), "juliet", "pencil", true)
}

// TestIterationsSpread: when accounts differ in iterations, so do names that are
// none, in the same shares; one that was asked for keeps its answer.
func TestIterationsSpread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.db")
	db := openStore(t, path)
	old := newService(t, db, auth.Options{Iterations: 5000})
	for i := range 3 {
		create(t, old, jid.Must(fmt.Sprintf("old%d@example.org", i)), "x")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := newService(t, openStore(t, path), auth.Options{Iterations: 6000})
	shares := func(prefix string) map[int]int {
		t.Helper()
		got := map[int]int{}
		for i := range 400 {
			k, ok, err := s.Host("example.org").Keys(t.Context(), fmt.Sprint(prefix, i), sasl.SHA1)
			if ok || err != nil {
				t.Fatal(ok, err)
			}
			got[k.Iterations]++
		}
		return got
	}
	if got := shares("a"); got[5000] != 400 {
		t.Errorf("all accounts have 5000, strangers %v", got)
	}
	create(t, s, juliet, "x")
	// A quarter of 400 is 100, give or take five standard deviations of 8.7.
	if got := shares("b"); got[6000] < 57 || got[6000] > 143 || got[5000]+got[6000] != 400 {
		t.Errorf("one account in four has 6000, strangers %v", got)
	}
	if got := shares("a"); got[5000] != 400 {
		t.Errorf("strangers changed their answers to %v", got)
	}
}

func TestIterationsHaveAFloor(t *testing.T) {
	s := newService(t, openStore(t, ""), auth.Options{Iterations: 1})
	create(t, s, juliet, "pencil")
	k, _, err := s.Host("example.org").Keys(t.Context(), "juliet", sasl.SHA256)
	if err != nil || k.Iterations < 4096 { // RFC 7677 §4
		t.Errorf("%d iterations, %v", k.Iterations, err)
	}
}

// TestWarmNeedsNoSQL closes the database: what was asked before is still answered.
func TestWarmNeedsNoSQL(t *testing.T) {
	db := openStore(t, "")
	s := newService(t, db, auth.Options{})
	create(t, s, juliet, "pencil")
	b := s.Host("example.org")
	ask := func() (errs []error) {
		for _, who := range []string{"juliet", "nobody"} {
			_, _, err := b.Keys(context.Background(), who, sasl.SHA256)
			errs = append(errs, err)
			_, err = s.Exists(context.Background(), jid.Must(who+"@example.org"))
			errs = append(errs, err)
		}
		return errs
	}
	if err := errors.Join(ask()...); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ask()...); err != nil {
		t.Errorf("warm answers: %v", err)
	}
	if _, err := s.Exists(t.Context(), romeo); err == nil {
		t.Error("a cold answer without a database")
	}
	if _, _, err := b.Keys(t.Context(), "romeo", sasl.SHA256); err == nil {
		t.Error("cold keys without a database")
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = s.Exists(context.Background(), juliet) }); n != 0 {
		t.Errorf("Exists: %v allocs, want 0", n)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _, _ = b.Keys(context.Background(), "juliet", sasl.SHA256) }); n != 0 {
		t.Errorf("Keys: %v allocs, want 0", n)
	}
}

func TestOnRemove(t *testing.T) {
	db := openStore(t, "")
	s := newService(t, db, auth.Options{})
	err := db.Migrate(t.Context(), "notes", fstest.MapFS{"00001_n.sql": {
		Data: []byte("-- +goose Up\nCREATE TABLE notes (account TEXT NOT NULL, text TEXT NOT NULL);\n"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, juliet, "a")
	create(t, s, romeo, "b")
	err = db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO notes VALUES (?, 'x'), (?, 'y')`, juliet, romeo)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	refusal := errors.New("not now")
	var order []string
	s.OnRemove(func(_ context.Context, tx *store.Tx, account jid.JID) error {
		order = append(order, "notes of "+account.String())
		_, err := tx.Exec(`DELETE FROM notes WHERE account = ?`, account)
		return err
	})
	s.OnRemove(func(_ context.Context, _ *store.Tx, account jid.JID) error {
		order = append(order, "second")
		if account == romeo {
			return refusal
		}
		return nil
	})
	notes := func() (n int) {
		t.Helper()
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM notes`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := s.RemoveAccount(t.Context(), romeo); !errors.Is(err, refusal) {
		t.Errorf("RemoveAccount with a refusing hook: %v", err)
	}
	checkExists(t, s, romeo, true)
	checkPlain(t, s.Host("example.org"), "romeo", "b", true)
	if n := notes(); n != 2 {
		t.Errorf("%d notes after a refused removal", n)
	}
	order = nil
	if err := s.RemoveAccount(t.Context(), jid.Must("juliet@example.org/balcony")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"notes of juliet@example.org", "second"}; !slices.Equal(order, want) {
		t.Errorf("hooks %q, want %q", order, want)
	}
	if n := notes(); n != 1 {
		t.Errorf("%d notes after a removal", n)
	}
	var left int
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM credentials WHERE localpart = 'juliet'`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d credentials left, %v", left, err)
	}
}

func TestAccountsPaged(t *testing.T) {
	s := newService(t, openStore(t, ""), auth.Options{})
	var want []string
	for i := range 7 {
		account := jid.Must(fmt.Sprintf("user%d@example.org", i))
		create(t, s, account, "x")
		want = append(want, account.String())
	}
	create(t, s, jid.Must("other@example.net"), "x")
	var got []string
	for after := ""; ; {
		page, err := s.Accounts(t.Context(), "example.org", after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			got = append(got, a.JID.String())
			if a.Created.IsZero() || a.PasswordSet.Before(a.Created) {
				t.Errorf("%v: created %v, password set %v", a.JID, a.Created, a.PasswordSet)
			}
		}
		after = page[len(page)-1].JID.Local()
	}
	if !slices.Equal(got, want) {
		t.Errorf("accounts %v, want %v", got, want)
	}
	for host, want := range map[string]int{"example.org": 7, "example.net": 1, "example.com": 0} {
		if n, err := s.Count(t.Context(), host); n != want || err != nil {
			t.Errorf("Count(%s) = %d, %v", host, n, err)
		}
	}
}

// TestConcurrentCreate: of many who register one name, one wins.
func TestConcurrentCreate(t *testing.T) {
	s := newService(t, openStore(t, ""), auth.Options{})
	errs := make([]error, 6)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = s.CreateAccount(t.Context(), juliet, fmt.Sprint("password", i)) })
	}
	wg.Wait()
	winners := 0
	for i, err := range errs {
		if err == nil {
			winners++
			checkPlain(t, s.Host("example.org"), "juliet", fmt.Sprint("password", i), true)
		} else if !errors.Is(err, auth.ErrExists) {
			t.Error(err)
		}
	}
	if winners != 1 {
		t.Errorf("%d winners", winners)
	}
}

// TestNoStaleAnswers asks all the time while an account comes, changes and goes:
// once a change returned, nobody sees what was before it.
func TestNoStaleAnswers(t *testing.T) {
	s := newService(t, openStore(t, ""), auth.Options{})
	b := s.Host("example.org")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = s.Exists(context.Background(), juliet)
				_, _, _ = b.Keys(context.Background(), "juliet", sasl.SHA256)
			}
		})
	}
	salt := func() string {
		k, _, err := b.Keys(context.Background(), "juliet", sasl.SHA256)
		if err != nil {
			t.Error(err)
		}
		return string(k.Salt)
	}
	for range 15 {
		none := salt()
		create(t, s, juliet, "one")
		checkExists(t, s, juliet, true)
		first := salt()
		if err := s.SetPassword(context.Background(), juliet, "two"); err != nil {
			t.Fatal(err)
		}
		if second := salt(); first == none || second == first {
			t.Error("an old salt after a change")
		}
		if err := s.RemoveAccount(context.Background(), juliet); err != nil {
			t.Fatal(err)
		}
		checkExists(t, s, juliet, false)
		if salt() != none {
			t.Error("an old salt after a removal")
		}
	}
	stop()
	wg.Wait()
}

func BenchmarkExists(b *testing.B) {
	s := newService(b, openStore(b, ""), auth.Options{})
	create(b, s, juliet, "pencil")
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := s.Exists(context.Background(), juliet); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkKeysWarm(b *testing.B) {
	s := newService(b, openStore(b, ""), auth.Options{})
	create(b, s, juliet, "pencil")
	host := s.Host("example.org")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := host.Keys(context.Background(), "juliet", sasl.SHA256); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkKeysCold(b *testing.B) {
	s := newService(b, openStore(b, ""), auth.Options{Accounts: 2})
	host := s.Host("example.org")
	for i := range 8 {
		create(b, s, jid.Must(fmt.Sprintf("user%d@example.org", i)), "pencil")
	}
	b.ReportAllocs()
	for i := range b.N {
		if _, ok, err := host.Keys(context.Background(), fmt.Sprint("user", i%8), sasl.SHA256); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
