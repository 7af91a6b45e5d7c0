package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"trivium/core/jid"
	"trivium/core/store"
)

// Errors of tokens.
var (
	// ErrToken: the secret is of no token, or of one that was revoked or has
	// expired. Which, a stranger does not learn.
	ErrToken = errors.New("auth: no such token")
	// ErrTokenSpec: there can be no such token. The error that wraps it says why, to
	// people.
	ErrTokenSpec = errors.New("not a possible token")
)

const (
	tokenPrefix    = "trv_" // recognised by scanners for leaked secrets
	tokenBytes     = 32
	tokenCacheSize = 4096
	// lastUsedStep is how exact Token.LastUsed is: one write per token in that
	// time at most, whatever its traffic.
	lastUsedStep = time.Minute
	maxTokenName = 200 // octets
	maxTokenRate = 1_000_000
)

// TokenSpec says what token to add.
type TokenSpec struct {
	Name    string    // for people, need not be unique
	Scopes  Scopes    // one or more
	Expires time.Time // zero: never
	Rate    int       // requests a second; 0: what is configured for all
}

// Token admits one API client. It does not hold the secret.
type Token struct {
	ID       string // public, names the token in lists and logs
	Name     string
	Hash     [sha256.Size]byte // SHA-256 of the secret
	Scopes   Scopes
	Issuer   string    // who has given it; "": we have, and ours alone can be listed and revoked
	Expires  time.Time // zero: never
	Rate     int       // requests a second; 0: what is configured for all
	Created  time.Time
	LastUsed time.Time // zero: never; exact to a minute
	Revoked  time.Time // zero: it is valid
}

// MaySend reports whether the token may send as from.
func (t *Token) MaySend(from jid.JID) bool { return t.Scopes.MaySend(from) }

// MayRead reports whether the token may see what is j's.
func (t *Token) MayRead(j jid.JID) bool { return t.Scopes.MayRead(j) }

// MayAdmin reports whether the token may administer host, or with AnyHost the
// server.
func (t *Token) MayAdmin(host string) bool { return t.Scopes.MayAdmin(host) }

// Covers reports whether the token may do all that scopes allow, so that it may
// give them to another.
func (t *Token) Covers(scopes Scopes) bool { return t.Scopes.Covers(&scopes) }

// DefaultSender returns who sends when a request does not say: the token's only
// address, if that is one sender and not a whole domain, nor one with a star.
func (t *Token) DefaultSender() (jid.JID, bool) {
	if len(t.Scopes.SendAs) != 1 {
		return jid.JID{}, false
	}
	as, ok := t.Scopes.SendAs[0].JID()
	if !ok || as.IsHost() {
		return jid.JID{}, false
	}
	return as, true
}

// expired reports whether the token's time is over.
func (t *Token) expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// heldToken is a valid token in memory.
type heldToken struct {
	Token
	used atomic.Int64 // the last_used that was written, microseconds
}

// AddToken makes a token. The secret, "trv_" and 43 characters of base64url, is
// told here and never again. The error is ErrTokenSpec or the store's.
func (s *Service) AddToken(ctx context.Context, spec TokenSpec) (secret string, t Token, err error) {
	now := s.now()
	if t.Scopes, err = spec.Scopes.valid(); err != nil {
		return "", Token{}, err
	}
	switch {
	case !spec.Expires.IsZero() && !spec.Expires.After(now):
		return "", Token{}, fmt.Errorf("%w: it would have expired already", ErrTokenSpec)
	case spec.Rate < 0 || spec.Rate > maxTokenRate:
		return "", Token{}, fmt.Errorf("%w: the rate is not from 0 to %d", ErrTokenSpec, maxTokenRate)
	case len(spec.Name) > maxTokenName || !utf8.ValidString(spec.Name):
		return "", Token{}, fmt.Errorf("%w: the name has more than %d octets", ErrTokenSpec, maxTokenName)
	}
	secret, t.Hash = newSecret()
	id := make([]byte, 8)
	rand.Read(id) // never fails
	t.ID = hex.EncodeToString(id)
	t.Name, t.Rate = spec.Name, spec.Rate
	t.Created = micro(now)
	var expires sql.Null[int64]
	if !spec.Expires.IsZero() {
		t.Expires = micro(spec.Expires)
		expires = sql.Null[int64]{V: t.Expires.UnixMicro(), Valid: true}
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO api_tokens (id, name, hash, send_as, scopes, expires, rate, created) VALUES (?, ?, ?, '', ?, ?, ?, ?)`,
			t.ID, t.Name, t.Hash[:], t.Scopes.String(), expires, t.Rate, t.Created.UnixMicro())
		return err
	})
	if err != nil {
		return "", Token{}, err
	}
	return secret, t, nil
}

// newSecret returns a secret of 256 random bits and what is stored of it.
func newSecret() (secret string, hash [sha256.Size]byte) {
	random := make([]byte, tokenBytes)
	rand.Read(random) // never fails
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(random)
	return secret, sha256.Sum256([]byte(secret))
}

// micro is a time as the tables hold it.
func micro(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()) }

// CheckToken returns the token of a secret, or ErrToken. It costs a SHA-256 when
// the token is in memory. Secrets are found by their digest, whose comparison
// tells nothing about the secret; the final one is in constant time all the same.
func (s *Service) CheckToken(ctx context.Context, secret string) (Token, error) {
	random, ok := strings.CutPrefix(secret, tokenPrefix)
	if !ok || len(random) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return Token{}, ErrToken
	}
	digest := sha256.Sum256([]byte(secret))
	held, ok := s.tokens.get(digest)
	if !ok {
		epoch := s.tokens.epoch()
		row := s.db.QueryRow(ctx, selectTokens+` WHERE hash = ? AND revoked IS NULL`, digest[:])
		t, err := scanToken(row)
		if errors.Is(err, sql.ErrNoRows) {
			return Token{}, ErrToken
		} else if err != nil {
			return Token{}, err
		}
		held = &heldToken{Token: t}
		if !t.LastUsed.IsZero() {
			held.used.Store(t.LastUsed.UnixMicro())
		}
		s.tokens.put(digest, held, epoch)
	}
	if subtle.ConstantTimeCompare(held.Hash[:], digest[:]) != 1 {
		return Token{}, ErrToken
	}
	now := s.now()
	if held.expired(now) {
		return Token{}, ErrToken
	}
	t := held.Token
	t.LastUsed = s.touch(held, now.UnixMicro())
	return t, nil
}

// touch notes the use of a token, in the database once in lastUsedStep.
func (s *Service) touch(held *heldToken, now int64) time.Time {
	before := held.used.Load()
	if now-before < lastUsedStep.Microseconds() || !held.used.CompareAndSwap(before, now) {
		return time.UnixMicro(held.used.Load())
	}
	err := s.db.Submit(func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE api_tokens SET last_used = ? WHERE id = ?`, now, held.ID)
		return err
	}, func(err error) {
		if err != nil {
			s.log.Warn("the use of a token was not noted", "token", held.ID, "err", err)
		}
	})
	if err != nil { // a full queue: the next minute will do
		s.log.Warn("the use of a token was not noted", "token", held.ID, "err", err)
	}
	return time.UnixMicro(now)
}

