// Package bearer decides whether a JSON Web Token (RFC 7519) admits its bearer to
// a host, and as whom; and what an access token of OAuth 2.0 in that form (RFC 9068)
// allows a program that uses the REST interface.
//
// A Verifier is made for one host, an AccessVerifier for the interface, each with
// the keys of one issuer. A token has to be
// signed by one of the keys with an algorithm that the key is for (so that a
// public key is never taken for an HMAC secret, and "none" is no algorithm), to be
// valid now, and to be for us; RFC 8725 lists what goes wrong otherwise. One of its
// claims names the account.
//
// Keys come from a secret, from PEM files, or from the issuer's JWK Set (RFC 7517)
// by HTTP, where they change while the server runs.
//
//spec:rfc-7519 partial | JSON Web Token | verifies signed tokens (JWS compact serialisation); encrypted ones are refused
//spec:rfc-9068 partial | JWT Profile for OAuth 2.0 Access Tokens | §4, validation; tokens that are encrypted are refused
//spec:rfc-7517 partial | JSON Web Key | RSA, EC and OKP (Ed25519) public keys of a JWK Set
package bearer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"trivium/core/jid"
	"trivium/core/sasl"
)

// Algorithms are those that can be allowed, by the names of RFC 7518 §3.1 and RFC
// 8037 §3.1.
func Algorithms() []string {
	return []string{
		"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "EdDSA",
	}
}

// ErrUnavailable: the issuer's keys cannot be had now, so that nobody can tell
// whether a token is good.
var ErrUnavailable = errors.New("bearer: the issuer's keys cannot be had")

// Errors of New.
var (
	ErrAlgorithm = errors.New("bearer: no such algorithm, or none that the keys are for")
	ErrAudience  = errors.New("bearer: keys by HTTP need the names of issuer and audience")
)

// maxToken bounds a token in octets: what a SASL message holds.
const maxToken = 16 << 10

// Options tune a Verifier. The zero value is the default.
type Options struct {
	// Algorithms are those allowed; all that the keys are for if empty.
	Algorithms []string
	// Issuer is what "iss" has to be; "" if that does not matter.
	Issuer string
	// Audience are our names: a token has to be for one of them. If empty, the
	// host's domain is our name, and a token need not say whom it is for.
	Audience []string
	// Type is what the header "typ" has to be, such as "at+jwt" (RFC 9068 §2.1),
	// without regard to case; "" if that does not matter.
	Type string
	// Scope is a word that "scope" (RFC 8693 §4.2) has to have; "" for none.
	Scope string
	// Claim names the account: its localpart, or its bare address at this host;
	// "sub" if "".
	Claim string
	// Leeway is how much the issuer's clock may differ from ours; 30 s if 0, none
	// if negative.
	Leeway time.Duration
	// Configuration is the address of the issuer's OpenID configuration, which
	// clients without a token are told (RFC 7628 §3.2.2); may be "".
	Configuration string
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Verifier checks the tokens for one host. It is constant, and for concurrent use.
type Verifier struct {
	signed
	host string
	o    Options
}

// signed is what both verifiers check alike: the signature, the issuer, the
// audience, the times and the header.
type signed struct {
	keys   Keys
	typ    string // what the header "typ" has to be; "" for anything
	parser *jwt.Parser
}

// Keys are what tokens are verified with: Secret, PublicKeys, or a KeySet. They
// are for concurrent use.
type Keys interface {
	// find returns the candidates for a token with these headers: keys that are
	// for alg. The error is a refusal, or of keys that cannot be had now
	// (ErrUnavailable).
	find(ctx context.Context, alg, kid string) ([]jwt.VerificationKey, error)
	// suits reports whether there may be keys for alg.
	suits(alg string) bool
	// remote reports whether the keys come from an issuer that may serve others
	// too.
	remote() bool
}

// Refusals, for the log.
var (
	errSyntax   = errors.New("bearer: not a signed JSON Web Token")
	errKey      = errors.New("bearer: no key for the token")
	errName     = errors.New("bearer: the token names no account of this host")
	errType     = errors.New("bearer: the token is of another type")
	errScope    = errors.New("bearer: the token lacks the scope")
	errCritical = errors.New("bearer: the token has critical headers")
	errNone     = errors.New("bearer: no token")
)

// New makes the Verifier of a host, a domain alone. The error is ErrAlgorithm or
// ErrAudience.
func New(host jid.JID, keys Keys, o Options) (*Verifier, error) {
	if !host.IsHost() {
		panic("bearer: " + host.String() + " is no host")
	}
	// RFC 8725 §3.8, §3.9: an issuer's tokens for others are not for us.
	if keys.remote() && (o.Issuer == "" || len(o.Audience) == 0) {
		return nil, ErrAudience
	}
	if o.Claim == "" {
		o.Claim = "sub"
	}
	o.Audience = slices.Clone(o.Audience)
	checks, err := newSigned(keys, &o)
	if err != nil {
		return nil, err
	}
	return &Verifier{signed: checks, host: host.Domain(), o: o}, nil
}

// newSigned fills the defaults of the options that it uses.
func newSigned(keys Keys, o *Options) (signed, error) {
	allowed := o.Algorithms
	if len(allowed) == 0 {
		allowed = slices.DeleteFunc(Algorithms(), func(alg string) bool { return !keys.suits(alg) })
	}
	for _, alg := range allowed {
		if !slices.Contains(Algorithms(), alg) || !keys.suits(alg) {
			return signed{}, fmt.Errorf("%w: %q", ErrAlgorithm, alg)
		}
	}
	switch {
	case o.Leeway == 0:
		o.Leeway = 30 * time.Second
	case o.Leeway < 0:
		o.Leeway = 0
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	po := []jwt.ParserOption{
		jwt.WithValidMethods(slices.Clone(allowed)), jwt.WithExpirationRequired(), jwt.WithLeeway(o.Leeway),
		jwt.WithTimeFunc(o.Now), jwt.WithStrictDecoding(), jwt.WithJSONNumber(),
	}
	if o.Issuer != "" {
		po = append(po, jwt.WithIssuer(o.Issuer))
	}
	if len(o.Audience) > 0 {
		po = append(po, jwt.WithAudience(o.Audience...))
	}
	return signed{keys: keys, typ: o.Type, parser: jwt.NewParser(po...)}, nil
}

// CheckToken returns the prepared localpart of the account that token admits. A
// username, "" for none, is for the caller to compare. The error is a
// *sasl.TokenRefusal, or another while the keys cannot be had.
func (v *Verifier) CheckToken(ctx context.Context, _, token string) (local string, err error) {
	local, err = v.verify(ctx, token)
	switch {
	case err == nil:
		return local, nil
	case errors.Is(err, ErrUnavailable), ctx.Err() != nil:
		return "", err
	}
	refusal := &sasl.TokenRefusal{Status: sasl.InvalidToken, Scope: v.o.Scope, Configuration: v.o.Configuration, Cause: err}
	if errors.Is(err, errScope) {
		refusal.Status = sasl.InsufficientScope
	}
	return "", refusal
}

// CheckPassword reports whether password is a token that admits username, a
// prepared localpart. What has not the form of a token costs nothing. An error is
// of keys that cannot be had.
func (v *Verifier) CheckPassword(ctx context.Context, username, password string) (bool, error) {
	local, err := v.verify(ctx, password)
	if errors.Is(err, ErrUnavailable) || err != nil && ctx.Err() != nil {
		return false, err
	}
	return err == nil && local == username, nil
}

func (v *Verifier) verify(ctx context.Context, token string) (string, error) {
	claims, err := v.claims(ctx, token)
	if err != nil {
		return "", err
	}
	if len(v.o.Audience) == 0 {
		// RFC 7519 §4.1.3: a token that says whom it is for is for nobody else.
		_, says := claims["aud"]
		aud, err := claims.GetAudience()
		if err != nil || says && !slices.Contains(aud, v.host) {
			return "", jwt.ErrTokenInvalidAudience
		}
	}
	if scope, _ := claims["scope"].(string); v.o.Scope != "" && !slices.Contains(strings.Fields(scope), v.o.Scope) {
		return "", errScope
	}
	return v.account(claims)
}

// claims returns those of a token that is good.
func (s *signed) claims(ctx context.Context, token string) (jwt.MapClaims, error) {
	switch {
	case token == "":
		return nil, errNone
	case len(token) > maxToken || strings.Count(token, ".") != 2:
		return nil, errSyntax
	}
	claims := jwt.MapClaims{}
	var keysErr error
	_, err := s.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		var keys []jwt.VerificationKey
		if keys, keysErr = s.candidates(ctx, t); keysErr != nil {
			return nil, keysErr
		}
		return jwt.VerificationKeySet{Keys: keys}, nil
	})
	switch {
	case keysErr != nil:
		return nil, keysErr
	case err != nil:
		return nil, fmt.Errorf("bearer: %w", err)
	}
	return claims, nil
}

