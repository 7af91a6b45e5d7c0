package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/sasl"
	"trivium/core/store"
)

// keeper is what Service.Host returns, for logins.
type keeper interface {
	sasl.Backend
	sasl.HashedTokens
	NoteClient(ctx context.Context, username string, l auth.ClientLogin) (auth.Grant, error)
	Resource(username, client string) string
	Upgrades() []sasl.Hash
	Lacks(ctx context.Context, username string, h sasl.Hash) (bool, error)
	Salt() (salt []byte, iterations int)
	AddKeys(ctx context.Context, username string, h sasl.Hash, k sasl.Keys, began time.Time) error
}

const (
	none   = "HT-SHA-256-NONE"
	device = "d4565fa7-4d72-4749-b3d3-740edbf87770"
)

// note notes a login by password.
func note(t testing.TB, k keeper, l auth.ClientLogin) auth.Grant {
	t.Helper()
	if l.ID == "" {
		l.ID = device
	}
	if l.Began.IsZero() {
		l.Began = time.Now()
	}
	if l.Mechanism == "" {
		l.Mechanism, l.Password = "PLAIN", true
	}
	g, err := k.NoteClient(t.Context(), "juliet", l)
	if err != nil || (g.Token != "") != (l.Request != "") {
		t.Fatalf("NoteClient(%+v) = %+v, %v", l, g, err)
	}
	return g
}

