// Package bloom holds sets of which only so much is known: what was never added is
// not in one, nearly always. Whoever keeps many names in the database, and is asked
// mostly for others, spares himself the question.
package bloom

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
)

// Digest names a member. Its octets have to be as good as random.
type Digest [16]byte

// Filter is a Bloom filter. It is safe for concurrent use and takes no lock; nothing
// can be removed.
type Filter struct{ words []atomic.Uint64 }

const (
	leastBits = 1 << 23 // 1 MiB
	mostBits  = 1 << 29 // 64 MiB
	probes    = 4
)

// New returns a Filter for about so many members, or for some four hundred thousand: of
// names that are not members, 2 in 1000 are taken for some. With twice as many
// members it is 2 in 100.
func New(members int64) *Filter {
	n := int64(leastBits)
	for n < members*20 && n < mostBits {
		n *= 2
	}
	return &Filter{make([]atomic.Uint64, n/64)}
}

// Add adds a member.
func (f *Filter) Add(d Digest) {
	mask := uint64(len(f.words)*64 - 1)
	a, b := binary.LittleEndian.Uint64(d[:]), binary.LittleEndian.Uint64(d[8:])|1
	for range probes {
		w, bit := &f.words[a&mask/64], uint64(1)<<(a%64)
		if w.Load()&bit == 0 {
			w.Or(bit)
		}
		a += b
	}
}

// Has tells whether d may have been added.
func (f *Filter) Has(d Digest) bool {
	mask := uint64(len(f.words)*64 - 1)
	a, b := binary.LittleEndian.Uint64(d[:]), binary.LittleEndian.Uint64(d[8:])|1
	for range probes {
		if f.words[a&mask/64].Load()&(1<<(a%64)) == 0 {
			return false
		}
		a += b
	}
	return true
}

// Full tells whether it is time for a new one: half of the bits of a sample are
// set, and one name in sixteen is taken for a member.
func (f *Filter) Full() bool {
	const sample = 64
	set := 0
	for i := range sample {
		set += bits.OnesCount64(f.words[i*(len(f.words)/sample)].Load())
	}
	return set > sample*64/2
}
