package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"trivium/core/jid"
	"trivium/core/sasl"
	"trivium/core/store"
)

// PasswordAuthority checks passwords outside: a call-out, or the verifier of JSON
// Web Tokens for clients that can only send a password. It is for concurrent use.
type PasswordAuthority interface {
	// CheckPassword reports whether password is that of username, a prepared
	// localpart. An error is that of sasl.Backend: a *sasl.Failure ends the attempt,
	// another says that nobody can tell now.
	CheckPassword(ctx context.Context, username, password string) (bool, error)
}

// Directory knows accounts that have not logged in here yet. It is for concurrent
// use.
//
// It is asked on the way of a stanza to an address that we do not know, by the
// goroutine that reads the sender's stream. So it has to answer within seconds
// whatever happens, to remember what it said, and to fail at once where it has
// failed before: the sender alone waits, but waits.
type Directory interface {
	Exists(ctx context.Context, username string) (bool, error)
}

// ErrDirectory says that the Directory cannot tell now whether an account exists.
var ErrDirectory = errors.New("auth: the directory of accounts does not answer")

// Sources says where the accounts of a host come from. With the zero Sources
// nobody has one.
type Sources struct {
	// Internal admits by the passwords in our own tables.
	Internal bool
	// Passwords are asked in this order, before our own tables, until one says yes.
	Passwords []PasswordAuthority
	// Tokens checks bearer tokens; nil for none.
	Tokens sasl.TokenBackend
	// Directory is asked about accounts that we do not have; nil for none.
	Directory Directory
	// NoProvision admits only those who have an account here already. Otherwise one
	// is made, without keys, when somebody is admitted for the first time.
	NoProvision bool
}

// outside reports whether others than we decide who is admitted. It may be called
// on nil, which is internal accounts alone.
func (s *Sources) outside() bool {
	return s != nil && (!s.Internal || s.Tokens != nil || len(s.Passwords) > 0)
}

// ours reports whether a password that was accepted is one in our own tables. It
// may be called on nil.
func (s *Sources) ours() bool { return s == nil || s.Internal && len(s.Passwords) == 0 }

// Accounts are those of one host, wherever they come from. They are constant, and
// for concurrent use.
type Accounts struct {
	service *Service
	host    string
	inner   *hostBackend
	sources Sources
}

// Source returns the accounts of host, a prepared domainpart, by these sources.
func (s *Service) Source(host string, sources Sources) *Accounts {
	a := &Accounts{service: s, host: host, sources: sources}
	a.inner = &hostBackend{service: s, host: host, secret: s.hostSecret(host), sources: &a.sources}
	return a
}

// Internal reports whether passwords in our own tables admit.
func (a *Accounts) Internal() bool { return a.sources.Internal }

// Backend returns the accounts as the sasl package wants them. It is a
// sasl.TokenBackend where there are Tokens, and wraps what Service.Host returns.
func (a *Accounts) Backend() sasl.Backend {
	switch {
	case a.sources.Tokens != nil:
		return tokenBackend{sourceBackend{a}}
	case !a.sources.Internal || len(a.sources.Passwords) > 0:
		return sourceBackend{a}
	}
	return a.inner
}

// SASL returns what o comes to with these sources. SCRAM needs keys, which only
// internal accounts have; PLAIN needs somebody to check a password.
func (a *Accounts) SASL(o sasl.Options) sasl.Options {
	if !a.sources.Internal {
		o.Hashes = []sasl.Hash{}
		o.NoPlain = o.NoPlain || len(a.sources.Passwords) == 0
	}
	return o
}

// Exists reports whether account's bare address, at this host, is an account, here
// or in the Directory, which is asked about those that are not here only. The error
// is ErrDirectory, or the store's.
func (a *Accounts) Exists(ctx context.Context, account jid.JID) (bool, error) {
	ok, err := a.service.Exists(ctx, account)
	if ok || err != nil || a.sources.Directory == nil || account.Local() == "" || account.Domain() != a.host {
		return ok, err
	}
	if ok, err = a.sources.Directory.Exists(ctx, account.Local()); err != nil {
		return false, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	return ok, nil
}

// sourceBackend is the sasl.Backend of Accounts.
type sourceBackend struct{ *Accounts }

// Unwrap lets what else can be done with our tables be found (sasl.As): clients and
// their tokens are kept for all accounts.
func (b sourceBackend) Unwrap() sasl.Backend { return b.inner }

// Keys implements sasl.Backend. Keys that a host's accounts have from earlier times
// admit nobody once it has no internal accounts.
func (b sourceBackend) Keys(ctx context.Context, username string, h sasl.Hash) (sasl.Keys, bool, error) {
	if !b.sources.Internal {
		return sasl.InventKeys(b.inner.secret, h, username, b.service.iterations), false, nil
	}
	return b.inner.Keys(ctx, username, h)
}

// CheckPlain implements sasl.Backend. An authority that cannot tell keeps nobody
// out whom another one admits.
func (b sourceBackend) CheckPlain(ctx context.Context, username, password string) (bool, error) {
	var unknown error
	for _, p := range b.sources.Passwords {
		ok, err := p.CheckPassword(ctx, username, password)
		var failure *sasl.Failure
		switch {
		case errors.As(err, &failure):
			return false, err
		case err != nil:
			unknown = errors.Join(unknown, err)
		case ok:
			return b.admit(ctx, username)
		}
	}
	if b.sources.Internal {
		if ok, err := b.inner.CheckPlain(ctx, username, password); ok || err != nil {
			return ok, err
		}
	}
	return false, unknown
}

// admit gives somebody whom an authority admits an account.
func (b sourceBackend) admit(ctx context.Context, username string) (bool, error) {
	if b.sources.NoProvision {
		return b.service.exists(ctx, name{b.host, username})
	}
	account, err := jid.New(username, b.host, "")
	if err == nil {
		err = b.service.ProvisionAccount(ctx, account)
	}
	return err == nil, err
}

// tokenBackend is a sourceBackend with Tokens.
type tokenBackend struct{ sourceBackend }

// CheckToken implements sasl.TokenBackend.
func (b tokenBackend) CheckToken(ctx context.Context, username, token string) (string, error) {
	local, err := b.sources.Tokens.CheckToken(ctx, username, token)
	if err != nil || username != "" && username != local {
		return local, err // another's token makes no account: the caller refuses it
	}
	ok, err := b.admit(ctx, local)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", &sasl.TokenRefusal{Status: sasl.InvalidToken, Cause: ErrNotFound}
	}
	return local, nil
}

var _ sasl.TokenBackend = tokenBackend{}

// ProvisionAccount adds the account of account's bare address, if there is none,
// without keys: no password of ours admits to it until one is set. The error is
// ErrAddress or the store's.
func (s *Service) ProvisionAccount(ctx context.Context, account jid.JID) error {
	n, err := accountName(account)
	if err != nil {
		return err
	}
	if exists, err := s.exists(ctx, n); exists || err != nil {
		return err
	}
	now := time.Now().UnixMicro()
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO accounts (host, localpart, created, password_set) VALUES (?, ?, ?, 0)
			ON CONFLICT (host, localpart) DO NOTHING`, n.host, n.local, now)
		return err
	})
	s.forget(n)
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	return nil
}
