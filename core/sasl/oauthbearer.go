//spec:rfc-7628 complete | OAUTHBEARER | bearer tokens, on protected channels only
//spec:rfc-6750 partial | Bearer Token Usage | syntax of tokens and error codes (§2.1, §3.1)
package sasl

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"trivium/core/jid"
)

const oauthBearerName = "OAUTHBEARER"

// TokenBackend is an optional ability of a Backend: it checks bearer tokens
// (RFC 6750), so that OAUTHBEARER is offered on protected channels. Its method is
// called from many goroutines.
type TokenBackend interface {
	// CheckToken returns the prepared localpart of the account that token admits.
	// username is the prepared localpart that the client asks for, "" if it leaves
	// that to the token; the caller compares. token has the syntax of RFC 6750
	// §2.1, or is "" when the client only asks what token is needed (RFC 7628
	// §4.3), which is to be refused.
	//
	// An error that is, or wraps, a *TokenRefusal is told to the client; another
	// is as for the methods of Backend.
	CheckToken(ctx context.Context, username, token string) (local string, err error)
}

// Error codes of RFC 6750 §3.1, for TokenRefusal.
const (
	InvalidRequest    = "invalid_request"
	InvalidToken      = "invalid_token"
	InsufficientScope = "insufficient_scope"
)

// TokenRefusal says why a token does not admit its bearer, and what would
// (RFC 7628 §3.2.2). All but Cause is sent to the client.
type TokenRefusal struct {
	Status        string // InvalidToken if ""
	Scope         string // what a token needs, separated by spaces; "" if nothing
	Configuration string // address of the OpenID provider's configuration; "" if there is none
	Cause         error  // for the log, may be nil; never holds the token
}

func (r *TokenRefusal) Error() string {
	if r.Cause == nil {
		return "sasl: " + r.status()
	}
	return "sasl: " + r.status() + ": " + r.Cause.Error()
}

func (r *TokenRefusal) status() string { return cmp.Or(r.Status, InvalidToken) }

// Unwrap returns the cause.
func (r *TokenRefusal) Unwrap() error { return r.Cause }

// challenge is the error of RFC 7628 §3.2.2.
func (r *TokenRefusal) challenge() []byte {
	b, err := json.Marshal(struct {
		Status        string `json:"status"`
		Scope         string `json:"scope,omitempty"`
		Configuration string `json:"openid-configuration,omitempty"`
	}{r.status(), r.Scope, r.Configuration})
	if err != nil {
		panic("sasl: three strings are valid JSON: " + err.Error())
	}
	return b
}

// oauthBearer is an exchange of RFC 7628 §3.
type oauthBearer struct {
	server   *Server
	tokens   TokenBackend
	started  bool
	over     bool
	refused  *TokenRefusal // the client was told, and its answer is due
	username string        // set when done
}

func (x *oauthBearer) Step(ctx context.Context, response []byte) ([]byte, bool, error) {
	switch {
	case x.refused != nil:
		// RFC 7628 §3.2.3: the client answers with one kvsep. Whatever it says,
		// this is the end.
		refused := x.refused
		x.refused = nil
		return nil, false, &Failure{Condition: NotAuthorized, Cause: refused}
	case x.over:
		return nil, false, &Failure{Condition: MalformedRequest, Cause: errOver}
	case !x.started && response == nil:
		x.started = true
		return []byte{}, false, nil // RFC 4422 §5: the client speaks first
	}
	x.started, x.over = true, true

	m, err := parseBearer(response)
	if err != nil {
		return nil, false, err
	}
	asked, err := x.asked(m.authzid)
	if err != nil {
		return nil, false, err
	}
	// Without a name the peer's address alone decides.
	if err := x.server.admit(ctx, asked); err != nil {
		return nil, false, err
	}
	local, err := x.tokens.CheckToken(ctx, asked, m.token)
	var refused *TokenRefusal
	switch {
	case errors.As(err, &refused):
		x.refused = refused
		return refused.challenge(), false, nil
	case err != nil:
		return nil, false, failure(err)
	case m.token == "":
		return nil, false, fail(TemporaryAuthFailure, "the backend accepts no token for a token")
	}
	prepared, err := jid.PrepareLocal(local)
	if err != nil || prepared != local {
		return nil, false, fail(TemporaryAuthFailure, "the backend accepts a token for a name that is none")
	}
	if asked != "" && asked != local {
		return nil, false, fail(InvalidAuthzid, "the token is another's") // RFC 6120 §6.5.6
	}
	if err := authorize(ctx, x.server.backend, local); err != nil {
		return nil, false, err
	}
	x.username = local
	return nil, true, nil
}