// settled returns the clients once what was submitted has been written.
func settled(t *testing.T, s *auth.Service, db *store.DB) []auth.Client {
	t.Helper()
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := s.Clients(t.Context(), juliet)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestClients(t *testing.T) {
	db := openStore(t, "")
	s := newService(t, db, auth.Options{Clients: 3})
	create(t, s, juliet, "R0m30")
	k := s.Host("example.org").(keeper)
	if list := settled(t, s, db); len(list) != 0 {
		t.Errorf("clients before any login: %v", list)
	}
	note(t, k, auth.ClientLogin{Software: "Gajim", Device: "laptop"})
	list := settled(t, s, db)
	if len(list) != 1 {
		t.Fatalf("got %v", list)
	}
	c := list[0]
	if c.ID != device || c.Ref == "" || c.Software != "Gajim" || c.Device != "laptop" || c.Mechanism != "PLAIN" || !c.Password || c.Token ||
		time.Since(c.FirstSeen) > time.Minute || !c.LastSeen.Equal(c.FirstSeen) {
		t.Errorf("got %+v", c)
	}
	// Another login changes what it tells, and no more; names that are not told stay.
	note(t, k, auth.ClientLogin{Mechanism: "OAUTHBEARER", Device: "desktop", Request: none})
	again := settled(t, s, db)[0]
	if again.Ref != c.Ref || again.Software != "Gajim" || again.Device != "desktop" || again.Mechanism != "OAUTHBEARER" || !again.Password || !again.Token {
		t.Errorf("got %+v", again)
	}
	// The oldest of too many goes.
	for i := range 3 {
		note(t, k, auth.ClientLogin{ID: fmt.Sprint(i)})
		settled(t, s, db)
	}
	list = settled(t, s, db)
	if len(list) != 3 || list[0].ID != "2" || list[2].ID != "0" {
		t.Errorf("got %+v", list)
	}
	if tokens, err := k.HashedTokens(t.Context(), "juliet", device); len(tokens) != 0 || err != nil {
		t.Errorf("tokens of a client that was forgotten: %v, %v", tokens, err)
	}
	// Of accounts that are not in our tables nothing is kept.
	if g, err := k.NoteClient(t.Context(), "nobody", auth.ClientLogin{ID: device, Mechanism: "PLAIN", Began: time.Now(), Request: none}); g.Token != "" || err != nil {
		t.Errorf("got %v, %v", g, err)
	}
	// Revoked once.
	if gone, err := s.RevokeClient(t.Context(), juliet, list[1].Ref); err != nil || gone.ID != "1" {
		t.Errorf("got %+v, %v", gone, err)
	}
	if _, err := s.RevokeClient(t.Context(), juliet, list[1].Ref); !errors.Is(err, auth.ErrNoClient) {
		t.Errorf("got %v", err)
	}
	if _, err := s.RevokeClient(t.Context(), romeo, list[2].Ref); !errors.Is(err, auth.ErrNoClient) {
		t.Errorf("of another's: %v", err)
	}
	if err := s.RemoveAccount(t.Context(), juliet); err != nil {
		t.Fatal(err)
	}
	create(t, s, juliet, "R0m30")
	if list := settled(t, s, db); len(list) != 0 {
		t.Errorf("a new account has the clients of the old: %v", list)
	}
}

// A resource stays, is another one on another account and another device, and after
// a restart the same.
func TestResource(t *testing.T) {
	db := openStore(t, "")
	s := newService(t, db, auth.Options{})
	k := s.Host("example.org").(keeper)
	seen := map[string]bool{}
	for _, who := range [][2]string{{"juliet", device}, {"romeo", device}, {"juliet", "x"}, {"juliet\x00x", ""}} {
		r := k.Resource(who[0], who[1])
		if len(r) != 12 || seen[r] {
			t.Errorf("%v: %q", who, r)
		}
		seen[r] = true
	}
	if other := s.Host("example.com").(keeper).Resource("juliet", device); seen[other] {
		t.Error("the same on another host")
	}
	if again := newService(t, db, auth.Options{}).Host("example.org").(keeper).Resource("juliet", device); !seen[again] {
		t.Error("another one after a restart")
	}
}

// A token whose login began before the password was set is not given out, and the
// client has not shown the password that is valid now.
func TestTokenOfAnOldPassword(t *testing.T) {
	db := openStore(t, "")
	s := newService(t, db, auth.Options{})
	k := s.Host("example.org").(keeper)
	began := time.Now()
	create(t, s, juliet, "R0m30")
	g, err := k.NoteClient(t.Context(), "juliet", auth.ClientLogin{ID: device, Mechanism: "PLAIN", Password: true, Began: began, Request: none})
	if g.Token != "" || err != nil {
		t.Errorf("got %v, %v", g, err)
	}
	if list := settled(t, s, db); len(list) != 1 || list[0].Password {
		t.Errorf("got %+v", list)
	}
	salt, iterations := k.Salt()
	keys := sasl.DeriveKeys(sasl.SHA512, "old", salt, iterations)
	if err := k.AddKeys(t.Context(), "juliet", sasl.SHA512, keys, began); err != nil {
		t.Fatal(err)
	}
	checkPlain(t, k, "juliet", "R0m30", true)
	if got, _, _ := k.Keys(t.Context(), "juliet", sasl.SHA512); got.Verify(sasl.SHA512, "old") {
		t.Error("keys of an old password were added")
	}
}

// Keys that an account has are never replaced by a client.
func TestAddKeys(t *testing.T) {
	db := openStore(t, "")
	create(t, newService(t, db, auth.Options{}), juliet, "R0m30")
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM credentials WHERE hash = ?", int(sasl.SHA256))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, db, auth.Options{})
	k := s.Host("example.org").(keeper)
	if up := k.Upgrades(); len(up) != 1 || up[0] != sasl.SHA256 {
		t.Errorf("upgrades %v", up)
	}
	for username, want := range map[string]bool{"juliet": true, "nobody": false} {
		if lacks, err := k.Lacks(t.Context(), username, sasl.SHA256); lacks != want || err != nil {
			t.Errorf("%s lacks: %v, %v", username, lacks, err)
		}
	}
	salt, iterations := k.Salt()
	for _, h := range []sasl.Hash{sasl.SHA1, sasl.SHA256} {
		if err := k.AddKeys(t.Context(), "juliet", h, sasl.DeriveKeys(h, "another", salt, iterations), time.Now()); err != nil {
			t.Fatal(err)
		}
		keys, ok, err := k.Keys(t.Context(), "juliet", h)
		if err != nil || !ok || keys.Verify(h, "another") != (h == sasl.SHA256) {
			t.Errorf("%v: %v, %v", h, ok, err)
		}
	}
	if lacks, err := k.Lacks(t.Context(), "juliet", sasl.SHA256); lacks || err != nil {
		t.Errorf("still lacks: %v, %v", lacks, err)
	}
	if err := k.AddKeys(t.Context(), "nobody", sasl.SHA256, sasl.DeriveKeys(sasl.SHA256, "x", salt, iterations), time.Now()); err != nil {
		t.Error(err)
	}
	checkExists(t, s, jid.Must("nobody@example.org"), false)
}

// The same count on many streams at once lets one in.
func TestTokenReplayedAtOnce(t *testing.T) {
	s := newService(t, openStore(t, ""), auth.Options{})
	create(t, s, juliet, "R0m30")
	k := s.Host("example.org").(keeper)
	note(t, k, auth.ClientLogin{Request: none})
	tokens, err := k.HashedTokens(t.Context(), "juliet", device)
	if err != nil || len(tokens) != 1 {
		t.Fatalf("%v, %v", tokens, err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for range 16 {
		wg.Go(func() {
			if err := k.UseToken(t.Context(), "juliet", device, tokens[0], sasl.TokenUse{Count: 1}); err == nil {
				mu.Lock()
				in++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("let in %d times", in)
	}
	// A token that was revoked between the look and the use.
	list, _ := s.Clients(t.Context(), juliet)
	if _, err := s.RevokeClient(t.Context(), juliet, list[0].Ref); err != nil {
		t.Fatal(err)
	}
	var f *sasl.Failure
	if err := k.UseToken(t.Context(), "juliet", device, tokens[0], sasl.TokenUse{}); !errors.As(err, &f) || f.Condition != sasl.NotAuthorized {
		t.Errorf("got %v", err)
	}
	_, err = k.NoteClient(t.Context(), "juliet", auth.ClientLogin{ID: device, Mechanism: none, ByToken: true, Began: time.Now()})
	if !errors.Is(err, auth.ErrNoClient) {
		t.Errorf("got %v", err)
	}
}

// How long clients and tokens live, and that a token is replaced in time.
func TestTokenLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		s, err := auth.New(db, auth.Options{Iterations: sasl.MinIterations, TokenLifetime: 3 * time.Hour, KeepClients: 4 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		create(t, s, juliet, "R0m30")
		time.Sleep(time.Second)
		k := s.Host("example.org").(keeper)
		g := note(t, k, auth.ClientLogin{Request: none})
		if left := time.Until(g.Expiry); left > 3*time.Hour || left < 3*time.Hour-time.Second {
			t.Errorf("expires in %v", left)
		}
		use := func() auth.Grant {
			t.Helper()
			tokens, err := k.HashedTokens(t.Context(), "juliet", device)
			if err != nil || len(tokens) == 0 || tokens[0].Expired || tokens[0].Mechanism != none {
				t.Fatalf("%v, %v", tokens, err)
			}
			if err := k.UseToken(t.Context(), "juliet", device, tokens[0], sasl.TokenUse{}); err != nil {
				t.Fatal(err)
			}
			g, err := k.NoteClient(t.Context(), "juliet", auth.ClientLogin{ID: device, Mechanism: none, ByToken: true, Began: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		if g := use(); g.Token != "" {
			t.Error("a new token at once")
		}
		time.Sleep(50 * time.Minute)
		if g := use(); g.Token != "" {
			t.Error("a new token too early")
		}
		if seen := settled(t, s, db)[0].LastSeen; time.Since(seen) > time.Second {
			t.Errorf("last seen %v ago", time.Since(seen))
		}
		time.Sleep(11 * time.Minute)
		if g := use(); g.Token == "" {
			t.Error("no new token after a third of the time")
		}
		use() // the new one
		time.Sleep(3*time.Hour - 2*time.Second)
		tokens, err := k.HashedTokens(t.Context(), "juliet", device)
		if err != nil || len(tokens) != 1 || tokens[0].Expired {
			t.Errorf("%v, %v", tokens, err)
		}
		time.Sleep(2 * time.Second)
		if tokens, _ := k.HashedTokens(t.Context(), "juliet", device); len(tokens) != 1 || !tokens[0].Expired {
			t.Errorf("%v", tokens)
		}
		if list := settled(t, s, db); len(list) != 1 || list[0].Token {
			t.Errorf("%+v", list)
		}
		time.Sleep(2 * time.Hour)
		if list := settled(t, s, db); len(list) != 0 {
			t.Errorf("a client is kept for too long: %+v", list)
		}
		// Without tokens none is given, and none is taken.
		off, err := auth.New(db, auth.Options{Iterations: sasl.MinIterations, TokenLifetime: -1})
		if err != nil {
			t.Fatal(err)
		}
		k = off.Host("example.org").(keeper)
		if g, err := k.NoteClient(t.Context(), "juliet", auth.ClientLogin{ID: device, Mechanism: "PLAIN", Began: time.Now(), Request: none}); g.Token != "" || err != nil {
			t.Errorf("%v, %v", g, err)
		}
		if tokens, err := k.HashedTokens(t.Context(), "juliet", device); len(tokens) != 0 || err != nil {
			t.Errorf("%v, %v", tokens, err)
		}
		if err := db.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// A login by token costs no SQL once its account is in memory, whether it exists or
// not: the store is closed by then.
func TestTokenFromMemory(t *testing.T) {
	db := openStore(t, "")
	s := newService(t, db, auth.Options{})
	create(t, s, juliet, "R0m30")
	k := s.Host("example.org").(keeper)
	note(t, k, auth.ClientLogin{Request: none})
	look := func(username string, want int) sasl.HashedToken {
		t.Helper()
		tokens, err := k.HashedTokens(t.Context(), username, device)
		if len(tokens) != want || err != nil {
			t.Fatalf("%s: %v, %v", username, tokens, err)
		}
		if want == 0 {
			return sasl.HashedToken{}
		}
		return tokens[0]
	}
	if err := k.UseToken(t.Context(), "juliet", device, look("juliet", 1), sasl.TokenUse{}); err != nil {
		t.Fatal(err) // the first use is a write
	}
	used := look("juliet", 1)
	look("nobody", 0)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := k.UseToken(t.Context(), "juliet", device, used, sasl.TokenUse{}); err != nil {
		t.Error(err)
	}
	look("juliet", 1)
	look("nobody", 0)
}

// BenchmarkLogin compares the server's work for a login by SCRAM and by a token,
// accounts in memory.
func BenchmarkLogin(b *testing.B) {
	s := newService(b, openStore(b, ""), auth.Options{})
	create(b, s, juliet, "R0m30")
	k := s.Host("example.org").(keeper)
	offer := sasl.New(jid.Must("example.org"), k, sasl.Options{Nonce: func() string { return "a nonce of the test" }}).Offer(true, nil)
	b.Run("SCRAM-SHA-256", func(b *testing.B) {
		client, err := scram.SHA256.NewClient("juliet", "R0m30", "")
		if err != nil {
			b.Fatal(err)
		}
		client = client.WithNonceGenerator(func() string { return "abc" })
		run := func(final string) string {
			x, err := offer.Start("SCRAM-SHA-256")
			if err != nil {
				b.Fatal(err)
			}
			challenge, _, err := x.Step(b.Context(), []byte("n,,n=juliet,r=abc"))
			if err != nil || final == "" {
				return string(challenge)
			}
			if _, done, err := x.Step(b.Context(), []byte(final)); !done {
				b.Fatal(err)
			}
			return ""
		}
		conv := client.NewConversation()
		_, _ = conv.Step("")
		final, err := conv.Step(run(""))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			run(final)
		}
	})
	b.Run(none, func(b *testing.B) {
		g := note(b, k, auth.ClientLogin{Request: none})
		h := hmac.New(sha256.New, []byte(g.Token))
		_, _ = io.WriteString(h, "Initiator")
		message := append([]byte("juliet\x00"), h.Sum(nil)...)
		b.ReportAllocs()
		for b.Loop() {
			x, err := offer.StartToken(none, device, sasl.TokenUse{})
			if err != nil {
				b.Fatal(err)
			}
			if _, done, err := x.Step(b.Context(), message); !done {
				b.Fatal(err)
			}
			l := auth.ClientLogin{ID: device, Mechanism: none, ByToken: true}
			if _, err := k.NoteClient(b.Context(), "juliet", l); err != nil {
				b.Fatal(err)
			}
		}
	})
}
