package auth_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"trivium/core/auth"
	"trivium/core/auth/bearer"
	"trivium/core/jid"
)

// issuer signs access tokens; at is the time for both sides.
type issuer struct {
	key ed25519.PrivateKey
	at  time.Time
}

func (i *issuer) token(tb testing.TB, key ed25519.PrivateKey, more jwt.MapClaims) string {
	tb.Helper()
	claims := jwt.MapClaims{
		"iss": "https://id.example", "aud": "trivium", "sub": "shop", "client_id": "shop", "exp": i.at.Add(10 * time.Minute).Unix(),
		"scope": "openid send:shop@example.org read:example.org admin:",
	}
	maps.Copy(claims, more)
	tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	tok.Header["typ"] = "at+jwt"
	s, err := tok.SignedString(key)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// newIssuer returns one, and a service that trusts it.
func newIssuer(tb testing.TB) (*issuer, *auth.Service) {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	i := &issuer{private, time.Unix(1_800_000_000, 0)}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := bearer.PublicKeys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		tb.Fatal(err)
	}
	now := func() time.Time { return i.at }
	v, err := bearer.NewAccess(keys, bearer.AccessOptions{Issuer: "https://id.example", Audience: []string{"trivium"}, Leeway: -1, Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	return i, newService(tb, openStore(tb, ""), auth.Options{Access: v, Now: now})
}

func TestCheckBearer(t *testing.T) {
	i, s := newIssuer(t)
	ctx := t.Context()
	secret := i.token(t, i.key, nil)
	first, err := s.CheckBearer(ctx, secret)
	if err != nil {
		t.Fatal(err)
	}
	if first.Name != "shop" || first.Issuer != "https://id.example" || first.Scopes.String() != "send:shop@example.org read:example.org" ||
		!first.Expires.Equal(i.at.Add(10*time.Minute)) || first.Rate != 0 {
		t.Errorf("%+v", first)
	}
	if !first.MaySend(jid.Must("shop@example.org")) || first.MayAdmin("example.org") || first.MayAdmin(auth.AnyHost) {
		t.Error("the scopes are others")
	}
	// The next token of the client has the same name and ID, so that a limit of rate
	// and what is known under the ID go on; another's has another.
	i.at = i.at.Add(time.Second)
	next, err := s.CheckBearer(ctx, i.token(t, i.key, nil))
	if err != nil || next.ID != first.ID {
		t.Errorf("%v after %v, %v", next.ID, first.ID, err)
	}
	for _, who := range []jwt.MapClaims{{"sub": "alice"}, {"client_id": "web"}, {"client_id": nil}} {
		other, err := s.CheckBearer(ctx, i.token(t, i.key, who))
		if err != nil || other.ID == first.ID || other.ID == "" {
			t.Errorf("%v: %v, %v", who, other.ID, err)
		}
	}
	if other, err := s.CheckBearer(ctx, i.token(t, i.key, jwt.MapClaims{"sub": "alice", "scope": nil})); err != nil || other.Name != "alice via shop" || other.Scopes.String() != "" {
		t.Errorf("%+v, %v", other, err)
	}

	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"by a stranger": i.token(t, stranger, nil), "changed": secret[:len(secret)-4] + "AAAA", "none": "", "ours alone": "trv_x",
	} {
		if _, err := s.CheckBearer(ctx, bad); !errors.Is(err, auth.ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// It ends while it is remembered.
	for range 2 {
		if _, err := s.CheckBearer(ctx, secret); err != nil {
			t.Error(err)
		}
	}
	i.at = first.Expires
	if _, err := s.CheckBearer(ctx, secret); !errors.Is(err, auth.ErrToken) {
		t.Errorf("an expired token: %v", err)
	}

	// Ours are checked as well; and without an issuer, ours alone.
	own, added, err := s.AddToken(ctx, auth.TokenSpec{Scopes: sendAs("romeo@example.org")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.CheckBearer(ctx, own); err != nil || got.ID != added.ID || got.Issuer != "" {
		t.Errorf("%+v, %v", got, err)
	}
	alone := newService(t, openStore(t, ""), auth.Options{})
	if _, err := alone.CheckBearer(ctx, i.token(t, i.key, nil)); !errors.Is(err, auth.ErrToken) {
		t.Errorf("without an issuer: %v", err)
	}
}

// A token that comes again is not verified again, for a while.
func TestCheckBearerRemembers(t *testing.T) {
	i, s := newIssuer(t)
	i.at = time.Unix(1_800_000_000, 0)
	secret := i.token(t, i.key, jwt.MapClaims{"exp": i.at.Add(24 * time.Hour).Unix()})
	if _, err := s.CheckBearer(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if raceEnabled {
		t.Skip("allocations are counted without the race detector")
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = s.CheckBearer(t.Context(), secret) }); n > 2 {
		t.Errorf("%v allocations: it was verified again", n)
	}
	i.at = i.at.Add(15 * time.Minute)
	if n := testing.AllocsPerRun(1, func() { _, _ = s.CheckBearer(t.Context(), secret); i.at = i.at.Add(15 * time.Minute) }); n < 10 {
		t.Errorf("%v allocations: it was not verified again", n)
	}
}

func BenchmarkCheckBearer(b *testing.B) {
	i, s := newIssuer(b)
	secret := i.token(b, i.key, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.CheckBearer(b.Context(), secret); err != nil {
			b.Fatal(err)
		}
	}
}
