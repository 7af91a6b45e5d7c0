package auth

import "sync"

// cache is a bounded map from keys to values that are never changed. It keeps
// two generations: when the young one has half the limit, the old one is
// dropped and the young one takes its place, so what is used stays and what is
// not goes, at a constant cost.
//
// Filling it from the database races with changes there. So a filler takes the
// epoch before it reads and hands it to put, which refuses a value read before a
// removal; whoever changes a row calls remove after the commit.
type cache[K comparable, V any] struct {
	half int

	mu         sync.RWMutex
	young, old map[K]V
	removals   uint64
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{half: max(1, limit/2), young: make(map[K]V)}
}

func (c *cache[K, V]) get(k K) (V, bool) {
	c.mu.RLock()
	v, young := c.young[k]
	old := false
	if !young {
		v, old = c.old[k]
	}
	epoch := c.removals
	c.mu.RUnlock()
	if old {
		c.put(k, v, epoch) // used again: it outlives its generation
	}
	return v, young || old
}

func (c *cache[K, V]) epoch() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.removals
}

func (c *cache[K, V]) put(k K, v V, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch == c.removals {
		c.add(k, v)
	}
}

// add needs c.mu.
func (c *cache[K, V]) add(k K, v V) {
	if _, known := c.young[k]; !known && len(c.young) >= c.half {
		c.old, c.young = c.young, make(map[K]V)
	}
	c.young[k] = v
}

// getOrPut returns the value of k, which make makes when there is none.
func (c *cache[K, V]) getOrPut(k K, make func() V) V {
	if v, ok := c.get(k); ok {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.young[k]
	if !ok {
		v = make()
		c.add(k, v)
	}
	return v
}

func (c *cache[K, V]) remove(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removals++
	delete(c.young, k)
	delete(c.old, k)
}

func (c *cache[K, V]) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.young) + len(c.old)
}
