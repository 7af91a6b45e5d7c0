package auth

import (
	"context"
	"fmt"
	"strings"

	"trivium/core/sasl"
	"trivium/core/store"
)

// hashes are those that every password gets keys for.
var hashes = [...]sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512}

// keyring is what logins to one name need. It is never changed.
type keyring struct {
	keys [len(hashes)]sasl.Keys
	has  [len(hashes)]bool // false: the keys are invented
}

func slot(h sasl.Hash) int { return int(h - sasl.SHA1) }

func (n name) clone() name { return name{strings.Clone(n.host), strings.Clone(n.local)} }

// derive makes the keys of a password for all hashes.
func (s *Service) derive(ctx context.Context, password string) ([len(hashes)]sasl.Keys, error) {
	var keys [len(hashes)]sasl.Keys
	password, err := sasl.PreparePassword(password)
	if err != nil {
		return keys, err
	}
	for i, h := range hashes {
		if keys[i], err = s.deriver.Derive(ctx, h, password, sasl.NewSalt(), s.iterations); err != nil {
			return keys, err
		}
	}
	return keys, nil
}

func insertKeys(tx *store.Tx, n name, keys [len(hashes)]sasl.Keys) error {
	for i, k := range keys {
		_, err := tx.Exec(`INSERT INTO credentials (host, localpart, hash, salt, iterations, stored_key, server_key)
			VALUES (?, ?, ?, ?, ?, ?, ?)`, n.host, n.local, int(hashes[i]), k.Salt, k.Iterations, k.StoredKey, k.ServerKey)
		if err != nil {
			return err
		}
	}
	return nil
}

// keyring returns the keys of n, real or invented. The work is the same for
// both: one query when n is not cached, none when it is.
func (s *Service) keyring(ctx context.Context, hostSecret []byte, n name) (*keyring, error) {
	if ring, ok := s.keys.get(n); ok {
		return ring, nil
	}
	epoch := s.keys.epoch()
	ring := new(keyring)
	iterations := s.spread.pick(hostSecret, n.local)
	for i, h := range hashes {
		ring.keys[i] = sasl.InventKeys(hostSecret, h, n.local, iterations)
	}
	rows, err := s.db.Query(ctx, `SELECT hash, salt, iterations, stored_key, server_key FROM credentials
		WHERE host = ? AND localpart = ?`, n.host, n.local)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var h sasl.Hash
		var k sasl.Keys
		if err := rows.Scan(&h, &k.Salt, &k.Iterations, &k.StoredKey, &k.ServerKey); err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		if h.Valid() {
			ring.keys[slot(h)], ring.has[slot(h)] = k, true
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if n.cacheable() {
		ring.pack()
		s.keys.put(n.clone(), ring, epoch)
	}
	return ring, nil
}

// pack moves the keys into one piece of memory: many rings are kept for long.
func (r *keyring) pack() {
	size := 0
	for _, k := range r.keys {
		size += len(k.Salt) + len(k.StoredKey) + len(k.ServerKey)
	}
	block := make([]byte, 0, size)
	for i := range r.keys {
		for _, part := range []*[]byte{&r.keys[i].Salt, &r.keys[i].StoredKey, &r.keys[i].ServerKey} {
			from := len(block)
			block = append(block, *part...)
			*part = block[from:len(block):len(block)]
		}
	}
}

// hostBackend answers for one virtual host.
type hostBackend struct {
	service *Service
	host    string
	secret  []byte
	sources *Sources // nil: internal accounts alone
}

// Host returns the accounts of host, a prepared domainpart, as the sasl package
// wants them.
func (s *Service) Host(host string) sasl.Backend {
	return &hostBackend{service: s, host: host, secret: s.hostSecret(host)}
}

// Keys implements sasl.Backend.
func (b *hostBackend) Keys(ctx context.Context, username string, h sasl.Hash) (sasl.Keys, bool, error) {
	if !h.Valid() {
		return sasl.Keys{}, false, fmt.Errorf("auth: no keys for %v", h)
	}
	ring, err := b.service.keyring(ctx, b.secret, name{b.host, username})
	if err != nil {
		return sasl.Keys{}, false, err
	}
	return ring.keys[slot(h)], ring.has[slot(h)], nil
}

// CheckPlain implements sasl.Backend.
func (b *hostBackend) CheckPlain(ctx context.Context, username, password string) (bool, error) {
	ring, err := b.service.keyring(ctx, b.secret, name{b.host, username})
	if err != nil {
		return false, err
	}
	// SHA-256 is the cheapest in hardware; another only where an account has no
	// keys for it.
	i := slot(sasl.SHA256)
	if !ring.has[i] {
		for j, has := range ring.has {
			if has {
				i = j
			}
		}
	}
	match, err := b.service.deriver.Verify(ctx, hashes[i], ring.keys[i], password)
	return match && ring.has[i], err
}
