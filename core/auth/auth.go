// Package auth owns who may come in: the accounts of every virtual host, the
// keys that their passwords are checked with, the clients that they log in from
// and the tokens of these (XEP-0484), the tokens of API clients, and the brake on
// guessing.
//
// Passwords are never stored. An account has SCRAM keys (RFC 5802 §3) for SHA-1,
// SHA-256 and SHA-512, each with a salt of its own; a token is stored as its
// SHA-256. What a stranger can ask has the same answer, at the same cost, for
// accounts that exist and for those that do not.
//
// Reads that the server makes all the time, of an account's existence and of
// its keys, are answered from bounded caches, which a change through this
// package empties. A database changed by another process needs a restart.
//
//spec:xep-0484 0.2.0 complete | Fast Authentication Streamlining Tokens | HT-SHA-256-NONE, -EXPR and -ENDP; tokens, rotation, counts
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"trivium/core/auth/bearer"
	"trivium/core/jid"
	"trivium/core/sasl"
	"trivium/core/store"
)

// Errors of this package. Those of a password are sasl.ErrPassword.
var (
	ErrExists   = errors.New("auth: the account exists")
	ErrNotFound = errors.New("auth: no such account")
	ErrAddress  = errors.New("auth: not the address of an account")
)

// Options tune a Service. The zero value is the default.
type Options struct {
	// Iterations of PBKDF2 for passwords set from now on: 10000 if 0, never
	// below sasl.MinIterations. Keys made before keep their number.
	Iterations int
	// Accounts is how many accounts' keys are kept in memory: 16384 if 0. A
	// login of one of them costs no SQL. An entry takes about 1 KB.
	Accounts int
	// Names is how many accounts, and names that are none, are remembered for
	// Exists: 65536 if 0. An entry takes about 150 octets.
	Names int
	// TokenLifetime is how long a token of FAST (XEP-0484) is valid, and so how long a
	// client may stay away before it needs the password again: 21 days if 0. Negative:
	// no tokens are given out, and none is taken.
	TokenLifetime time.Duration
	// KeepClients is how long a client is remembered that does not log in: 180 days if
	// 0, for ever if negative. Clients is how many of an account are: 30 if 0. In memory
	// are those of half as many accounts as keys; a client takes about 400 octets.
	KeepClients time.Duration
	Clients     int
	// Deriver derives keys; one with its defaults if nil.
	Deriver *sasl.Deriver
	// Logger takes what no caller can be told. Nil discards it.
	Logger *slog.Logger
	// Now is the clock of API tokens; time.Now if nil.
	Now func() time.Time
	// Access takes access tokens of OAuth 2.0 for API tokens; none are taken if nil.
	Access *bearer.AccessVerifier
}

// Service holds accounts and tokens. It is for concurrent use.
type Service struct {
	db         *store.DB
	log        *slog.Logger
	now        func() time.Time
	iterations int
	deriver    *sasl.Deriver
	secret     []byte            // invents the keys of accounts that do not exist
	spread     spread            // and their iterations
	lacking    [len(hashes)]bool // there are accounts with keys, but not for this hash

	lifetime    time.Duration // of tokens of FAST
	keep        time.Duration // clients
	mostClients int

	names  *cache[name, bool]
	keys   *cache[name, *keyring]
	rolls  *cache[name, roll]
	tokens *cache[[sha256.Size]byte, *heldToken]

	access   *bearer.AccessVerifier // nil: none are taken
	accesses *cache[[sha256.Size]byte, *heldAccess]

	mu       sync.Mutex
	onRemove []RemoveHook
}

// name is an account's key in the caches and tables: prepared parts of its JID.
type name struct{ host, local string }

// nameMax bounds the names that are cached: a stranger chooses them.
const nameMax = 256

func (n name) cacheable() bool { return len(n.host)+len(n.local) <= nameMax }

// Account is one account, without its secrets.
type Account struct {
	JID         jid.JID // bare
	Created     time.Time
	PasswordSet time.Time // zero: it has none of ours
}

// RemoveHook deletes what a module keeps for an account, as part of the
// operation that removes it: the rules of store.Op apply. An error keeps the
// account and everything of it.
type RemoveHook func(ctx context.Context, tx *store.Tx, account jid.JID) error

//go:embed migrations/*.sql
var migrations embed.FS