// candidates checks the header, of which the parser has checked that alg is
// allowed, and returns the keys to try. Where keys are to be found, as in "jku" and
// "jwk", is not for a token to say (RFC 8725 §3.10).
func (s *signed) candidates(ctx context.Context, t *jwt.Token) ([]jwt.VerificationKey, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, errCritical // RFC 7515 §4.1.11: we understand no extension
	}
	if s.typ != "" {
		// RFC 7515 §4.1.9: "application/" may be left out.
		typ, _ := t.Header["typ"].(string)
		if typ = strings.ToLower(typ); strings.TrimPrefix(typ, "application/") != strings.ToLower(s.typ) {
			return nil, errType
		}
	}
	kid, _ := t.Header["kid"].(string)
	keys, err := s.keys.find(ctx, t.Method.Alg(), kid)
	if err == nil && len(keys) == 0 {
		err = errKey
	}
	return keys, err
}

// account returns the localpart that the claims name.
func (v *Verifier) account(claims jwt.MapClaims) (string, error) {
	name, _ := claims[v.o.Claim].(string)
	if name == "" {
		return "", fmt.Errorf("%w: no text in %s", errName, v.o.Claim)
	}
	// OpenID Connect Core 1.0 §5.1: an address that its owner has not confirmed is
	// anybody's.
	if verified, ok := claims["email_verified"]; ok && v.o.Claim == "email" && verified != true && verified != "true" {
		return "", fmt.Errorf("%w: email is not verified", errName)
	}
	var local string
	if strings.Contains(name, "@") {
		address, err := jid.Parse(name)
		if err != nil || address.Local() == "" || !address.IsBare() || address.Domain() != v.host {
			return "", fmt.Errorf("%w: %s is no bare address at %s", errName, v.o.Claim, v.host)
		}
		local = address.Local()
	} else {
		var err error
		if local, err = jid.PrepareLocal(name); err != nil {
			return "", fmt.Errorf("%w: %s: %w", errName, v.o.Claim, err)
		}
	}
	// RFC 7519 §4.1.2, §2: a subject is compared with regard to case. Two of them
	// must not share an account.
	if spelt, _, _ := strings.Cut(name, "@"); v.o.Claim == "sub" && spelt != local {
		return "", fmt.Errorf("%w: sub is not spelt as the account is", errName)
	}
	return local, nil
}
