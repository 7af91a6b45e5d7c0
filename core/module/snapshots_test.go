package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"trivium/core/jid"
)

// counter is a Snapshots of numbers whose store counts the loads.
func counter(t *testing.T, fail error) (*world, *Snapshots[int], *atomic.Int64) {
	var loads atomic.Int64
	var c *Snapshots[int]
	w := build(t, func(h *Host) error {
		c = NewSnapshots(h, 4, nil, func(context.Context, jid.JID) (int, error) {
			loads.Add(1)
			return 100, fail
		})
		return nil
	})
	return w, c, &loads
}

func TestSnapshots(t *testing.T) {
	w, c, loads := counter(t, nil)
	juliet := w.juliet.Account.Bare
	if _, ok := c.Peek(juliet); ok {
		t.Error("a value before it was asked for")
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := c.Change(t.Context(), juliet, func(n int) (int, error) { return n + 1, nil }); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if v, err := c.Get(t.Context(), juliet); err != nil || v < 100 || v > 120 {
				t.Errorf("%d, %v", v, err)
			}
		})
	}
	wg.Wait()
	if v, _ := c.Peek(juliet); v != 120 || loads.Load() != 1 {
		t.Errorf("%d after %d loads", v, loads.Load())
	}
	if err := c.Change(t.Context(), juliet, func(int) (int, error) { return 0, io.EOF }); !errors.Is(err, io.EOF) {
		t.Errorf("Change: %v", err)
	}
	if v, _ := c.Get(t.Context(), juliet); v != 120 {
		t.Errorf("a failed change left %d", v)
	}
	// Accounts without sessions are kept within a bound; those with any for good.
	for i := range 1000 {
		if _, err := c.Get(t.Context(), jid.Must(fmt.Sprintf("u%d@example.org", i))); err != nil {
			t.Fatal(err)
		}
	}
	c.rest.CleanUp()
	if n := c.rest.EstimatedSize(); n > 4 {
		t.Errorf("%d values of accounts without sessions", n)
	}
	before := loads.Load()
	if v, _ := c.Get(t.Context(), juliet); v != 120 || loads.Load() != before {
		t.Errorf("%d; the value of an account with a session was loaded again", v)
	}
	w.Router.Unbind(w.juliet)
	w.SessionUnbound(t.Context(), &Turn{}, w.juliet)
	if p := w.juliet.Account.Slot(c.slot).Load(); p != nil {
		t.Error("a value is kept with an account without sessions")
	}
	if v, _ := c.Get(t.Context(), juliet); v != 120 {
		t.Errorf("retired as %d", v)
	}
}

func TestSnapshotsThatCannotBeLoaded(t *testing.T) {
	w, c, loads := counter(t, io.EOF)
	for range 2 {
		if _, err := c.Get(t.Context(), w.juliet.Account.Bare); !errors.Is(err, io.EOF) {
			t.Errorf("Get: %v", err)
		}
	}
	if loads.Load() != 2 {
		t.Errorf("%d loads: a failure is not to be kept", loads.Load())
	}
	if err := c.Change(t.Context(), w.juliet.Account.Bare, func(int) (int, error) { t.Error("changed"); return 0, nil }); err == nil {
		t.Error("Change succeeded")
	}
}

// A value that is being put while the last session ends must not stay online.
func TestSnapshotsRetireWhileLoading(t *testing.T) {
	for range 300 {
		w, c, _ := counter(t, nil)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Get(t.Context(), w.juliet.Account.Bare) })
		w.Router.Unbind(w.juliet)
		w.SessionUnbound(t.Context(), &Turn{}, w.juliet)
		wg.Wait()
		if w.juliet.Account.Slot(c.slot).Load() != nil {
			t.Fatal("a value is kept with an account without sessions")
		}
	}
}
