// Package sasl implements the server's side of SASL (RFC 4422) for XMPP (RFC 6120
// §6): SCRAM with SHA-1, SHA-256 and SHA-512, with and without channel binding
// (RFC 5802, RFC 7677, RFC 5929, RFC 9266), PLAIN (RFC 4616), ANONYMOUS (RFC 4505)
// and HT-SHA-256 (draft-schmaus-kitten-sasl-ht-09, for XEP-0484); with what a
// stream announces by XEP-0440, and XEP-0474.
//
// It does no I/O and knows no XML: a Server says what a stream may be offered,
// an Exchange takes the decoded responses of one attempt and gives the challenges
// to encode. Accounts are behind the Backend. SCRAM never derives keys on the
// server, so a login costs a few HMACs; PLAIN derives them once, on a bounded
// number of cores (Deriver).
//
//spec:rfc-4422 complete | SASL | server side
//spec:rfc-5802 complete | SCRAM-SHA-1, SCRAM-SHA-1-PLUS | server side
//spec:rfc-7677 complete | SCRAM-SHA-256 and SCRAM-SHA-256-PLUS | server side
//spec:rfc-4616 complete | PLAIN | on protected channels only
//spec:rfc-4505 complete | ANONYMOUS | where a host allows it
//spec:rfc-9266 complete | Channel Bindings for TLS 1.3 | tls-exporter
//spec:xep-0474 0.5.0 complete | SASL SCRAM Downgrade Protection | for RFC 6120 and XEP-0388 alike
//spec:rfc-8265 partial | PRECIS: Usernames and Passwords | passwords (OpaqueString) and usernames (UsernameCaseMapped)
package sasl

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
)

// Backend answers for the accounts of one host. Its methods are called from many
// goroutines.
//
// Usernames are localparts prepared by jid.PrepareLocal, so the Backend compares
// them as they are. An error that is, or wraps, a *Failure is the answer to the
// peer; any other is temporary-auth-failure.
type Backend interface {
	// Keys returns the keys of the account for SCRAM with h. For an unknown
	// account, or one without keys for h, it returns InventKeys and false after
	// the same work as for a known one; the exchange goes on and fails at the
	// proof (RFC 6120 §6.5.10).
	Keys(ctx context.Context, username string, h Hash) (keys Keys, ok bool, err error)

	// CheckPlain reports whether password, prepared by PreparePassword, is the
	// account's. It does the same work for an unknown account, and derives keys
	// only through a Deriver.
	CheckPlain(ctx context.Context, username, password string) (bool, error)
}

// Authorizer is an optional ability of a Backend: the last word on an account
// whose owner has just proved to be who they say. A *Failure with AccountDisabled
// or CredentialsExpired belongs here, where a stranger cannot learn it.
type Authorizer interface {
	Authorize(ctx context.Context, username string) error
}

// Gate is an optional ability of a Backend: it is asked as soon as an attempt has
// said which account it is for, before any work is done for it. An error ends the
// attempt, and counts as one of the Backend's. username is "" where only the Backend
// can tell the account (OAUTHBEARER).
type Gate interface {
	Admit(ctx context.Context, username string) error
}

// As finds the first of b, and of what b.Unwrap() wraps, that has the ability T, as
// errors.As does. So a Backend around another one keeps its abilities.
func As[T any](b Backend) (T, bool) {
	for b != nil {
		if t, ok := b.(T); ok {
			return t, true
		}
		w, ok := b.(interface{ Unwrap() Backend })
		if !ok {
			break
		}
		b = w.Unwrap()
	}
	var none T
	return none, false
}

// Binding is the protected channel that an exchange runs on, an optional ability
// of a connection.
type Binding interface {
	// ChannelBinding returns the channel's data for a channel binding type,
	// TLSExporter or TLSServerEndPoint, or an error if the channel has none. The
	// caller does not change the data.
	ChannelBinding(typ string) ([]byte, error)
}

// Exchange is one authentication attempt. It is not for concurrent use.
type Exchange interface {
	// Step takes the peer's decoded response and returns the challenge to send,
	// or, with done, the additional data of success, which may be nil.
	//
	// response is nil when <auth/> carries no initial response, which is not the
	// same as an empty one (RFC 6120 §6.4.2, "="). The challenge then is empty,
	// not nil.
	//
	// The error is a *Failure, and ends the attempt.
	Step(ctx context.Context, response []byte) (challenge []byte, done bool, err error)

	// Username returns the prepared localpart of the account once Step has said
	// done; "" before, and for ANONYMOUS, whose name is for the caller to invent.
	Username() string
}

// Condition is an error condition of RFC 6120 §6.5, the name of its element.
type Condition string

// The conditions of RFC 6120 §6.5.
const (
	Aborted              Condition = "aborted"
	AccountDisabled      Condition = "account-disabled"
	CredentialsExpired   Condition = "credentials-expired"
	EncryptionRequired   Condition = "encryption-required"
	IncorrectEncoding    Condition = "incorrect-encoding"
	InvalidAuthzid       Condition = "invalid-authzid"
	InvalidMechanism     Condition = "invalid-mechanism"
	MalformedRequest     Condition = "malformed-request"
	MechanismTooWeak     Condition = "mechanism-too-weak"
	NotAuthorized        Condition = "not-authorized"
	TemporaryAuthFailure Condition = "temporary-auth-failure"
)

// Failure ends an attempt. The peer learns the Condition and nothing else.
type Failure struct {
	Condition Condition
	Cause     error // for the log, may be nil; never holds a secret
}

func (f *Failure) Error() string {
	if f.Cause == nil {
		return "sasl: " + string(f.Condition)
	}
	return "sasl: " + string(f.Condition) + ": " + f.Cause.Error()
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }

// fail makes a Failure with a cause of our own words.
func fail(c Condition, cause string) *Failure {
	return &Failure{Condition: c, Cause: errors.New(cause)}
}

// failure is what the peer is told of a Backend's error.
func failure(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Condition: TemporaryAuthFailure, Cause: err}
}

// Decode decodes the character data of <auth/> or <response/>: nil for none, and
// an empty response for "=" (RFC 6120 §6.4.2). The error is a *Failure with
// IncorrectEncoding.
func Decode(s string) ([]byte, error) {
	switch s {
	case "":
		return nil, nil
	case "=":
		return []byte{}, nil
	}
	// RFC 6120 §13.9.1: nothing outside the alphabet, padding bits zero. Package
	// base64 would pass over line ends.
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, fail(IncorrectEncoding, "response is not base64")
	}
	return b, nil
}
