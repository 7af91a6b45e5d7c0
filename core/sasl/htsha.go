package sasl

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"unicode/utf8"
)

// The mechanisms of draft-schmaus-kitten-sasl-ht-09 §2 that an Offer has, by the
// channel binding that they are for. UNIQ is not among them: TLS 1.3 has no
// tls-unique.
const (
	htExporter = "HT-SHA-256-EXPR"
	htEndPoint = "HT-SHA-256-ENDP"
	htNone     = "HT-SHA-256-NONE"
)

// HashedTokens is an optional ability of a Backend: it keeps short-lived tokens
// that a client of an account logs in with, in place of a password (XEP-0484). Its
// methods are called from many goroutines.
type HashedTokens interface {
	// HashedTokens returns the tokens of a client of an account, two at most. For an
	// account or a client that is unknown there are none, after the same work.
	HashedTokens(ctx context.Context, username, client string) ([]HashedToken, error)

	// UseToken notes that the client has proved that it has a token, one of those that
	// HashedTokens returned. An error refuses the login, as those of Backend.
	UseToken(ctx context.Context, username, client string, t HashedToken, use TokenUse) error
}

// HashedToken is a shared secret of the server and one client.
type HashedToken struct {
	Secret    []byte // the octets of the token as the client was told; 16 or more
	Mechanism string // the one that it is for
	Expired   bool
}

// TokenUse is what a client says beside the token (XEP-0484 §3.4, §3.6).
type TokenUse struct {
	Count      uint32 // larger with each use; 0: not said
	Invalidate bool   // the token is not to be used again
}

// TokenMechanisms returns the names of the mechanisms that take a token, preferred
// first; none if the channel is not secure or the Backend is no HashedTokens. The
// caller does not change them.
func (o *shape) TokenMechanisms() []string { return o.tokens }

// tokenMechanisms decides what TokenMechanisms returns.
func (o *shape) tokenMechanisms() []string {
	if !o.secure || o.server.hashed == nil {
		return nil
	}
	var names []string
	if slices.Contains(o.types, TLSExporter) {
		names = append(names, htExporter)
	}
	if slices.Contains(o.types, TLSServerEndPoint) {
		names = append(names, htEndPoint)
	}
	return append(names, htNone)
}

// StartToken begins an attempt by one of TokenMechanisms, of the client with this
// identifier. The error is a *Failure with InvalidMechanism.
func (o *Offer) StartToken(mechanism, client string, use TokenUse) (Exchange, error) {
	if !slices.Contains(o.tokens, mechanism) {
		return nil, fail(InvalidMechanism, "mechanism was not offered for tokens")
	}
	return &hashedToken{offer: o, mechanism: mechanism, client: client, use: use}, nil
}

// hashedToken is an exchange of draft-schmaus-kitten-sasl-ht-09 §3.
type hashedToken struct {
	offer     *Offer
	mechanism string
	client    string
	use       TokenUse
	over      bool
	username  string
	done      bool
}

func (x *hashedToken) Username() string {
	if !x.done {
		return ""
	}
	return x.username
}

// Step takes the only message there is: XEP-0484 §3.1 has the exchange end in one
// round trip, so that an initial response is required.
func (x *hashedToken) Step(ctx context.Context, response []byte) ([]byte, bool, error) {
	if x.over {
		return nil, false, &Failure{Condition: MalformedRequest, Cause: errOver}
	}
	x.over = true
	authcid, mac, err := parseHashedToken(response)
	if err != nil {
		return nil, false, err
	}
	server := x.offer.server
	if x.username, err = server.account(authcid, ""); err != nil {
		return nil, false, err
	}
	if err := server.admit(ctx, x.username); err != nil {
		return nil, false, err
	}
	data, err := x.bind()
	if err != nil {
		return nil, false, err
	}
	tokens, err := server.hashed.HashedTokens(ctx, x.username, x.client)
	if err != nil {
		return nil, false, failure(err)
	}
	t, ok := match(tokens, mac, data)
	switch {
	case !ok:
		return nil, false, fail(NotAuthorized, "token is wrong, or the client is unknown")
	case t.Mechanism != x.mechanism:
		// XEP-0484 §3.4: a token is for one mechanism.
		return nil, false, fail(NotAuthorized, "token is for another mechanism")
	case t.Expired:
		return nil, false, fail(CredentialsExpired, "token has expired") // XEP-0484 §4.2
	}
	if err := authorize(ctx, server.backend, x.username); err != nil {
		return nil, false, err
	}
	if err := server.hashed.UseToken(ctx, x.username, x.client, t, x.use); err != nil {
		return nil, false, failure(err)
	}
	x.done = true
	return hashToken(t.Secret, "Responder", data), true, nil
}

// bind returns the data of the channel binding that the mechanism names.
func (x *hashedToken) bind() ([]byte, error) {
	typ := ""
	switch x.mechanism {
	case htExporter:
		typ = TLSExporter
	case htEndPoint:
		typ = TLSServerEndPoint
	default:
		return nil, nil
	}
	data, err := x.offer.binding.ChannelBinding(typ)
	if err == nil && len(data) == 0 {
		err = errors.New("no data for " + typ)
	}
	if err != nil {
		return nil, &Failure{Condition: TemporaryAuthFailure, Cause: err}
	}
	return data, nil
}

// match finds the token that mac proves. It computes the same number of HMACs
// whether there are tokens or not, and looks at all of them.
func match(tokens []HashedToken, mac, data []byte) (HashedToken, bool) {
	found := -1
	for i := range max(2, len(tokens)) {
		var secret [43]byte // as long as those of core/auth
		key := secret[:]
		if i < len(tokens) {
			key = tokens[i].Secret
		}
		equal := subtle.ConstantTimeCompare(hashToken(key, "Initiator", data), mac)
		if equal == 1 && i < len(tokens) && found < 0 {
			found = i
		}
	}
	if found < 0 {
		return HashedToken{}, false
	}
	return tokens[found], true
}

// hashToken is HMAC(token, role || cb-data), draft-schmaus-kitten-sasl-ht-09 §3.1,
// §3.3.
func hashToken(secret []byte, role string, data []byte) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(role))
	m.Write(data)
	return m.Sum(nil)
}

// parseHashedToken takes apart authcid NUL initiator-hashed-token (ibid. §3.1).
func parseHashedToken(message []byte) (authcid string, mac []byte, err error) {
	name, mac, ok := bytes.Cut(message, []byte{0})
	if !ok || len(message) > maxMessage || len(name) == 0 || !utf8.Valid(name) || len(mac) != sha256.Size {
		return "", nil, fail(MalformedRequest, "message is not a name and a hashed token")
	}
	return string(name), mac, nil
}
