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

	"trivium/core/jid"
	"trivium/core/store"
)

// Errors of tokens.
var (
	// ErrToken: the secret is of no token, or of a revoked one. Which, a
	// stranger does not learn.
	ErrToken = errors.New("auth: no such token")
	// ErrTokenSpec: a token needs someone to send as.
	ErrTokenSpec = errors.New("auth: a token needs one or more addresses to send as")
)

const (
	tokenPrefix    = "trv_" // recognised by scanners for leaked secrets
	tokenBytes     = 32
	tokenCacheSize = 4096
	// lastUsedStep is how exact Token.LastUsed is: one write per token in that
	// time at most, whatever its traffic.
	lastUsedStep = time.Minute
)

// TokenSpec says what token to add.
type TokenSpec struct {
	Name   string    // for people, need not be unique
	SendAs []jid.JID // see Token.MaySend; one or more
}

// Token admits one API client. It does not hold the secret.
type Token struct {
	ID   string // public, names the token in lists and logs
	Name string
	Hash [sha256.Size]byte // SHA-256 of the secret
	// SendAs are the senders the token may speak for.
	SendAs   []jid.JID
	Created  time.Time
	LastUsed time.Time // zero: never; exact to a minute
	Revoked  time.Time // zero: it is valid
}

// MaySend reports whether the token may send as from. An address in SendAs
// covers: the domain alone, every address at it, its own included; a bare
// address, itself and its resources; a full address, itself.
func (t *Token) MaySend(from jid.JID) bool {
	if from.IsZero() {
		return false
	}
	for _, as := range t.SendAs {
		switch {
		case from == as,
			as.IsBare() && from.Bare() == as,
			as.IsHost() && from.Domain() == as.Domain():
			return true
		}
	}
	return false
}

// DefaultSender returns who sends when a request does not say: the token's only
// address, if that is one sender and not a whole domain.
func (t *Token) DefaultSender() (jid.JID, bool) {
	if len(t.SendAs) != 1 || t.SendAs[0].IsHost() {
		return jid.JID{}, false
	}
	return t.SendAs[0], true
}

// heldToken is a valid token in memory.
type heldToken struct {
	Token
	used atomic.Int64 // the last_used that was written, microseconds
}

// AddToken makes a token. The secret, "trv_" and 43 characters of base64url, is
// told here and never again. The error is ErrTokenSpec or the store's.
func (s *Service) AddToken(ctx context.Context, spec TokenSpec) (secret string, t Token, err error) {
	if len(spec.SendAs) == 0 {
		return "", Token{}, ErrTokenSpec
	}
	var text strings.Builder
	for _, as := range spec.SendAs {
		if as.IsZero() {
			return "", Token{}, ErrTokenSpec
		}
		text.WriteString(as.String()) // no address holds a line feed
		text.WriteByte('\n')
		t.SendAs = append(t.SendAs, as.Clone())
	}
	random := make([]byte, tokenBytes+8)
	rand.Read(random) // never fails
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(random[:tokenBytes])
	t.ID = hex.EncodeToString(random[tokenBytes:])
	t.Name = spec.Name
	t.Hash = sha256.Sum256([]byte(secret))
	t.Created = time.UnixMicro(time.Now().UnixMicro())
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO api_tokens (id, name, hash, send_as, created) VALUES (?, ?, ?, ?, ?)`,
			t.ID, t.Name, t.Hash[:], text.String(), t.Created.UnixMicro())
		return err
	})
	if err != nil {
		return "", Token{}, err
	}
	return secret, t, nil
}

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
	t := held.Token
	t.LastUsed = s.touch(held)
	return t, nil
}

// touch notes the use of a token, in the database once in lastUsedStep.
func (s *Service) touch(held *heldToken) time.Time {
	now := time.Now().UnixMicro()
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

const selectTokens = `SELECT id, name, hash, send_as, created, last_used, revoked FROM api_tokens`

// scanToken reads a row of selectTokens.
func scanToken(row interface{ Scan(...any) error }) (Token, error) {
	var t Token
	var hash []byte
	var sendAs string
	var created int64
	var used, revoked sql.Null[int64]
	if err := row.Scan(&t.ID, &t.Name, &hash, &sendAs, &created, &used, &revoked); err != nil {
		return Token{}, fmt.Errorf("auth: %w", err)
	}
	if copy(t.Hash[:], hash) != len(t.Hash) {
		return Token{}, fmt.Errorf("auth: token %s: bad hash in the table", t.ID)
	}
	for line := range strings.Lines(sendAs) {
		as, err := jid.Parse(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return Token{}, fmt.Errorf("auth: token %s: %w", t.ID, err)
		}
		t.SendAs = append(t.SendAs, as)
	}
	t.Created = time.UnixMicro(created)
	if used.Valid {
		t.LastUsed = time.UnixMicro(used.V)
	}
	if revoked.Valid {
		t.Revoked = time.UnixMicro(revoked.V)
	}
	return t, nil
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
	now := time.Now().UnixMicro()
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
