// Package idempotency lets a request be made several times and be carried out
// once: the Idempotency-Key of draft-ietf-httpapi-idempotency-key-header-07.
//
// The first request with a key of a token is carried out, and its answer is
// committed before it goes out. Whoever comes later with the same key and the same
// request gets that answer, for a day, across restarts. While the first is under
// way others are refused, and so is another request under a key that was used.
//
// Nothing is written before a request is carried out. What a crash may leave
// between the two is a message sent whose answer is not known; Claim.ID is the
// same for every request with the key, so that who gets the message a second time
// can tell.
package idempotency

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/base32"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/store"
	"trivium/httpapi/bloom"
	"trivium/httpapi/keyindex"
)

// MaxKey is the most octets of a key.
const MaxKey = 255

// Errors of ParseKey and Begin.
var (
	// ErrKey: the header is not a key.
	ErrKey = errors.New("idempotency: not a key")
	// ErrUnderWay: the first request with this key has not been answered yet (draft §2.7).
	ErrUnderWay = errors.New("idempotency: a request with this key is under way")
	// ErrFull: as many answers are kept as may be. None is forgotten before its time.
	ErrFull = errors.New("idempotency: too many answers are kept")
	// ErrReused: the key was used for another request (draft §2.7).
	ErrReused = errors.New("idempotency: the key was used for another request")
)

// Options of New. Zero values are defaults.
type Options struct {
	Keep   time.Duration // how long answers are kept: 24 h
	Max    int64         // how many are kept, about: 20 million, some GB
	Logger *slog.Logger
	Now    func() time.Time
}

// Answer is what a request was answered.
type Answer struct {
	Status int
	Media  string // Content-Type
	Body   []byte // not to be changed
	Sender string // whom the request spoke for; may be empty
}

// Fingerprint tells requests apart.
type Fingerprint [16]byte

// Keeper holds the answers. It is safe for concurrent use.
type Keeper struct {
	db     *store.DB
	log    *slog.Logger
	now    func() time.Time
	keep   time.Duration
	hashes sync.Pool // of *keyed

	index *keyindex.Index // key -> seq
	max   int64
	count atomic.Int64 // of rows

	mu    sync.Mutex
	under map[bloom.Digest]*Claim
	last  int64 // seq of the latest row
}

//go:embed migrations/*.sql
var migrations embed.FS

// New returns a Keeper whose answers lie in db.
func New(ctx context.Context, db *store.DB, o Options) (*Keeper, error) {
	if o.Keep <= 0 {
		o.Keep = 24 * time.Hour
	}
	if o.Max <= 0 {
		o.Max = 20_000_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "idempotency", files); err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	err = db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO idempotency_secret (one, secret) VALUES (1, ?) ON CONFLICT DO NOTHING`, secret)
		return err
	})
	if err == nil {
		err = db.QueryRow(ctx, `SELECT secret FROM idempotency_secret`).Scan(&secret)
	}
	if err != nil {
		return nil, fmt.Errorf("idempotency: %w", err)
	}
	k := &Keeper{db: db, log: o.Logger, now: o.Now, keep: o.Keep, max: o.Max, under: map[bloom.Digest]*Claim{}}
	k.hashes.New = func() any { return &keyed{mac: hmac.New(sha256.New, secret)} }
	if err := k.load(ctx); err != nil {
		return nil, err
	}
	var rows int64
	if err := db.QueryRow(ctx, `SELECT COUNT(*) FROM idempotency`).Scan(&rows); err != nil {
		return nil, fmt.Errorf("idempotency: %w", err)
	}
	k.count.Store(rows)
	return k, k.Trim(ctx)
}

// keyed is a hash with the secret, and room for what it works on.
type keyed struct {
	mac hash.Hash
	in  []byte
	out [sha256.Size]byte
}

func (k *Keeper) digest(token, key string) (d bloom.Digest) {
	h := k.hashes.Get().(*keyed)
	h.mac.Reset()
	h.in = append(append(append(h.in[:0], token...), 0), key...)
	h.mac.Write(h.in)
	copy(d[:], h.mac.Sum(h.out[:0]))
	k.hashes.Put(h)
	return d
}

// ParseKey reads the header of a request; ok is false when there is none. The key is
// a string of RFC 9651 §3.3.3. COMPAT(nearly all clients): it may come without
// the quotes.
func ParseKey(h http.Header) (key string, ok bool, err error) {
	lines := h["Idempotency-Key"]
	switch len(lines) {
	case 0:
		return "", false, nil
	case 1:
	default:
		return "", true, ErrKey // draft §2.1: one item
	}
	key = strings.Trim(lines[0], " \t")
	if strings.HasPrefix(key, `"`) {
		if key, err = unquote(key); err != nil {
			return "", true, err
		}
	} else if strings.ContainsAny(key, `", ;`) {
		return "", true, ErrKey
	}
	if key == "" || len(key) > MaxKey {
		return "", true, ErrKey
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' { // RFC 9651 §4.2.5
			return "", true, ErrKey
		}
	}
	return key, true, nil
}