// New brings the tables up to date and returns the service on them.
func New(db *store.DB, o Options) (*Service, error) {
	if o.Iterations == 0 {
		o.Iterations = 10000
	}
	if o.Accounts <= 0 {
		o.Accounts = 16384
	}
	if o.Names <= 0 {
		o.Names = 65536
	}
	if o.TokenLifetime == 0 {
		o.TokenLifetime = 21 * 24 * time.Hour
	}
	if o.KeepClients == 0 {
		o.KeepClients = 180 * 24 * time.Hour
	}
	if o.Clients <= 0 {
		o.Clients = 30
	}
	if o.Deriver == nil {
		o.Deriver = sasl.NewDeriver(sasl.DeriverOptions{})
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{
		db:         db,
		log:        o.Logger,
		now:        o.Now,
		iterations: max(o.Iterations, sasl.MinIterations),
		deriver:    o.Deriver,
		lifetime:   o.TokenLifetime, keep: o.KeepClients, mostClients: o.Clients,
		names:  newCache[name, bool](o.Names),
		keys:   newCache[name, *keyring](o.Accounts),
		rolls:  newCache[name, roll](o.Accounts / 2),
		tokens: newCache[[sha256.Size]byte, *heldToken](tokenCacheSize),
		access: o.Access, accesses: newCache[[sha256.Size]byte, *heldAccess](accessCacheSize),
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	ctx := context.Background()
	if err := db.Migrate(ctx, "auth", files); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if s.secret, err = s.loadSecret(ctx, "invented-salts"); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	s.spread.fallback = s.iterations
	if err := s.spread.load(ctx, db); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if err := s.loadLacking(ctx); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return s, nil
}

// loadSecret returns the secret of that name, made at first use. It lasts as
// long as the accounts, so that invented salts are as stable as real ones.
func (s *Service) loadSecret(ctx context.Context, name string) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh) // never fails
	var secret []byte
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO auth_secrets (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`, name, fresh)
		if err != nil {
			return err
		}
		return tx.QueryRow(`SELECT value FROM auth_secrets WHERE name = ?`, name).Scan(&secret)
	})
	return secret, err
}

// OnRemove registers a hook. Hooks run in the order of registration; register
// them before the server accepts work.
func (s *Service) OnRemove(hook RemoveHook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onRemove = append(s.onRemove[:len(s.onRemove):len(s.onRemove)], hook)
}

func accountName(account jid.JID) (name, error) {
	if account.Local() == "" {
		return name{}, ErrAddress
	}
	return name{account.Domain(), account.Local()}, nil
}

// CreateAccount adds the account of account's bare address. The error is
// ErrExists, ErrAddress, sasl.ErrPassword, a *sasl.Failure when too many
// passwords are being set, or the store's.
func (s *Service) CreateAccount(ctx context.Context, account jid.JID, password string) error {
	n, err := accountName(account)
	if err != nil {
		return err
	}
	// The keys take milliseconds: ask first, though only the insert decides.
	if exists, err := s.exists(ctx, n); err != nil {
		return err
	} else if exists {
		return ErrExists
	}
	keys, err := s.derive(ctx, password)
	if err != nil {
		return err
	}
	now := time.Now().UnixMicro()
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO accounts (host, localpart, created, password_set) VALUES (?, ?, ?, ?)`,
			n.host, n.local, now, now)
		if err != nil {
			return err
		}
		return insertKeys(tx, n, keys)
	})
	s.passwordSet(n, err)
	if errors.Is(err, store.ErrUnique) {
		return ErrExists
	}
	return err
}

