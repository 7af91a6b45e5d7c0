package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"trivium/core/jid"
	"trivium/core/sasl"
	"trivium/core/store"
)

// ErrNoClient: the account has no such client, or no longer.
var ErrNoClient = errors.New("auth: no such client")

// Client is one installation of software that an account logs in from.
type Client struct {
	// ID is what the installation calls itself (XEP-0388 §2.4, user-agent). Whoever
	// knows it can pass for the client in lists, but not log in.
	ID        string
	Ref       string // names the client in lists
	Software  string // for people, may be empty
	Device    string // for people, may be empty
	Mechanism string // of its last login
	Password  bool   // it has shown the password that is valid now
	Token     bool   // it has a valid token (XEP-0484)
	FirstSeen time.Time
	LastSeen  time.Time // at its login, exact to ten minutes
}

// ClientLogin is one login of a client, or its wish for a token.
type ClientLogin struct {
	ID, Software, Device string

	Mechanism string
	Began     time.Time // before the account was looked at
	Password  bool      // the password was shown
	ByToken   bool      // HashedTokens let it in
	// Request is the mechanism that a token is asked for, "" for none. Without one, a
	// client that has used a token gets the next before it expires, unless Invalidated.
	Request     string
	Invalidated bool
}

// Grant is a token for a client (XEP-0484 §3.3), shown once. The zero Grant is none.
type Grant struct {
	Token  string
	Expiry time.Time
}

// seenStep is how exact Client.LastSeen is.
const seenStep = 10 * time.Minute

// heldClient is a Client in memory with its tokens.
type heldClient struct {
	Client
	tokens []fastToken   // the one that was not used yet first
	seen   *atomic.Int64 // the last_seen that was written, microseconds
}

// roll holds the clients of one account. It is never changed, but for seen.
type roll map[string]*heldClient

// roll returns the clients of n, of an unknown account none. It costs one query
// when n is not cached, none when it is.
func (s *Service) roll(ctx context.Context, n name) (roll, error) {
	if r, ok := s.rolls.get(n); ok {
		return r, nil
	}
	epoch := s.rolls.epoch()
	rows, err := s.db.Query(ctx, `SELECT c.id, c.ref, c.software, c.device, c.mechanism, c.password, c.first_seen, c.last_seen,
			t.slot, t.secret, t.mechanism, t.issued, t.expiry
		FROM clients c LEFT JOIN fast_tokens t ON t.host = c.host AND t.localpart = c.localpart AND t.client = c.id
		WHERE c.host = ? AND c.localpart = ? ORDER BY c.last_seen DESC, c.id, t.slot DESC`, n.host, n.local)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	defer rows.Close()
	r := roll{}
	for rows.Next() {
		var c Client
		var first, last int64
		var slot, issued, expiry sql.Null[int64]
		var secret []byte
		var mechanism sql.Null[string]
		if err := rows.Scan(&c.ID, &c.Ref, &c.Software, &c.Device, &c.Mechanism, &c.Password, &first, &last,
			&slot, &secret, &mechanism, &issued, &expiry); err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		held := r[c.ID]
		if held == nil {
			c.FirstSeen, c.LastSeen = time.UnixMicro(first), time.UnixMicro(last)
			held = &heldClient{Client: c, seen: new(atomic.Int64)}
			held.seen.Store(last)
			r[c.ID] = held
		}
		if slot.Valid {
			held.tokens = append(held.tokens, fastToken{slot.V, secret, mechanism.V, time.UnixMicro(issued.V), time.UnixMicro(expiry.V)})
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if n.cacheable() {
		s.rolls.put(n.clone(), r, epoch)
	}
	return r, nil
}

// NoteClient notes a login of one of the account's clients, after all that it had
// to prove, and returns a token if one is due or asked for. For an account of
// another backend there is nothing to note, and none. The error is ErrNoClient
// when the client was revoked since it has used its token, or the store's.
func (b *hostBackend) NoteClient(ctx context.Context, username string, l ClientLogin) (Grant, error) {
	s, n := b.service, name{b.host, username}
	r, err := s.roll(ctx, n)
	if err != nil {
		return Grant{}, err
	}
	held, now := r[l.ID], time.Now()
	if b.sources != nil && !b.sources.Internal {
		l.Password = false // it is changed elsewhere, and nobody would tell us
	}
	if l.ByToken && held == nil {
		return Grant{}, ErrNoClient
	}
	mechanism := l.Request
	if mechanism == "" && l.ByToken && !l.Invalidated && held.due(now, s.lifetime) {
		mechanism = l.Mechanism
	}
	// Where others decide who is admitted they are asked again in the end: a token
	// does not lead to the next one.
	if s.lifetime < 0 || l.ByToken && b.sources.outside() {
		mechanism = ""
	}
	if mechanism == "" {
		if held == nil || !held.told(l) {
			s.submit(n, func(tx *store.Tx) error { _, err := s.note(tx, n, l, now); return err })
		} else if before := held.seen.Load(); now.UnixMicro()-before >= seenStep.Microseconds() && held.seen.CompareAndSwap(before, now.UnixMicro()) {
			// The roll stays: nothing in it has changed but this.
			s.submit(name{}, func(tx *store.Tx) error { _, err := s.note(tx, n, l, now); return err })
		}
		return Grant{}, nil
	}
	secret := make([]byte, tokenBytes)
	rand.Read(secret) // never fails
	g := Grant{Token: base64.RawURLEncoding.EncodeToString(secret), Expiry: now.Add(s.lifetime).Truncate(time.Second).UTC()}
	granted := false
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		granted = false
		current, err := s.note(tx, n, l, now)
		if err != nil || !current {
			return err
		}
		granted = true
		return insertToken(tx, n, l.ID, mechanism, g, now)
	})
	s.rolls.remove(n)
	if err != nil || !granted {
		return Grant{}, err
	}
	return g, nil
}

