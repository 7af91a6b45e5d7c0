package module

import (
	"context"
	"hash/maphash"
	"sync"

	"github.com/maypok86/otter/v2"

	"trivium/core/jid"
	"trivium/core/router"
)

// Snapshots keeps one immutable value per account in memory: that of an account
// with sessions for as long as it has any, those of others within a bound. A
// value is replaced whole, never edited, so that readers need no lock.
//
// Changes of one account are made one after another, in Change. All methods may
// be called from any goroutine.
type Snapshots[T any] struct {
	host  *Host
	load  func(context.Context, jid.JID) (T, error)
	slot  int // of accounts with sessions
	rest  *otter.Cache[jid.JID, T]
	seed  maphash.Seed
	locks [512]sync.Mutex // by hash of the account: loading and changing
}

// NewSnapshots returns an empty Snapshots and hooks it into h, so it is called
// while modules register. load reads a value from the store. The values of
// accounts without sessions may weigh max together; weigh nil counts each as 1.
func NewSnapshots[T any](h *Host, max int, weigh func(T) uint32, load func(context.Context, jid.JID) (T, error)) *Snapshots[T] {
	if weigh == nil {
		weigh = func(T) uint32 { return 1 }
	}
	c := &Snapshots[T]{
		host: h, load: load, slot: h.Router.NewSlot(), seed: maphash.MakeSeed(),
		rest: otter.Must(&otter.Options[jid.JID, T]{
			MaximumWeight: uint64(max),
			Weigher:       func(_ jid.JID, v T) uint32 { return weigh(v) },
		}),
	}
	h.Unbound(func(_ context.Context, _ *Turn, s *Session) { c.retire(s.Account) })
	return c
}

// at returns the value kept with an account, which may be nil.
func (c *Snapshots[T]) at(a *router.Account) (v T, ok bool) {
	if a == nil {
		return v, false
	}
	if p := a.Slot(c.slot).Load(); p != nil {
		return (*p).(T), true
	}
	return v, false
}

// Peek returns an account's value if it is in memory.
func (c *Snapshots[T]) Peek(account jid.JID) (T, bool) {
	if v, ok := c.at(c.host.Router.Account(account)); ok {
		return v, true
	}
	return c.rest.GetIfPresent(account)
}

// Get returns an account's value, loading it when it is not in memory.
func (c *Snapshots[T]) Get(ctx context.Context, account jid.JID) (T, error) {
	return c.Of(ctx, c.host.Router.Account(account), account)
}

// Of is Get for an account that has been looked up; a is nil when it has no
// sessions.
func (c *Snapshots[T]) Of(ctx context.Context, a *router.Account, account jid.JID) (T, error) {
	if v, ok := c.at(a); ok {
		return v, nil
	}
	if a == nil {
		if v, ok := c.rest.GetIfPresent(account); ok {
			return v, nil
		}
	}
	mu := c.lock(account)
	mu.Lock()
	defer mu.Unlock()
	return c.get(ctx, account)
}

// Change replaces an account's value by what f makes of it, unless f fails. No
// other Change of the account runs meanwhile: f may wait for the store, but must
// not route stanzas nor use Get or Change of any account.
func (c *Snapshots[T]) Change(ctx context.Context, account jid.JID, f func(T) (T, error)) error {
	mu := c.lock(account)
	mu.Lock()
	defer mu.Unlock()
	old, err := c.get(ctx, account)
	if err != nil {
		return err
	}
	v, err := f(old)
	if err == nil {
		c.put(account, v)
	}
	return err
}

// Forget drops the value of an account that is being removed, once the removal
// has been committed. It may be called in a Host.Removed hook.
func (c *Snapshots[T]) Forget(account jid.JID) {
	account = account.Clone()
	go func() {
		// What is queued now is behind the transaction that removes the account. When
		// the store closes instead there is nobody left to read a stale value.
		_ = c.host.Store.Sync(context.Background())
		mu := c.lock(account)
		mu.Lock()
		defer mu.Unlock()
		if a := c.host.Router.Account(account); a != nil {
			a.Slot(c.slot).Store(nil)
		}
		c.rest.Invalidate(account)
	}()
}

func (c *Snapshots[T]) lock(account jid.JID) *sync.Mutex {
	return &c.locks[maphash.String(c.seed, account.String())%uint64(len(c.locks))]
}

func (c *Snapshots[T]) get(ctx context.Context, account jid.JID) (v T, err error) {
	a := c.host.Router.Account(account)
	v, ok := c.at(a)
	if ok {
		return v, nil
	}
	if v, ok = c.rest.GetIfPresent(account); ok && a == nil {
		return v, nil
	}
	if !ok {
		v, err = c.load(ctx, account)
	}
	if err == nil {
		c.put(account, v)
	}
	return v, err
}

// put is called with the account's lock held, which retire takes: a value put for
// a session that ends meanwhile is retired after that.
func (c *Snapshots[T]) put(account jid.JID, v T) {
	if a := c.host.Router.Account(account); a != nil {
		boxed := any(v)
		a.Slot(c.slot).Store(&boxed)
		c.rest.Invalidate(account)
		return
	}
	c.rest.Set(account.Clone(), v)
}

// retire moves the value of an account without sessions among the others.
func (c *Snapshots[T]) retire(a *router.Account) {
	mu := c.lock(a.Bare)
	mu.Lock()
	defer mu.Unlock()
	now := c.host.Router.Account(a.Bare)
	if now == a {
		return
	}
	p := a.Slot(c.slot).Swap(nil)
	switch {
	case p == nil:
	case now != nil: // it has sessions again
		now.Slot(c.slot).CompareAndSwap(nil, p)
	default:
		c.rest.Set(a.Bare, (*p).(T))
	}
}
