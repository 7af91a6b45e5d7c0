package webhook

import (
	"sync/atomic"
	"time"
)

// warnEvery is how often an endpoint may be complained of: otherwise what it answers
// decides how fast the log grows.
const warnEvery = 10 * time.Second

// warnings of one kind about one endpoint. Those in between are counted.
type warnings struct {
	last   atomic.Int64 // Unix nanoseconds
	missed atomic.Int64
}

func (w *warnings) warn(e *endpoint, text string, args ...any) {
	now, last := time.Now().UnixNano(), w.last.Load()
	if now-last < int64(warnEvery) || !w.last.CompareAndSwap(last, now) {
		w.missed.Add(1)
		return
	}
	args = append(args, "webhook", e.name)
	if n := w.missed.Swap(0); n > 0 {
		args = append(args, "unreported", n)
	}
	e.service.log.Warn(text, args...)
}
