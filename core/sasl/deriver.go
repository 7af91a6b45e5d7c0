package sasl

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"sync/atomic"
)

// NewSalt returns SaltSize random octets.
func NewSalt() []byte {
	salt := make([]byte, SaltSize)
	rand.Read(salt) // never fails
	return salt
}

// DeriverOptions tune a Deriver.
type DeriverOptions struct {
	// Workers is how many derivations run at a time; half the cores, and at least
	// one, if 0.
	Workers int
	// Queue is how many more wait for their turn; 64 per worker if 0. Beyond
	// that, a derivation fails at once.
	Queue int
}

// Deriver derives keys on a bounded number of cores, so that logins by PLAIN and
// changes of passwords cannot starve the rest of the server. It is for concurrent
// use.
type Deriver struct {
	turns   chan struct{}
	waiting atomic.Int64
	most    int64
}

// NewDeriver makes a Deriver.
func NewDeriver(o DeriverOptions) *Deriver {
	if o.Workers < 1 {
		o.Workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if o.Queue < 1 {
		o.Queue = 64 * o.Workers
	}
	return &Deriver{turns: make(chan struct{}, o.Workers), most: int64(o.Workers + o.Queue)}
}

var errBusy = errors.New("too many keys are being derived")

// Derive is DeriveKeys when its turn comes. The error is a *Failure with
// TemporaryAuthFailure: the queue is full, or ctx ended first.
func (d *Deriver) Derive(ctx context.Context, h Hash, password string, salt []byte, iterations int) (Keys, error) {
	defer d.waiting.Add(-1)
	if d.waiting.Add(1) > d.most {
		return Keys{}, &Failure{Condition: TemporaryAuthFailure, Cause: errBusy}
	}
	select {
	case d.turns <- struct{}{}:
	case <-ctx.Done():
		return Keys{}, &Failure{Condition: TemporaryAuthFailure, Cause: context.Cause(ctx)}
	}
	defer func() { <-d.turns }()
	return DeriveKeys(h, password, salt, iterations), nil
}

// Verify is Keys.Verify when its turn comes. The error is as for Derive.
func (d *Deriver) Verify(ctx context.Context, h Hash, keys Keys, password string) (bool, error) {
	derived, err := d.Derive(ctx, h, password, keys.Salt, keys.Iterations)
	if err != nil {
		return false, err
	}
	return keys.equal(derived), nil
}