// SetPassword replaces the account's keys. The error is ErrNotFound, or as for
// CreateAccount.
func (s *Service) SetPassword(ctx context.Context, account jid.JID, password string) error {
	n, err := accountName(account)
	if err != nil {
		return err
	}
	if exists, err := s.exists(ctx, n); err != nil {
		return err
	} else if !exists {
		return ErrNotFound
	}
	keys, err := s.derive(ctx, password)
	if err != nil {
		return err
	}
	now := time.Now().UnixMicro()
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		res, err := tx.Exec(`UPDATE accounts SET password_set = ? WHERE host = ? AND localpart = ?`, now, n.host, n.local)
		if err != nil {
			return err
		}
		if changed, err := res.RowsAffected(); err != nil {
			return err
		} else if changed == 0 {
			return ErrNotFound
		}
		if err := voidTokens(tx, n); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM credentials WHERE host = ? AND localpart = ?`, n.host, n.local); err != nil {
			return err
		}
		return insertKeys(tx, n, keys)
	})
	s.passwordSet(n, err)
	return err
}

// RemoveAccount deletes the account and, through the hooks, all that modules
// keep for it, in one transaction. The error is ErrNotFound, a hook's, or the
// store's. Sessions are the caller's to end.
func (s *Service) RemoveAccount(ctx context.Context, account jid.JID) error {
	n, err := accountName(account)
	if err != nil {
		return err
	}
	s.mu.Lock()
	hooks := s.onRemove
	s.mu.Unlock()
	bare := account.Bare()
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		var one int
		err := tx.QueryRow(`SELECT 1 FROM accounts WHERE host = ? AND localpart = ?`, n.host, n.local).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		} else if err != nil {
			return err
		}
		for _, hook := range hooks {
			if err := hook(ctx, tx, bare); err != nil {
				return err
			}
		}
		// The credentials, clients and tokens go with the account.
		_, err = tx.Exec(`DELETE FROM accounts WHERE host = ? AND localpart = ?`, n.host, n.local)
		return err
	})
	s.forget(n)
	return err
}

// passwordSet ends an operation that set a password unless err tells otherwise.
func (s *Service) passwordSet(n name, err error) {
	s.forget(n)
	if err == nil {
		s.spread.add(s.iterations)
	}
}

// forget empties the caches after a change of n was committed, or may have been.
func (s *Service) forget(n name) {
	s.names.remove(n)
	s.keys.remove(n)
	s.rolls.remove(n)
}

// Exists reports whether account's bare address is an account. It is asked for
// every stanza to a local user who is not there, and rarely costs SQL.
func (s *Service) Exists(ctx context.Context, account jid.JID) (bool, error) {
	n, err := accountName(account)
	if err != nil {
		return false, nil
	}
	return s.exists(ctx, n)
}

func (s *Service) exists(ctx context.Context, n name) (bool, error) {
	if known, ok := s.names.get(n); ok {
		return known, nil
	}
	epoch := s.names.epoch()
	var one int
	err := s.db.QueryRow(ctx, `SELECT 1 FROM accounts WHERE host = ? AND localpart = ?`, n.host, n.local).Scan(&one)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("auth: %w", err)
	}
	if n.cacheable() {
		s.names.put(n.clone(), err == nil, epoch)
	}
	return err == nil, nil
}

// Accounts returns accounts of host in the order of their localparts: at most
// limit (100 if 0) of those after the localpart after, "" for the first page.
func (s *Service) Accounts(ctx context.Context, host, after string, limit int) ([]Account, error) {
	if limit <= 0 {
		limit = 100
	}
	rows, err := s.db.Query(ctx, `SELECT localpart, created, password_set FROM accounts
		WHERE host = ? AND localpart > ? ORDER BY localpart LIMIT 0+?`, host, after, limit)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer rows.Close()
	var list []Account
	for rows.Next() {
		var local string
		var created, set int64
		if err := rows.Scan(&local, &created, &set); err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		address, err := jid.New(local, host, "")
		if err != nil {
			return nil, fmt.Errorf("auth: the table of accounts: %w", err)
		}
		a := Account{JID: address, Created: time.UnixMicro(created)}
		if set != 0 {
			a.PasswordSet = time.UnixMicro(set)
		}
		list = append(list, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return list, nil
}

// Account returns the account of that bare address, or ErrNotFound.
func (s *Service) Account(ctx context.Context, account jid.JID) (Account, error) {
	n, err := accountName(account)
	if err != nil {
		return Account{}, ErrNotFound
	}
	var created, set int64
	err = s.db.QueryRow(ctx, `SELECT created, password_set FROM accounts WHERE host = ? AND localpart = ?`, n.host, n.local).Scan(&created, &set)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Account{}, ErrNotFound
	case err != nil:
		return Account{}, fmt.Errorf("auth: %w", err)
	}
	a := Account{JID: account.Bare(), Created: time.UnixMicro(created)}
	if set != 0 {
		a.PasswordSet = time.UnixMicro(set)
	}
	return a, nil
}

// Count returns the number of accounts of host.
func (s *Service) Count(ctx context.Context, host string) (int, error) {
	var n int
	if err := s.db.QueryRow(ctx, `SELECT count(*) FROM accounts WHERE host = ?`, host).Scan(&n); err != nil {
		return 0, fmt.Errorf("auth: %w", err)
	}
	return n, nil
}

// hostSecret separates the invented keys of equal names on different hosts.
func (s *Service) hostSecret(host string) []byte {
	m := hmac.New(sha256.New, s.secret)
	m.Write([]byte(host))
	return m.Sum(nil)
}
