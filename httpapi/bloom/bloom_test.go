package bloom

import (
	"crypto/sha256"
	"strconv"
	"sync"
	"testing"
)

func name(i int) (d Digest) {
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	copy(d[:], sum[:])
	return d
}

// What was added is there, whoever adds at the same time; of the rest few are.
func TestFilter(t *testing.T) {
	const n = leastBits / 20
	f := New(n)
	if f.Has(name(0)) || f.Full() {
		t.Fatal("it is not empty")
	}
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			for i := part; i < n; i += 4 {
				f.Add(name(i))
			}
		})
	}
	wg.Wait()
	wrong := 0
	for i := range n {
		if !f.Has(name(i)) {
			t.Fatalf("%d is not there", i)
		}
		if f.Has(name(n + i)) {
			wrong++
		}
	}
	if wrong > n/250 {
		t.Errorf("%d of %d are taken for members", wrong, n)
	}
	if f.Full() {
		t.Error("full with as many members as it was made for")
	}
	for i := range 5 * n {
		f.Add(name(i))
	}
	if !f.Full() {
		t.Error("not full with five times as many")
	}
}

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		members int64
		words   int
	}{{0, leastBits / 64}, {leastBits / 20, leastBits / 64}, {leastBits / 10, leastBits / 32}, {1 << 50, mostBits / 64}} {
		if got := len(New(tt.members).words); got != tt.words {
			t.Errorf("%d members: %d words, want %d", tt.members, got, tt.words)
		}
	}
}
