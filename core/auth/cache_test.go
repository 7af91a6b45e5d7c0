package auth

import (
	"testing"

	"pgregory.net/rapid"
)

// ThrottleEntries returns the size of a throttle's tables together.
func ThrottleEntries(t *Throttle) int {
	return t.addresses.len() + t.pairs.len() + t.accounts.len() + t.homes.len()
}

// TestCacheModel holds the cache against a plain map: it may forget, must never
// be wrong or too large, and keeps the half-limit entries used last.
func TestCacheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(2, 12).Draw(t, "limit")
		c := newCache[int, int](limit)
		model := map[int]int{}
		var recent []int // most recently used last, removed ones too, no repetitions
		use := func(k int) {
			for i, r := range recent {
				if r == k {
					recent = append(recent[:i], recent[i+1:]...)
					break
				}
			}
			recent = append(recent, k)
		}
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			k := rapid.IntRange(0, 20).Draw(t, "key")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				c.put(k, i, c.epoch())
				model[k] = i
				use(k)
			case 1:
				c.remove(k)
				delete(model, k)
			default:
				v, ok := c.get(k)
				want, known := model[k]
				if ok && (!known || v != want) {
					t.Fatalf("get(%d) = %d, want %d, %v", k, v, want, known)
				}
				if !ok && known {
					for _, r := range recent[max(0, len(recent)-max(1, limit/2)):] {
						if r == k {
							t.Fatalf("%d is forgotten, of the last used %v", k, recent)
						}
					}
				}
				if ok {
					use(k)
				} else {
					delete(model, k)
				}
			}
			if c.len() > 2*max(1, limit/2) {
				t.Fatalf("%d entries, limit %d", c.len(), limit)
			}
		}
	})
}

// TestCacheRefusesStale: a value read before a removal is not kept after it.
func TestCacheRefusesStale(t *testing.T) {
	c := newCache[string, int](10)
	epoch := c.epoch()
	c.remove("a")
	c.put("a", 1, epoch)
	if _, ok := c.get("a"); ok {
		t.Error("a stale value was kept")
	}
	c.put("a", 2, c.epoch())
	if v, ok := c.get("a"); !ok || v != 2 {
		t.Errorf("get = %d, %v", v, ok)
	}
}
