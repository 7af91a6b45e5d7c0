package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"trivium/core/sasl"
	"trivium/core/store"
)

// spread counts the iterations of the passwords there are. After
// Options.Iterations was changed, accounts differ in them, and names that are no
// account must differ alike: if all of these had the new number, every old one
// would give an account away.
type spread struct {
	fallback int // while there is no account

	mu     sync.Mutex
	counts map[int]uint64 // iterations -> passwords set
	total  uint64
}

func (s *spread) load(ctx context.Context, db *store.DB) error {
	s.counts = make(map[int]uint64)
	rows, err := db.Query(ctx, `SELECT iterations, count(*) FROM credentials WHERE hash = ? GROUP BY iterations`, int(sasl.SHA256))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var iterations int
		var n uint64
		if err := rows.Scan(&iterations, &n); err != nil {
			return err
		}
		s.counts[iterations] = n
		s.total += n
	}
	return rows.Err()
}

// add counts one more password. Those it replaces stay counted until a restart.
func (s *spread) add(iterations int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[iterations]++
	s.total++
}

// pick returns the iterations for a name that is no account: the share of names
// that get a number is the share of accounts that have it, and a name keeps its
// number while the shares do not move past it.
func (s *spread) pick(hostSecret []byte, local string) int {
	m := hmac.New(sha256.New, hostSecret)
	m.Write([]byte("iterations"))
	m.Write([]byte(local))
	position := binary.BigEndian.Uint64(m.Sum(nil))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total == 0 {
		return s.fallback
	}
	numbers := slices.Sorted(maps.Keys(s.counts))
	share, below := float64(position)/(1<<64)*float64(s.total), uint64(0)
	for _, iterations := range numbers {
		if below += s.counts[iterations]; share < float64(below) {
			return iterations
		}
	}
	return numbers[len(numbers)-1]
}
