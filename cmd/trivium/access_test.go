package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"trivium/core/auth"
	"trivium/core/auth/bearer"
	"trivium/core/jid"
)

// accessToken is one of RFC 9068, for the REST interface.
func (i *issuer) accessToken(t *testing.T, audience, scope string, expires time.Time) string {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	j := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": "https://id.example.org", "aud": audience, "sub": "shop", "client_id": "shop", "exp": expires.Unix(), "jti": "1", "scope": scope,
	})
	j.Header["kid"], j.Header["typ"] = fmt.Sprint(i.id), "at+jwt"
	s, err := j.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// From rest.jwt to a token that the REST interface takes, while the issuer changes its
// keys and goes away.
func TestAccessTokens(t *testing.T) {
	id := newIssuer(t)
	r := run(t, `{}
rest: {jwt: {jwks_url: "`+id.URL+`", issuer: "https://id.example.org", audience: [api], leeway: 0s}}`, nil)
	check := func(what, secret string, want error) auth.Token {
		t.Helper()
		got, err := r.users.CheckBearer(t.Context(), secret)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		return got
	}
	day := r.clk.now().Add(24 * time.Hour)
	first := id.accessToken(t, "api", "openid send:shop@example.org admin:example.org", day)
	got := check("the first", first, nil)
	if !got.MaySend(jid.Must("shop@example.org")) || !got.MayAdmin("example.org") || got.MayRead(jid.Must("shop@example.org")) || got.Name != "shop" {
		t.Errorf("%+v", got)
	}
	check("for another", id.accessToken(t, "chat", "", day), auth.ErrToken)
	check("for logins", id.token(t, "shop", "api", day), auth.ErrToken) // not an access token
	check("expired", id.accessToken(t, "api", "", r.clk.now().Add(-time.Second)), auth.ErrToken)

	// A new key is fetched when it is first used. What a withdrawn one has signed is
	// remembered for a quarter of an hour.
	id.rotate(t)
	r.clk.advance(10 * time.Second)
	second := id.accessToken(t, "api", "", day)
	check("by the new key", second, nil)
	check("by the old key, remembered", first, nil)
	r.clk.advance(15 * time.Minute)
	check("by the old key", first, auth.ErrToken)

	// While the issuer is away its known keys serve, and nobody can tell about others.
	check("by the new key", second, nil)
	id.Close()
	r.clk.advance(time.Hour)
	check("by a known key", second, nil)
	id.rotate(t)
	check("by an unknown key", id.accessToken(t, "api", "", day), bearer.ErrUnavailable)
}
