package event

import "sync"

// entry is an event in memory, with what streams have made of it.
type entry struct {
	*Event
	frames frames
}

// tail holds the latest committed events, for readers that keep up. The store's
// writer puts them in; its lock is held for no longer than it takes to copy a few
// hundred pointers.
type tail struct {
	max, maxOctets int

	mu     sync.Mutex
	ring   []*entry // capacity max; the oldest at head
	head   int
	n      int
	octets int
	pushed int64         // how many there have been
	floor  int64         // everything committed above it is in the ring
	last   int64         // the number of the latest, or where the log began
	wake   chan struct{} // closed by the next push; nil: nobody waits
}

func (t *tail) init(max, maxOctets int, start int64) {
	t.max, t.maxOctets = max, maxOctets
	t.ring = make([]*entry, max)
	t.floor, t.last = start, start
}

func (e *Event) size() int { return len(e.Stanza) + len(e.Data) }

// push adds an event and wakes who waits.
func (t *tail) push(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.n > 0 && (t.n == t.max || t.octets+e.size() > t.maxOctets) {
		oldest := t.ring[t.head]
		t.ring[t.head] = nil
		t.head = (t.head + 1) % t.max
		t.n--
		t.octets -= oldest.size()
		t.floor = oldest.Seq
	}
	t.ring[(t.head+t.n)%t.max] = e
	t.n++
	t.octets += e.size()
	t.pushed++
	t.last = e.Seq
	if t.wake != nil {
		close(t.wake)
		t.wake = nil
	}
}

// from appends up to limit events after a number to list. behind says that the
// ring does not reach back so far. When there is nothing yet, wake is closed as
// soon as there is.
func (t *tail) from(after int64, limit int, list []*entry) (_ []*entry, behind bool, wake <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case after < t.floor:
		return list, true, nil
	case after >= t.last:
		if t.wake == nil {
			t.wake = make(chan struct{})
		}
		return list, false, t.wake
	}
	for i := t.search(after); i < t.n && limit > 0; i++ {
		list = append(list, t.at(i))
		limit--
	}
	return list, false, nil
}

func (t *tail) at(i int) *entry { return t.ring[(t.head+i)%t.max] }

// search returns the index of the first event after a number.
func (t *tail) search(after int64) int {
	low, high := 0, t.n
	for low < high {
		if mid := (low + high) / 2; t.at(mid).Seq > after {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// get returns an event if it is in memory.
func (t *tail) get(seq int64) *Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.search(seq - 1); i < t.n && t.at(i).Seq == seq {
		return t.at(i).Event
	}
	return nil
}

// count returns how many events were committed since the start, and the last.
func (t *tail) count() (pushed, last int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pushed, t.last
}
