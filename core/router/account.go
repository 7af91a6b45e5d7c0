package router

import (
	"sync"
	"sync/atomic"

	"trivium/core/jid"
)

// Account is an account with at least one session.
type Account struct {
	Bare jid.JID

	router   *Router
	slots    []atomic.Pointer[any]
	mu       sync.Mutex // binding and unbinding
	gone     bool       // the last session left; find or make another Account
	sessions atomic.Pointer[[]*Session]
}

// Sessions returns a snapshot of the account's sessions, oldest first. It must
// not be changed.
func (a *Account) Sessions() []*Session {
	if a == nil {
		return nil
	}
	if p := a.sessions.Load(); p != nil {
		return *p
	}
	return nil
}

// Session returns the session bound to a resource, or nil.
func (a *Account) Session(resource string) *Session {
	for _, s := range a.Sessions() {
		if s.JID.Resource() == resource {
			return s
		}
	}
	return nil
}

func (r *Router) newAccount(bare jid.JID) *Account {
	return &Account{Bare: bare, router: r, slots: make([]atomic.Pointer[any], r.slots.Load())}
}

// Slot is where a module keeps one value with an account for as long as it has
// sessions: by a number from Router.NewSlot.
func (a *Account) Slot(i int) *atomic.Pointer[any] { return &a.slots[i] }

// NewSlot gives out a number for Account.Slot, at start.
func (r *Router) NewSlot() int { return int(r.slots.Add(1)) - 1 }

// Account returns an account that has sessions, or nil.
func (r *Router) Account(bare jid.JID) *Account {
	a, _ := r.accounts.Load(bare)
	return a
}

// Session returns the session with this full JID, or nil.
func (r *Router) Session(full jid.JID) *Session {
	return r.Account(full.Bare()).Session(full.Resource())
}

// Accounts calls f for each account that has sessions until f returns false.
func (r *Router) Accounts(f func(*Account) bool) {
	r.accounts.Range(func(_ jid.JID, a *Account) bool { return f(a) })
}
