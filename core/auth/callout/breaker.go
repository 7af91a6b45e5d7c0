package callout

import (
	"sync"
	"time"
)

// BreakerOptions tune a Breaker. The zero value is the default.
type BreakerOptions struct {
	// Failures in a row after which nothing is let through; 5 if 0.
	Failures int
	// Pause is how long; then one is let through to try. 10 s if 0.
	Pause time.Duration
}

// Breaker stops the asking of somebody who does not answer, so that each login
// fails at once and not after a timeout. It is for concurrent use.
type Breaker struct {
	o   BreakerOptions
	now func() time.Time

	mu       sync.Mutex
	failures int       // in a row
	until    time.Time // nothing is let through before; zero while it is closed
	trying   bool      // one is let through, and its outcome is due
}

// NewBreaker makes a Breaker that lets through. now is the clock.
func NewBreaker(o BreakerOptions, now func() time.Time) *Breaker {
	if o.Failures <= 0 {
		o.Failures = 5
	}
	if o.Pause <= 0 {
		o.Pause = 10 * time.Second
	}
	return &Breaker{o: o, now: now}
}

// Allow reports whether one may go ahead. If so, one of Succeeded, Failed and
// Abandoned is to follow.
func (b *Breaker) Allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return true
	}
	if b.trying || b.now().Before(b.until) {
		return false
	}
	b.trying = true
	return true
}

// Succeeded closes the breaker.
func (b *Breaker) Succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.until, b.trying = 0, time.Time{}, false
}

// Failed counts a failure, and reports whether it is the one that opens the
// breaker.
func (b *Breaker) Failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	if b.failures < b.o.Failures {
		return false
	}
	opened := b.until.IsZero()
	if opened || b.trying { // not for those who set out before it opened
		b.until = b.now().Add(b.o.Pause)
	}
	b.trying = false
	return opened
}

// Abandoned says that nothing was learnt.
func (b *Breaker) Abandoned() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}
