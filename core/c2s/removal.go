package c2s

import (
	"context"
	"sync"
	"time"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stream"
)

// removals are the accounts that were removed of late. A stream may have logged in
// before that and bind after it; by then the account may be somebody else's.
type removals struct {
	mu sync.Mutex
	at map[jid.JID]time.Time // of the last removal
}

// removalMax is how many removals are remembered before the old ones are forgotten,
// which no stream can have logged in before: logins have a deadline.
const (
	removalMax = 1024
	removalAge = time.Hour
)

// note is told of a removal that is about to be committed.
func (r *removals) note(account jid.JID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[jid.JID]time.Time{}
	}
	if len(r.at) >= removalMax {
		for old, at := range r.at {
			if now.Sub(at) > removalAge {
				delete(r.at, old)
			}
		}
	}
	r.at[account.Bare().Clone()] = now
}

// since tells whether the account was removed at that time or later.
func (r *removals) since(account jid.JID, began time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.at[account]
	return ok && !at.Before(began)
}

// belongs takes a session that has just been bound out of the router again, unless
// the account that logged in is still there. Whoever removes an account ends the
// sessions that are bound, so this comes behind binding.
func (s *session) belongs(ctx context.Context, peer *router.Session) error {
	if s.login.anonymous {
		return nil
	}
	ok, err := s.svc.modules.Exists(ctx, s.account)
	if err == nil && (!ok || s.svc.removals.since(s.account, s.login.began)) {
		err = stream.Err(stream.NotAuthorized, "the account was removed")
	}
	if err != nil {
		s.svc.router.Unbind(peer)
		peer.Drop()
	}
	return err
}
