package bearer

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const accessIssuer = "https://id.example"

// accessClaims are those of RFC 9068 §2.2.
func accessClaims(more map[string]any) map[string]any {
	all := map[string]any{
		"iss": accessIssuer, "aud": "https://chat.example/api", "sub": "shop", "client_id": "shop", "scope": "openid send:shop@example.org",
		"iat": now.Unix(), "jti": "1",
	}
	for k, v := range more {
		all[k] = v
	}
	return all
}

func newAccess(t testing.TB, keys Keys, o AccessOptions) *AccessVerifier {
	t.Helper()
	o.Issuer, o.Audience = accessIssuer, []string{"https://chat.example/api"}
	if o.Now == nil {
		o.Now = clock
	}
	v, err := NewAccess(keys, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Every attack of RFC 8725 §2 that a resource server can meet, and the checks of RFC
// 9068 §4.
func TestAccess(t *testing.T) {
	es, rs := pairs()["ES256"], pairs()["RS256"]
	v := newAccess(t, keysOf(t, es), AccessOptions{})
	at := map[string]any{"typ": "at+jwt"}
	good := token(t, es, accessClaims(nil), at)
	for _, tt := range []struct {
		name, token string
		ok          bool
	}{
		{"as issued", good, true},
		{"with the whole media type", token(t, es, accessClaims(nil), map[string]any{"typ": "application/AT+jwt"}), true},
		{"for several", token(t, es, accessClaims(map[string]any{"aud": []string{"other", "https://chat.example/api"}}), at), true},
		{"within the leeway", token(t, es, accessClaims(map[string]any{"exp": now.Add(-29 * time.Second).Unix()}), at), true},

		{"expired", token(t, es, accessClaims(map[string]any{"exp": now.Add(-31 * time.Second).Unix()}), at), false},
		{"without an end", token(t, es, accessClaims(map[string]any{"exp": nil}), at), false},
		{"not valid yet", token(t, es, accessClaims(map[string]any{"nbf": now.Add(time.Minute).Unix()}), at), false},
		{"of another issuer", token(t, es, accessClaims(map[string]any{"iss": accessIssuer + "/"}), at), false},
		{"of no issuer", token(t, es, accessClaims(map[string]any{"iss": nil}), at), false},
		{"for another", token(t, es, accessClaims(map[string]any{"aud": "https://chat.example/"}), at), false},
		{"for nobody", token(t, es, accessClaims(map[string]any{"aud": nil}), at), false},
		{"nobody's", token(t, es, accessClaims(map[string]any{"sub": nil}), at), false},
		{"an ID token", token(t, es, accessClaims(nil), nil), false},
		{"with an extension", token(t, es, accessClaims(nil), map[string]any{"typ": "at+jwt", "crit": []string{"b64"}, "b64": false}), false},
		{"by another's key", token(t, pairs()["EdDSA"], accessClaims(nil), at), false},
		{"none", token(t, pair{private: jwt.UnsafeAllowNoneSignatureType, method: jwt.SigningMethodNone}, accessClaims(nil), at), false},
		{"the public key as a secret", token(t, pair{private: pemOf(t, es.public), method: jwt.SigningMethodHS256}, accessClaims(nil), at), false},
		{"without its signature", good[:strings.LastIndexByte(good, '.')+1], false},
		{"with other claims", strings.Join([]string{strings.Split(good, ".")[0], strings.Split(token(t, rs, accessClaims(map[string]any{"scope": "admin:*"}), at), ".")[1], strings.Split(good, ".")[2]}, "."), false},
		{"encrypted", "a.b.c.d.e", false},
		{"nothing", "", false},
		{"long", good + strings.Repeat("A", maxToken), false},
	} {
		a, err := v.Check(t.Context(), tt.token)
		if (err == nil) != tt.ok || errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil && a != (Access{}) {
			t.Errorf("%s: refused, and says %+v", tt.name, a)
		}
	}
	a, err := v.Check(t.Context(), good)
	want := Access{accessIssuer, "shop", "shop", "openid send:shop@example.org", now.Add(time.Hour), now.Add(time.Hour + 30*time.Second)}
	if err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	// COMPAT: issuers that write a list.
	a, err = v.Check(t.Context(), token(t, es, accessClaims(map[string]any{"scope": []any{"a", 1, "b"}}), at))
	if err != nil || a.Scope != "a b" {
		t.Errorf("%+v, %v", a, err)
	}
	lax := newAccess(t, keysOf(t, es), AccessOptions{AnyType: true, Leeway: -1})
	if _, err := lax.Check(t.Context(), token(t, es, accessClaims(nil), nil)); err != nil {
		t.Errorf("any type: %v", err)
	}
	if _, err := lax.Check(t.Context(), token(t, es, accessClaims(map[string]any{"exp": now.Unix()}), nil)); err == nil {
		t.Error("no leeway: an expired token is taken")
	}
}

func TestNewAccess(t *testing.T) {
	keys := keysOf(t, pairs()["ES256"])
	for _, tt := range []struct {
		o    AccessOptions
		want error
	}{
		{AccessOptions{Audience: []string{"a"}}, ErrAudience},
		{AccessOptions{Issuer: "a"}, ErrAudience},
		{AccessOptions{Issuer: "a", Audience: []string{"a"}, Algorithms: []string{"HS256"}}, ErrAlgorithm},
		{AccessOptions{Issuer: "a", Audience: []string{"a"}, Algorithms: []string{"none"}}, ErrAlgorithm},
		{AccessOptions{Issuer: "a", Audience: []string{"a"}}, nil},
	} {
		if _, err := NewAccess(keys, tt.o); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.o, err, tt.want)
		}
	}
}
