package auth

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"trivium/core/sasl"
	"trivium/core/store"
)

// loadLacking finds the hashes that some accounts have no keys for: those that
// came from another server, or were made before a hash was added.
func (s *Service) loadLacking(ctx context.Context) error {
	for i, h := range hashes {
		var one int
		err := s.db.QueryRow(ctx, `SELECT 1 FROM accounts a
			WHERE EXISTS (SELECT 1 FROM credentials c WHERE c.host = a.host AND c.localpart = a.localpart)
			AND NOT EXISTS (SELECT 1 FROM credentials c WHERE c.host = a.host AND c.localpart = a.localpart AND c.hash = ?) LIMIT 1`,
			int(h)).Scan(&one)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		s.lacking[i] = err == nil
	}
	return nil
}

// Upgrades returns the hashes that there may be accounts without keys for, the
// weakest first. They were found at the start, whoever asks. There are none where
// others check passwords too: what admits by them, such as a token that is soon
// over, is not to become a password of ours.
func (b *hostBackend) Upgrades() []sasl.Hash {
	if !b.sources.ours() {
		return nil
	}
	var list []sasl.Hash
	for i, h := range hashes {
		if b.service.lacking[i] {
			list = append(list, h)
		}
	}
	return list
}

// Lacks reports whether the account has keys, but none for h. Only the account's
// owner may learn it.
func (b *hostBackend) Lacks(ctx context.Context, username string, h sasl.Hash) (bool, error) {
	ring, err := b.service.keyring(ctx, b.secret, name{b.host, username})
	if err != nil || !h.Valid() {
		return false, err
	}
	any := false
	for _, has := range ring.has {
		any = any || has
	}
	return any && !ring.has[slot(h)], nil
}

// Salt returns what a client is to salt a password with: a fresh salt and the
// iterations of passwords that are set now.
func (b *hostBackend) Salt() (salt []byte, iterations int) {
	return sasl.NewSalt(), b.service.iterations
}

// AddKeys adds keys for h to an account that has none for it (XEP-0480 §3). It
// changes nothing when the password was set since began: the keys are of the old
// one.
func (b *hostBackend) AddKeys(ctx context.Context, username string, h sasl.Hash, k sasl.Keys, began time.Time) error {
	s, n := b.service, name{b.host, username}
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		var set int64
		err := tx.QueryRow(`SELECT password_set FROM accounts WHERE host = ? AND localpart = ?`, n.host, n.local).Scan(&set)
		if errors.Is(err, sql.ErrNoRows) || err == nil && set > began.UnixMicro() {
			return nil
		} else if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO credentials (host, localpart, hash, salt, iterations, stored_key, server_key)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (host, localpart, hash) DO NOTHING`,
			n.host, n.local, int(h), k.Salt, k.Iterations, k.StoredKey, k.ServerKey)
		return err
	})
	s.keys.remove(n)
	return err
}
