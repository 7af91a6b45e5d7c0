package callout

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// memory remembers answers for a while, by an HMAC of what was asked under a key
// that nobody has: passwords are not in it.
type memory struct {
	keep  time.Duration
	limit int
	now   func() time.Time
	key   [32]byte

	mu      sync.Mutex
	entries map[[sha256.Size]byte]entry
}

type entry struct {
	value bool
	until time.Time
}

func newMemory(keep time.Duration, limit int, now func() time.Time) *memory {
	m := &memory{keep: keep, limit: limit, now: now, entries: make(map[[sha256.Size]byte]entry)}
	rand.Read(m.key[:]) // never fails
	return m
}

// digest separates the parts by their lengths, so that no two lists are alike.
func (m *memory) digest(parts []string) [sha256.Size]byte {
	h := hmac.New(sha256.New, m.key[:])
	for _, p := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (m *memory) get(parts ...string) (answer, known bool) {
	k := m.digest(parts)
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[k]
	if !ok || !m.now().Before(e.until) {
		delete(m.entries, k)
		return false, false
	}
	return e.value, true
}

// sweep is how many entries are looked at to make room for one.
const sweep = 8

func (m *memory) put(value bool, parts ...string) {
	k := m.digest(parts)
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if _, known := m.entries[k]; !known && len(m.entries) >= m.limit {
		m.makeRoom(now)
	}
	m.entries[k] = entry{value, now.Add(m.keep)}
}

// makeRoom drops what is too old among some entries, or else the one of them that
// will be so first. It needs m.mu.
func (m *memory) makeRoom(now time.Time) {
	var oldest [sha256.Size]byte
	var until time.Time
	seen, dropped := 0, false
	for k, e := range m.entries { // a random place to begin with
		if !now.Before(e.until) {
			delete(m.entries, k)
			dropped = true
		} else if until.IsZero() || e.until.Before(until) {
			oldest, until = k, e.until
		}
		if seen++; seen == sweep {
			break
		}
	}
	if !dropped {
		delete(m.entries, oldest)
	}
}