// asked returns the prepared localpart of an authzid, "" for none. In XMPP it is
// the account's bare address (RFC 6120 §6.3.8).
func (x *oauthBearer) asked(authzid string) (string, error) {
	if authzid == "" {
		return "", nil
	}
	id, err := jid.Parse(authzid)
	if err != nil {
		return "", &Failure{Condition: InvalidAuthzid, Cause: err}
	}
	if id.Local() == "" || id.Domain() != x.server.host || !id.IsBare() {
		return "", fail(InvalidAuthzid, "authzid is no account of this host")
	}
	return id.Local(), nil
}

func (x *oauthBearer) Username() string { return x.username }

// bearerResponse is what parseBearer reads.
type bearerResponse struct {
	authzid string // decoded, "" if there is none
	token   string // "" in a query of RFC 7628 §4.3
}

const kvsep = "\x01"

// parseBearer takes apart a client-resp of RFC 7628 §3.1: a gs2-header, then
// pairs of key and value that end with a kvsep each, then a kvsep. Keys but auth
// are checked and passed over, host and port among them: they matter only where a
// token is bound to them.
func parseBearer(message []byte) (bearerResponse, error) {
	var m bearerResponse
	bad := func(cause string) (bearerResponse, error) {
		return bearerResponse{}, fail(MalformedRequest, cause)
	}
	s, ok := text(message)
	if !ok {
		return bad("OAUTHBEARER message is too long, not UTF-8, or has a NUL")
	}
	header, rest, ok := strings.Cut(s, kvsep)
	if !ok {
		return bad("OAUTHBEARER message has no separator")
	}
	// RFC 5801 §4. No channel binding is defined for this mechanism, so that "y",
	// of a client that believes we have none, is right as well.
	flag, name, ok := strings.Cut(header, ",")
	if !ok || flag != "n" && flag != "y" {
		return bad("the gs2-header of an OAUTHBEARER message begins with n or y")
	}
	name, ok = strings.CutSuffix(name, ",")
	if !ok {
		return bad("gs2-header without an end")
	}
	if name != "" {
		name, ok = strings.CutPrefix(name, "a=")
		if ok = ok && !strings.Contains(name, ","); ok {
			m.authzid, ok = saslname(name, true)
		}
		if !ok {
			return bad("authzid is malformed")
		}
	}
	auth, found := "", false
	for rest != kvsep {
		var pair string
		if pair, rest, ok = strings.Cut(rest, kvsep); !ok || rest == "" {
			return bad("the pairs of an OAUTHBEARER message have no end")
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || !isKey(key) || !isValue(value) {
			return bad("pair of an OAUTHBEARER message is malformed")
		}
		if key == "auth" {
			if found {
				return bad("two pairs with the key auth")
			}
			auth, found = value, true
		}
	}
	if !found {
		return bad("no pair with the key auth")
	}
	if auth == "" {
		return m, nil // RFC 7628 §4.3
	}
	// RFC 7628 §4: the scheme is compared without regard to case.
	scheme, token, _ := strings.Cut(auth, " ")
	if token = strings.TrimLeft(token, " "); !strings.EqualFold(scheme, "Bearer") || !isB64Token(token) {
		return bad("auth is no bearer token")
	}
	m.token = token
	return m, nil
}

func isKey(s string) bool {
	for i := range len(s) {
		if !isAlpha(s[i]) {
			return false
		}
	}
	return s != ""
}

func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < ' ' || c > '~') && c != '\t' && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}

// isB64Token reports whether s is a b64token of RFC 6750 §2.1.
func isB64Token(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if c := s[i]; !isAlpha(c) && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/", rune(c)) {
			return false
		}
	}
	return s != ""
}
