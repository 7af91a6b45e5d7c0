package webhook

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"trivium/httpapi/event"
)

// lane is the queue of one conversation.
type lane struct {
	key   int64
	queue []*item // by number; the first one is under way while the lane is busy
	busy  bool
	at    time.Time // when the first one may be posted
	index int       // in the heap
}

// laneOf returns the number of an event's conversation. Two conversations with the
// same number would wait for each other; nobody can find one to somebody else's.
func laneOf(ev *event.Event) int64 {
	c := ev.Conversation()
	text := make([]byte, 0, 256)
	for _, part := range [...]string{c.From, c.To, c.Key} {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	digest := sha256.Sum256(text)
	return int64(binary.BigEndian.Uint64(digest[:]))
}

func (l *lane) head() *item {
	if len(l.queue) == 0 {
		return nil
	}
	return l.queue[0]
}

// insert adds an item by its number, but not before one that is under way.
func (l *lane) insert(it *item) {
	i := len(l.queue)
	first := 0
	if l.busy {
		first = 1
	}
	for i > first && l.queue[i-1].seq > it.seq {
		i--
	}
	l.queue = slices.Insert(l.queue, i, it)
}

func (l *lane) pop() {
	l.queue[0] = nil
	l.queue = l.queue[1:]
}

// laneHeap orders lanes by time, and lanes of one time by their oldest event. None of
// them is empty.
type laneHeap []*lane

func (h laneHeap) Len() int { return len(h) }

func (h laneHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].queue[0].seq < h[j].queue[0].seq
}

func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push and Pop are for container/heap.
func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.index = len(*h)
	*h = append(*h, l)
}

// Pop is for container/heap.
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