// unquote reads a string of RFC 9651 §4.2.5 without parameters.
func unquote(s string) (string, error) {
	body := s[1:]
	if !strings.Contains(body, `\`) {
		if i := strings.IndexByte(body, '"'); i >= 0 && i == len(body)-1 {
			return body[:i], nil
		}
		return "", ErrKey
	}
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			if i != len(body)-1 {
				return "", ErrKey
			}
			return b.String(), nil
		case '\\':
			i++
			if i == len(body) || body[i] != '"' && body[i] != '\\' {
				return "", ErrKey
			}
		}
		b.WriteByte(body[i])
	}
	return "", ErrKey
}

// FingerprintOf returns what tells a request apart from others (draft §2.4).
func FingerprintOf(method, path, media string, body []byte) (f Fingerprint) {
	h := sha256.New()
	var head [96]byte
	b := append(append(append(append(append(head[:0], method...), 0), path...), 0), media...)
	h.Write(append(b, 0))
	h.Write(body)
	var out [sha256.Size]byte
	copy(f[:], h.Sum(out[:0]))
	return f
}

// Begin claims a key of a token for a request. When the request was answered
// before, that answer is returned and no claim. The error is ErrUnderWay, ErrReused,
// ErrFull or the store's. A claim has to be ended, by Store or by Release.
func (k *Keeper) Begin(ctx context.Context, token, key string, f Fingerprint) (*Claim, *Answer, error) {
	d := k.digest(token, key)
	c := &Claim{keeper: k, digest: d, fingerprint: f}
	k.mu.Lock()
	if first := k.under[d]; first != nil {
		k.mu.Unlock()
		if first.fingerprint != f {
			return nil, nil, ErrReused
		}
		return nil, nil, ErrUnderWay
	}
	k.under[d] = c
	k.mu.Unlock()
	full := k.count.Load() >= k.max
	if !full && !k.index.MayHave(d) {
		return c, nil, nil
	}
	a, seen, _, err := k.find(ctx, d)
	switch {
	case err != nil:
	case a == nil && full:
		err = ErrFull
	case a == nil:
		return c, nil, nil
	case seen != f:
		err = ErrReused
	}
	c.Release()
	if err != nil {
		return nil, nil, err
	}
	return nil, a, nil
}

// find returns the answer of a key and when it was stored, unless it is too old.
func (k *Keeper) find(ctx context.Context, d bloom.Digest) (*Answer, Fingerprint, int64, error) {
	var f Fingerprint
	list, err := k.index.Find(ctx, d)
	if err != nil {
		return nil, f, 0, err
	}
	oldest := k.now().Add(-k.keep).UnixMicro()
	for _, seq := range list {
		if seq < oldest {
			break
		}
		var a Answer
		var seen []byte
		err := k.db.QueryRow(ctx, `SELECT fingerprint, status, media, body, sender FROM idempotency WHERE seq = ? AND key = ?`, seq, d[:]).
			Scan(&seen, &a.Status, &a.Media, &a.Body, &a.Sender)
		if errors.Is(err, sql.ErrNoRows) {
			continue // it was not committed
		}
		if err != nil {
			return nil, f, 0, fmt.Errorf("idempotency: %w", err)
		}
		copy(f[:], seen)
		return &a, f, seq, nil
	}
	return nil, f, 0, nil
}

// Claim is the right to carry out the request of a key. It is owned by who began it.
type Claim struct {
	keeper      *Keeper
	digest      bloom.Digest
	fingerprint Fingerprint
}

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// ID returns an id for the stanza that the request sends: the same whenever the
// token comes with the key. Who has it can find out neither: it is a digest with a
// secret of the server's.
func (c *Claim) ID() string { return encoding.EncodeToString(c.digest[:]) }

// Sent returns what the request was answered whose Claim had this id, when, and for
// whom it spoke; ok is false when nothing is known of one.
func (k *Keeper) Sent(ctx context.Context, id string) (a Answer, at time.Time, ok bool, err error) {
	var d bloom.Digest
	if len(id) != encoding.EncodedLen(len(d)) {
		return a, at, false, nil
	}
	if n, err := encoding.Decode(d[:], []byte(id)); err != nil || n != len(d) || !k.index.MayHave(d) {
		return a, at, false, nil
	}
	found, _, seq, err := k.find(ctx, d)
	if err != nil || found == nil {
		return a, at, false, err
	}
	return *found, time.UnixMicro(seq), true, nil
}

// Release gives the key up without an answer: the next request with it is carried
// out.
func (c *Claim) Release() {
	k := c.keeper
	k.mu.Lock()
	delete(k.under, c.digest)
	k.mu.Unlock()
}

// Store keeps the answer, together with what with does, which may be nil. done is
// called once, on the writer's goroutine or before Store returns, when it is
// committed or has failed; it must not block. The claim has ended then.
func (c *Claim) Store(a Answer, with store.Op, done func(error)) {
	k := c.keeper
	var seq int64
	op := func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO idempotency (seq, key, fingerprint, status, media, body, sender) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			seq, c.digest[:], c.fingerprint[:], a.Status, a.Media, a.Body, a.Sender)
		if err == nil && with != nil {
			err = with(tx)
		}
		return err
	}
	ended := func(err error) {
		if err == nil {
			k.count.Add(1)
		}
		c.Release()
		done(err)
	}
	k.mu.Lock()
	// Rows are appended, and found, in the order of their numbers.
	seq = max(k.now().UnixMicro(), k.last+1)
	k.last = seq
	many := k.index.Add(c.digest, seq)
	err := k.db.Submit(op, ended)
	k.mu.Unlock()
	if err != nil {
		ended(err)
	}
	if many {
		k.index.Write()
	}
}
