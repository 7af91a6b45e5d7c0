package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"trivium/core/auth"
	"trivium/core/auth/bearer"
	"trivium/core/auth/callout"
	"trivium/core/jid"
	"trivium/core/sasl"
	"trivium/core/store"
)

// The parts fit: what one package has, the other takes.
var (
	_ auth.PasswordAuthority = (*bearer.Verifier)(nil)
	_ sasl.TokenBackend      = (*bearer.Verifier)(nil)
	_ auth.PasswordAuthority = (*callout.Client)(nil)
	_ sasl.TokenBackend      = (*callout.Client)(nil)
	_ auth.Directory         = (*callout.Client)(nil)
)

var tokenSecret = []byte(strings.Repeat("secret of the test", 4))

func tokenOf(t testing.TB, local string) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": local, "exp": time.Now().Add(time.Hour).Unix()}).SignedString(tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newBearer(t testing.TB) *bearer.Verifier {
	t.Helper()
	keys, err := bearer.Secret(tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	v, err := bearer.New(jid.Must("example.org"), keys, bearer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// newCallout is a call-out to an endpoint that knows nurse, with the password
// "tybalt", and capulet, who is disabled.
func newCallout(t testing.TB, broken bool) *callout.Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Kind, Username, Password, Token string }
		switch err := json.NewDecoder(r.Body).Decode(&q); {
		case err != nil || broken:
			w.WriteHeader(http.StatusInternalServerError)
		case q.Username == "capulet":
			w.WriteHeader(http.StatusForbidden)
		case q.Kind == "exists" && q.Username == "nurse", q.Password == "tybalt" && q.Username == "nurse", q.Token == "opaque":
			_, _ = io.WriteString(w, `{"ok":true,"username":"nurse"}`)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(srv.Close)
	c, err := callout.New(jid.Must("example.org"), srv.URL, callout.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// login makes one attempt on a protected channel: "" for success, or the condition.
func login(t testing.TB, a *auth.Accounts, mechanism, message string) (username string, c sasl.Condition) {
	t.Helper()
	offer := sasl.New(jid.Must("example.org"), a.Backend(), a.SASL(sasl.Options{})).Offer(true, nil)
	x, err := offer.Start(mechanism)
	for err == nil {
		done := false
		if _, done, err = x.Step(t.Context(), []byte(message)); done {
			return x.Username(), ""
		}
	}
	var f *sasl.Failure
	if !errors.As(err, &f) {
		t.Fatal(err)
	}
	return "", f.Condition
}

func plainOf(local, password string) string { return "\x00" + local + "\x00" + password }

func bearerOf(token string) string { return "n,,\x01auth=Bearer " + token + "\x01\x01" }

func TestSources(t *testing.T) {
	const (
		plain  = "PLAIN"
		oauth  = "OAUTHBEARER"
		scrams = "SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1"
	)
	verifier, endpoint, dead := newBearer(t), newCallout(t, false), newCallout(t, true)
	type attempt struct {
		mechanism, message string
		username           string
		want               sasl.Condition
	}
	internal := attempt{plain, plainOf("juliet", "R0m30"), "juliet", ""}
	for _, tt := range []struct {
		name     string
		sources  auth.Sources
		offered  string
		attempts []attempt
		accounts []string // that are there afterwards, beside juliet's
	}{
		{"nothing", auth.Sources{}, "", []attempt{{plain, plainOf("juliet", "R0m30"), "", sasl.InvalidMechanism}}, nil},
		{"internal", auth.Sources{Internal: true}, scrams + " PLAIN", []attempt{
			internal,
			{plain, plainOf("juliet", "wrong"), "", sasl.NotAuthorized},
			{plain, plainOf("romeo", tokenOf(t, "romeo")), "", sasl.NotAuthorized},
			{oauth, bearerOf(tokenOf(t, "romeo")), "", sasl.InvalidMechanism},
		}, nil},
		{"tokens", auth.Sources{Tokens: verifier}, "OAUTHBEARER", []attempt{
			{oauth, bearerOf(tokenOf(t, "romeo")), "romeo", ""},
			{oauth, bearerOf(tokenOf(t, "romeo") + "a"), "", sasl.NotAuthorized},
			{oauth, "n,a=juliet@example.org,\x01auth=Bearer " + tokenOf(t, "mercutio") + "\x01\x01", "", sasl.InvalidAuthzid},
			{plain, plainOf("juliet", "R0m30"), "", sasl.InvalidMechanism},
		}, []string{"romeo"}},
		{"tokens as passwords too", auth.Sources{Tokens: verifier, Passwords: []auth.PasswordAuthority{verifier}}, "OAUTHBEARER PLAIN", []attempt{
			{oauth, bearerOf(tokenOf(t, "romeo")), "romeo", ""},
			{plain, plainOf("benvolio", tokenOf(t, "benvolio")), "benvolio", ""},
			{plain, plainOf("juliet", tokenOf(t, "benvolio")), "", sasl.NotAuthorized},
			{plain, plainOf("juliet", "R0m30"), "", sasl.NotAuthorized}, // no longer of use
		}, []string{"benvolio", "romeo"}},
		{"internal and tokens", auth.Sources{Internal: true, Tokens: verifier, Passwords: []auth.PasswordAuthority{verifier}}, scrams + " OAUTHBEARER PLAIN", []attempt{
			internal,
			{plain, plainOf("romeo", tokenOf(t, "romeo")), "romeo", ""},
			{plain, plainOf("romeo", "R0m30"), "", sasl.NotAuthorized},
			{oauth, bearerOf(tokenOf(t, "juliet")), "juliet", ""},
		}, []string{"romeo"}},
		{"call-out", auth.Sources{Tokens: endpoint, Passwords: []auth.PasswordAuthority{endpoint}, Directory: endpoint}, "OAUTHBEARER PLAIN", []attempt{
			{plain, plainOf("nurse", "wrong"), "", sasl.NotAuthorized},
			{plain, plainOf("capulet", "any"), "", sasl.AccountDisabled},
			{oauth, bearerOf("wrong"), "", sasl.NotAuthorized},
			{plain, plainOf("juliet", "R0m30"), "", sasl.NotAuthorized},
		}, nil},
		{"call-out that admits", auth.Sources{Tokens: endpoint, Passwords: []auth.PasswordAuthority{endpoint}}, "OAUTHBEARER PLAIN", []attempt{
			{plain, plainOf("nurse", "tybalt"), "nurse", ""},
			{plain, plainOf("nurse", "tybalt"), "nurse", ""},
			{oauth, bearerOf("opaque"), "nurse", ""},
		}, []string{"nurse"}},
		{"dead call-out", auth.Sources{Passwords: []auth.PasswordAuthority{dead}}, "PLAIN", []attempt{
			{plain, plainOf("nurse", "tybalt"), "", sasl.TemporaryAuthFailure},
		}, nil},
		{"dead call-out, others", auth.Sources{Internal: true, Passwords: []auth.PasswordAuthority{dead, verifier}}, scrams + " PLAIN", []attempt{
			internal,
			{plain, plainOf("romeo", tokenOf(t, "romeo")), "romeo", ""},
			{plain, plainOf("nurse", "tybalt"), "", sasl.TemporaryAuthFailure},
		}, []string{"romeo"}},
		{"only those who are here", auth.Sources{NoProvision: true, Tokens: verifier, Passwords: []auth.PasswordAuthority{verifier}}, "OAUTHBEARER PLAIN", []attempt{
			{oauth, bearerOf(tokenOf(t, "juliet")), "juliet", ""},
			{plain, plainOf("juliet", tokenOf(t, "juliet")), "juliet", ""},
			{oauth, bearerOf(tokenOf(t, "romeo")), "", sasl.NotAuthorized},
			{plain, plainOf("romeo", tokenOf(t, "romeo")), "", sasl.NotAuthorized},
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, openStore(t, filepath.Join(t.TempDir(), "auth.db")), auth.Options{})
			create(t, s, juliet, "R0m30")
			a := s.Source("example.org", tt.sources)
			offer := sasl.New(jid.Must("example.org"), a.Backend(), a.SASL(sasl.Options{})).Offer(true, nil)
			if got := strings.Join(offer.Mechanisms(), " "); got != tt.offered {
				t.Errorf("offers %q, want %q", got, tt.offered)
			}
			for _, try := range tt.attempts {
				if username, c := login(t, a, try.mechanism, try.message); username != try.username || c != try.want {
					t.Errorf("%s %q: %q, %q, want %q, %q", try.mechanism, try.message, username, c, try.username, try.want)
				}
			}
			list, err := s.Accounts(t.Context(), "example.org", "", 0)
			if err != nil {
				t.Fatal(err)
			}
			var others []string
			for _, account := range list {
				if account.JID != juliet {
					others = append(others, account.JID.Local())
				}
			}
			if got, want := strings.Join(others, " "), strings.Join(tt.accounts, " "); got != want {
				t.Errorf("accounts %q, want %q", got, want)
			}
			if _, ok := sasl.As[sasl.HashedTokens](a.Backend()); !ok {
				t.Error("accounts from outside cannot have tokens of ours (XEP-0484)")
			}
			_, ok, err := a.Backend().Keys(t.Context(), "juliet", sasl.SHA256)
			if ok != tt.sources.Internal || err != nil {
				t.Errorf("juliet's keys: %v, %v", ok, err)
			}
		})
	}
}

// A host without internal accounts has the same keys for the same name every time,
// as for one that is nobody's: what is asked in spite of the offer tells nothing.
func TestSourceKeys(t *testing.T) {
	s := newService(t, openStore(t, filepath.Join(t.TempDir(), "auth.db")), auth.Options{})
	create(t, s, juliet, "R0m30")
	b := s.Source("example.org", auth.Sources{Tokens: newBearer(t)}).Backend()
	for _, username := range []string{"juliet", "nobody"} {
		first, _, err := b.Keys(t.Context(), username, sasl.SHA1)
		again, ok, err2 := b.Keys(t.Context(), username, sasl.SHA1)
		if ok || err != nil || err2 != nil || string(first.Salt) != string(again.Salt) || first.Iterations != again.Iterations {
			t.Errorf("%s: %v, %v, %v", username, ok, err, err2)
		}
	}
}

func TestSourceExists(t *testing.T) {
	s := newService(t, openStore(t, filepath.Join(t.TempDir(), "auth.db")), auth.Options{})
	create(t, s, juliet, "R0m30")
	endpoint, dead := newCallout(t, false), newCallout(t, true)
	for address, want := range map[string]bool{
		"juliet@example.org":  true,
		"nurse@example.org":   true,
		"nurse@example.org/a": true,
		"capulet@example.org": true,
		"nobody@example.org":  false,
		"nurse@example.com":   false,
		"example.org":         false,
	} {
		if ok, err := s.Source("example.org", auth.Sources{Directory: endpoint}).Exists(t.Context(), jid.Must(address)); ok != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", address, ok, err, want)
		}
	}
	broken := s.Source("example.org", auth.Sources{Directory: dead})
	if ok, err := broken.Exists(t.Context(), juliet); !ok || err != nil {
		t.Errorf("juliet, of our own: %v, %v", ok, err)
	}
	if ok, err := broken.Exists(t.Context(), jid.Must("nurse@example.org")); ok || !errors.Is(err, auth.ErrDirectory) {
		t.Errorf("nurse, who cannot be asked for: %v, %v", ok, err)
	}
}

// An account that was provisioned is one like any other: it exists at once, has no
// password until one is set, and can be removed.
func TestProvisionAccount(t *testing.T) {
	s := newService(t, openStore(t, filepath.Join(t.TempDir(), "auth.db")), auth.Options{})
	ctx := context.Background()
	if ok, err := s.Exists(ctx, romeo); ok || err != nil {
		t.Fatal(ok, err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.ProvisionAccount(ctx, romeo); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if ok, err := s.Exists(ctx, romeo); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if list, err := s.Accounts(ctx, "example.org", "", 0); err != nil || len(list) != 1 || !list[0].PasswordSet.IsZero() || list[0].Created.IsZero() {
		t.Errorf("accounts %v, %v", list, err)
	}
	b := s.Host("example.org")
	for _, h := range []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512} {
		if _, ok, err := b.Keys(ctx, "romeo", h); ok || err != nil {
			t.Errorf("keys for %v: %v, %v", h, ok, err)
		}
	}
	checkPlain(t, b, "romeo", "", false)
	if err := s.SetPassword(ctx, romeo, "Jul13t"); err != nil {
		t.Fatal(err)
	}
	checkPlain(t, b, "romeo", "Jul13t", true)
	if err := s.ProvisionAccount(ctx, romeo); err != nil { // changes nothing
		t.Fatal(err)
	}
	checkPlain(t, b, "romeo", "Jul13t", true)
	if err := s.RemoveAccount(ctx, romeo); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Exists(ctx, romeo); ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, address := range []jid.JID{jid.Must("example.org"), {}} {
		if err := s.ProvisionAccount(ctx, address); !errors.Is(err, auth.ErrAddress) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// Where others decide who is admitted, a token of FAST ends when it was said to, and
// what was sent in place of a password does not become one (XEP-0480).
func TestSourceTokens(t *testing.T) {
	type keeper interface {
		NoteClient(ctx context.Context, username string, l auth.ClientLogin) (auth.Grant, error)
	}
	type upgrader interface{ Upgrades() []sasl.Hash }
	verifier := newBearer(t)
	for _, tt := range []struct {
		name               string
		sources            auth.Sources
		renewed, upgrading bool
	}{
		{"internal", auth.Sources{Internal: true}, true, true},
		{"tokens beside", auth.Sources{Internal: true, Tokens: verifier}, false, true},
		{"passwords beside", auth.Sources{Internal: true, Passwords: []auth.PasswordAuthority{verifier}}, false, false},
		{"tokens alone", auth.Sources{Tokens: verifier}, false, false},
		{"passwords alone", auth.Sources{Passwords: []auth.PasswordAuthority{verifier}}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := openStore(t, filepath.Join(t.TempDir(), "auth.db"))
			create(t, newService(t, db, auth.Options{}), juliet, "R0m30")
			// A database from before a hash was added.
			if err := db.Write(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(`DELETE FROM credentials WHERE hash = 3`)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			b := newService(t, db, auth.Options{}).Source("example.org", tt.sources).Backend()
			k, ok := sasl.As[keeper](b)
			if !ok {
				t.Fatal("clients are not kept")
			}
			note := func(l auth.ClientLogin) auth.Grant {
				t.Helper()
				l.ID, l.Began, l.Request = "d4565fa7-4d72-4749-b3d3-740edbf87770", time.Now(), "HT-SHA-256-NONE"
				g, err := k.NoteClient(t.Context(), "juliet", l)
				if err != nil {
					t.Fatal(err)
				}
				return g
			}
			if g := note(auth.ClientLogin{Mechanism: "PLAIN", Password: true}); g.Token == "" {
				t.Error("no token after a login")
			}
			if g := note(auth.ClientLogin{Mechanism: "HT-SHA-256-NONE", ByToken: true}); (g.Token != "") != tt.renewed {
				t.Errorf("renewed: %v, want %v", g.Token != "", tt.renewed)
			}
			// A client is said to know the password only where we are told of a new one.
			s := newService(t, db, auth.Options{})
			list, err := s.Clients(t.Context(), juliet)
			if err != nil || len(list) != 1 || list[0].Password != tt.sources.Internal {
				t.Errorf("clients %+v, %v", list, err)
			}
			u, ok := sasl.As[upgrader](b)
			if got := ok && len(u.Upgrades()) > 0; got != tt.upgrading {
				t.Errorf("upgrades: %v, want %v", got, tt.upgrading)
			}
		})
	}
}