// told reports whether a login says of the client what is known already.
func (c *heldClient) told(l ClientLogin) bool {
	return c.Mechanism == l.Mechanism && (c.Password || !l.Password) &&
		(l.Software == "" || c.Software == l.Software) && (l.Device == "" || c.Device == l.Device)
}

// submit writes without waiting, and forgets n's roll after it.
func (s *Service) submit(n name, op store.Op) {
	err := s.db.Submit(op, func(err error) {
		s.rolls.remove(n)
		if err != nil && !errors.Is(err, ErrNoClient) {
			s.log.Warn("the login of a client was not noted", "account", n.local+"@"+n.host, "err", err)
		}
	})
	if err != nil { // a full queue: the next login will do
		s.log.Warn("the login of a client was not noted", "account", n.local+"@"+n.host, "err", err)
	}
}

// note writes the client's row. It reports false when the account is not one of
// ours, or its password was changed since the login began, so that what the login
// has proved no longer counts.
func (s *Service) note(tx *store.Tx, n name, l ClientLogin, now time.Time) (current bool, err error) {
	var set int64
	err = tx.QueryRow(`SELECT password_set FROM accounts WHERE host = ? AND localpart = ?`, n.host, n.local).Scan(&set)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	current = set <= l.Began.UnixMicro()
	if l.ByToken {
		res, err := tx.Exec(`UPDATE clients SET last_seen = ?, mechanism = ?,
				software = CASE WHEN ? = '' THEN software ELSE ? END, device = CASE WHEN ? = '' THEN device ELSE ? END
			WHERE host = ? AND localpart = ? AND id = ?`,
			now.UnixMicro(), l.Mechanism, l.Software, l.Software, l.Device, l.Device, n.host, n.local, l.ID)
		if err != nil {
			return false, err
		}
		if changed, err := res.RowsAffected(); err != nil {
			return false, err
		} else if changed == 0 {
			return false, ErrNoClient
		}
		return current, nil
	}
	ref := make([]byte, 9)
	rand.Read(ref) // never fails
	_, err = tx.Exec(`INSERT INTO clients (host, localpart, id, ref, software, device, mechanism, password, first_seen, last_seen)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (host, localpart, id) DO UPDATE SET mechanism = excluded.mechanism, last_seen = excluded.last_seen,
			software = CASE WHEN excluded.software = '' THEN clients.software ELSE excluded.software END,
			device = CASE WHEN excluded.device = '' THEN clients.device ELSE excluded.device END,
			password = CASE WHEN excluded.password = 1 THEN 1 ELSE clients.password END`,
		n.host, n.local, l.ID, base64.RawURLEncoding.EncodeToString(ref), l.Software, l.Device, l.Mechanism,
		boolInt(l.Password && current), now.UnixMicro(), now.UnixMicro())
	if err != nil {
		return false, err
	}
	return current, s.trim(tx, n, now)
}

