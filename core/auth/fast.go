package auth

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"trivium/core/sasl"
	"trivium/core/store"
)

// fastToken is a token of one client (XEP-0484 §5.1). A new one waits in the slot
// fresh until it is used; then it takes the place of the one in use.
type fastToken struct {
	slot      int64
	secret    []byte
	mechanism string
	issued    time.Time
	expiry    time.Time
}

// The slots.
const (
	inUse int64 = iota
	fresh
)

// errReplay and errRevoked are for the log.
var (
	errReplay  = errors.New("the count of a token has been seen before")
	errRevoked = errors.New("the token was revoked meanwhile")
)

// due reports whether a client that has just used a token is to get the next: when
// a third of its life is over.
func (c *heldClient) due(now time.Time, lifetime time.Duration) bool {
	for _, t := range c.tokens {
		if t.slot == inUse {
			return now.Sub(t.issued) > lifetime/3
		}
	}
	return false
}

// insertToken puts a grant where tokens wait that were not used yet. One that
// waited there is void (XEP-0484 §3.5).
func insertToken(tx *store.Tx, n name, client, mechanism string, g Grant, now time.Time) error {
	_, err := tx.Exec(`INSERT INTO fast_tokens (host, localpart, client, slot, secret, mechanism, issued, expiry, uses)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)
		ON CONFLICT (host, localpart, client, slot) DO UPDATE SET secret = excluded.secret, mechanism = excluded.mechanism,
			issued = excluded.issued, expiry = excluded.expiry, uses = 0`,
		n.host, n.local, client, fresh, []byte(g.Token), mechanism, now.UnixMicro(), g.Expiry.UnixMicro())
	return err
}

// HashedTokens implements sasl.HashedTokens.
func (b *hostBackend) HashedTokens(ctx context.Context, username, client string) ([]sasl.HashedToken, error) {
	r, err := b.service.roll(ctx, name{b.host, username})
	if err != nil {
		return nil, err
	}
	held := r[client]
	if held == nil || b.service.lifetime < 0 {
		return nil, nil
	}
	now := time.Now()
	list := make([]sasl.HashedToken, len(held.tokens))
	for i, t := range held.tokens {
		list[i] = sasl.HashedToken{Secret: t.secret, Mechanism: t.mechanism, Expired: !now.Before(t.expiry)}
	}
	return list, nil
}

// UseToken implements sasl.HashedTokens. It writes, and waits for the commit, when
// a token is used for the first time, and when the client counts or invalidates.
func (b *hostBackend) UseToken(ctx context.Context, username, client string, used sasl.HashedToken, use sasl.TokenUse) error {
	s, n := b.service, name{b.host, username}
	r, err := s.roll(ctx, n)
	if err != nil {
		return err
	}
	held := r[client]
	if held == nil {
		return &sasl.Failure{Condition: sasl.NotAuthorized, Cause: errRevoked}
	}
	i := slices.IndexFunc(held.tokens, func(t fastToken) bool { return bytes.Equal(t.secret, used.Secret) })
	if i < 0 {
		return &sasl.Failure{Condition: sasl.NotAuthorized, Cause: errRevoked}
	}
	t := held.tokens[i]
	// XEP-0484 §3.5: a token ends those that expire before it.
	outlives := slices.ContainsFunc(held.tokens, func(o fastToken) bool { return o.expiry.Before(t.expiry) })
	if t.slot == inUse && !outlives && use == (sasl.TokenUse{}) {
		return nil
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		// The count has to grow, whatever has come meanwhile on another stream.
		res, err := tx.Exec(`UPDATE fast_tokens SET uses = CASE WHEN ? = 0 THEN uses ELSE ? END
			WHERE host = ? AND localpart = ? AND client = ? AND secret = ? AND (? = 0 OR uses < ?)`,
			use.Count, use.Count, n.host, n.local, client, t.secret, use.Count, use.Count)
		if err != nil {
			return err
		}
		if changed, err := res.RowsAffected(); err != nil {
			return err
		} else if changed == 0 {
			return &sasl.Failure{Condition: sasl.NotAuthorized, Cause: errReplay}
		}
		if use.Invalidate {
			// XEP-0484 §3.6. The client has logged out: nothing is left for it to use.
			_, err := tx.Exec(`DELETE FROM fast_tokens WHERE host = ? AND localpart = ? AND client = ?`, n.host, n.local, client)
			return err
		}
		_, err = tx.Exec(`DELETE FROM fast_tokens WHERE host = ? AND localpart = ? AND client = ? AND secret <> ? AND (slot < ? OR expiry < ?)`,
			n.host, n.local, client, t.secret, t.slot, t.expiry.UnixMicro())
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE fast_tokens SET slot = ? WHERE host = ? AND localpart = ? AND client = ? AND secret = ?`,
			inUse, n.host, n.local, client, t.secret)
		return err
	})
	s.rolls.remove(n)
	return err
}

// voidTokens ends what the old password has let in.
func voidTokens(tx *store.Tx, n name) error {
	if _, err := tx.Exec(`DELETE FROM fast_tokens WHERE host = ? AND localpart = ?`, n.host, n.local); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE clients SET password = 0 WHERE host = ? AND localpart = ?`, n.host, n.local)
	return err
}
