package webhook

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/sony/gobreaker/v2"
)

const maxRetryAfter = 24 * time.Hour

// after is the wait after the n-th attempt has failed, n from 1: what the schedule
// says, a tenth more or less by chance, so that retries do not come in step.
func (o *Options) after(n int) time.Duration {
	d := o.Schedule[min(max(n, 1), len(o.Schedule))-1]
	return d - d/10 + rand.N(d/5+1)
}

// retryAfter reads RFC 9110 §10.2.3, a number of seconds or a date.
func retryAfter(value string, now time.Time) time.Time {
	if value == "" {
		return time.Time{}
	}
	var at time.Time
	if n, err := strconv.Atoi(value); err == nil && n >= 0 {
		at = now.Add(min(time.Duration(n), maxRetryAfter/time.Second) * time.Second)
	} else if at, err = http.ParseTime(value); err != nil {
		return time.Time{}
	}
	if limit := now.Add(maxRetryAfter); at.After(limit) {
		return limit
	}
	return at
}

// What the breaker is told of an attempt, other than nil.
var (
	errSick = errors.New("webhook: the endpoint failed")
	// errAside: it says nothing about the endpoint's health.
	errAside = errors.New("webhook: the attempt does not count")
)

type breaker = gobreaker.TwoStepCircuitBreaker[struct{}]

// newBreaker returns the circuit breaker of an endpoint: closed while it works, open
// for Options.Probe after TripAfter failures in a row, then half-open for one post.
func (e *endpoint) newBreaker() *breaker {
	o := &e.service.opts
	var b *breaker
	b = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: e.name, MaxRequests: 1, Timeout: o.Probe,
		ReadyToTrip: func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= o.TripAfter },
		IsExcluded:  func(err error) bool { return err == errAside },
		// Called under the breaker's lock, from whatever goroutine told or asked it.
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if e.breaker.Load() != b {
				return // it was replaced while posts were under way
			}
			if to == gobreaker.StateOpen {
				e.openUntil.Store(time.Now().Add(o.Probe).UnixMicro())
			}
			e.down.Store(to != gobreaker.StateClosed)
			e.mail.notify()
		},
	})
	return b
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