const selectTokens = `SELECT id, name, hash, send_as, scopes, expires, rate, created, last_used, revoked FROM api_tokens`

// scanToken reads a row of selectTokens.
func scanToken(row interface{ Scan(...any) error }) (Token, error) {
	var t Token
	var hash []byte
	var sendAs string
	var scopes sql.Null[string]
	var created int64
	var expires, used, revoked sql.Null[int64]
	if err := row.Scan(&t.ID, &t.Name, &hash, &sendAs, &scopes, &expires, &t.Rate, &created, &used, &revoked); err != nil {
		return Token{}, fmt.Errorf("auth: %w", err)
	}
	if copy(t.Hash[:], hash) != len(t.Hash) {
		return Token{}, fmt.Errorf("auth: token %s: bad hash in the table", t.ID)
	}
	var err error
	if scopes.Valid {
		t.Scopes, err = ParseScopes(scopes.V)
	} else {
		t.Scopes, err = scopesBefore(sendAs)
	}
	if err != nil {
		return Token{}, fmt.Errorf("auth: token %s: %w", t.ID, err)
	}
	t.Created = time.UnixMicro(created)
	if expires.Valid {
		t.Expires = time.UnixMicro(expires.V)
	}
	if used.Valid {
		t.LastUsed = time.UnixMicro(used.V)
	}
	if revoked.Valid {
		t.Revoked = time.UnixMicro(revoked.V)
	}
	return t, nil
}

// scopesBefore returns those of a token made before there were scopes: it may send
// as the addresses, one a line, and read what is theirs. A star in one of them is a
// star and stands for nothing else.
func scopesBefore(sendAs string) (Scopes, error) {
	var s Scopes
	for line := range strings.Lines(sendAs) {
		as, err := jid.Parse(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return Scopes{}, err
		}
		s.SendAs = append(s.SendAs, jid.PatternOf(as))
	}
	s.Read = s.SendAs
	return s, nil
}

// Token returns the token of that ID, a revoked or expired one too, or ErrToken.
func (s *Service) Token(ctx context.Context, id string) (Token, error) {
	t, err := scanToken(s.db.QueryRow(ctx, selectTokens+` WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return Token{}, ErrToken
	}
	return t, err
}

// RotateToken gives the token a new secret, told here and never again; the old one
// is worthless at once. All else stays. The error is ErrToken, also for a token that
// was revoked or has expired, or the store's.
func (s *Service) RotateToken(ctx context.Context, id string) (secret string, t Token, err error) {
	secret, hash := newSecret()
	now := s.now()
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		var err error
		t, err = scanToken(tx.QueryRow(selectTokens+` WHERE id = ? AND revoked IS NULL`, id))
		if errors.Is(err, sql.ErrNoRows) || err == nil && t.expired(now) {
			return ErrToken
		} else if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE api_tokens SET hash = ? WHERE id = ?`, hash[:], id)
		return err
	})
	s.tokens.remove(t.Hash) // also when the commit is in doubt
	if err != nil {
		return "", Token{}, err
	}
	t.Hash = hash
	return secret, t, nil
}

// Tokens returns all tokens, revoked ones too, the oldest first.
func (s *Service) Tokens(ctx context.Context) ([]Token, error) {
	rows, err := s.db.Query(ctx, selectTokens+` ORDER BY created, id`)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer rows.Close()
	var list []Token
	for rows.Next() {
		t, err := scanToken(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return list, nil
}

// RevokeToken makes the token with that ID worthless at once and for ever. To
// revoke it again changes nothing. The error is ErrToken or the store's.
func (s *Service) RevokeToken(ctx context.Context, id string) error {
	var hash []byte
	now := s.now().UnixMicro()
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		err := tx.QueryRow(`SELECT hash FROM api_tokens WHERE id = ?`, id).Scan(&hash)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrToken
		} else if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE api_tokens SET revoked = ? WHERE id = ? AND revoked IS NULL`, now, id)
		return err
	})
	if len(hash) == sha256.Size {
		s.tokens.remove([sha256.Size]byte(hash))
	}
	return err
}