// trim forgets the clients that have not been seen for long, and the oldest of too
// many: each login may bring a new one.
func (s *Service) trim(tx *store.Tx, n name, now time.Time) error {
	if s.keep > 0 {
		_, err := tx.Exec(`DELETE FROM clients WHERE host = ? AND localpart = ? AND last_seen < ?`, n.host, n.local, now.Add(-s.keep).UnixMicro())
		if err != nil {
			return err
		}
	}
	_, err := tx.Exec(`DELETE FROM clients WHERE host = ? AND localpart = ? AND id IN
			(SELECT id FROM clients WHERE host = ? AND localpart = ? ORDER BY last_seen DESC, id LIMIT 1000000 OFFSET ?)`,
		n.host, n.local, n.host, n.local, s.mostClients)
	return err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Clients returns the clients of an account, the one that was seen last first.
func (s *Service) Clients(ctx context.Context, account jid.JID) ([]Client, error) {
	n, err := accountName(account)
	if err != nil {
		return nil, err
	}
	r, err := s.roll(ctx, n)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	list := make([]Client, 0, len(r))
	for _, held := range r {
		c := held.Client
		c.LastSeen = time.UnixMicro(held.seen.Load())
		if s.keep > 0 && now.Sub(c.LastSeen) > s.keep {
			continue
		}
		for _, t := range held.tokens {
			c.Token = c.Token || now.Before(t.expiry)
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Client) int {
		return cmp.Or(b.LastSeen.Compare(a.LastSeen), cmp.Compare(a.Ref, b.Ref))
	})
	return list, nil
}

// RevokeClient forgets one of the account's clients and its tokens, and returns
// what it was. Its sessions, those with its ID, are the caller's to end; a client
// that knows the password can still come back. The error is ErrNoClient, or the
// store's.
func (s *Service) RevokeClient(ctx context.Context, account jid.JID, ref string) (Client, error) {
	n, err := accountName(account)
	if err != nil {
		return Client{}, err
	}
	var c Client
	var first, last int64
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		err := tx.QueryRow(`SELECT id, ref, software, device, mechanism, password, first_seen, last_seen FROM clients
			WHERE host = ? AND localpart = ? AND ref = ?`, n.host, n.local, ref).
			Scan(&c.ID, &c.Ref, &c.Software, &c.Device, &c.Mechanism, &c.Password, &first, &last)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoClient
		} else if err != nil {
			return err
		}
		// Its tokens go with it.
		_, err = tx.Exec(`DELETE FROM clients WHERE host = ? AND localpart = ? AND id = ?`, n.host, n.local, c.ID)
		return err
	})
	s.rolls.remove(n)
	if err != nil {
		return Client{}, err
	}
	c.FirstSeen, c.LastSeen = time.UnixMicro(first), time.UnixMicro(last)
	return c, nil
}

// Resource returns the part of a resource that stands for a client of an account:
// always the same, and telling nothing about the client's ID (XEP-0386 §4.3).
func (b *hostBackend) Resource(username, client string) string {
	m := hmac.New(sha256.New, b.secret)
	m.Write([]byte("resource\x00"))
	m.Write([]byte(username))
	m.Write([]byte{0})
	m.Write([]byte(client))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:9])
}

var _ sasl.HashedTokens = (*hostBackend)(nil)
