package router

import (
	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// Conflict says what happens when a resource is asked for that is already bound
// (RFC 6120 §7.7.2.2).
type Conflict uint8

// The policies of RFC 6120 §7.7.2.2.
const (
	ConflictReplace Conflict = iota // end the older session with <conflict/>
	ConflictRefuse                  // refuse the new one with <conflict/>
	ConflictRename                  // give the new one another resource
)

// Binding is what Bind needs to know.
type Binding struct {
	JID         jid.JID     // full
	Client      string      // see Session
	Conn        stream.Conn // nil: the session is seen, but nothing can be sent to it
	Conflict    Conflict
	MaxSessions int                 // per account; 0: no limit
	OutboxLimit int                 // octets
	Rename      func() jid.JID      // another full JID, for ConflictRename
	Kick        func(*stream.Error) // ends the session; any goroutine
	// Held keeps what the session is sent until Session.Begin.
	Held bool
	// Manage begins stream management at once: it is how many stanzas may wait to be
	// acknowledged, 0 for none. See Session.Manage.
	Manage int
}

// Bind makes a session reachable. Errors are *stanza.Error: conflict, or
// resource-constraint when the account has its limit of sessions (RFC 6120
// §7.6.2.1).
func (r *Router) Bind(b Binding) (*Session, error) {
	bare := b.JID.Bare().Clone()
	s := &Session{Bound: r.now(), Client: b.Client}
	s.Touch(s.Bound)
	var replaced *Session
	for {
		a, _ := r.accounts.LoadOrCompute(bare, func() (*Account, bool) { return r.newAccount(bare), false })
		a.mu.Lock()
		if a.gone {
			a.mu.Unlock()
			continue
		}
		old := a.Session(b.JID.Resource())
		if old != nil {
			switch b.Conflict {
			case ConflictRefuse:
				a.mu.Unlock()
				// RFC 6120 §7.7.2.2: another name would do.
				return nil, &stanza.Error{Type: stanza.Modify, Condition: stanza.Conflict, Text: "this resource is in use"}
			case ConflictRename:
				for old != nil {
					b.JID = b.Rename()
					old = a.Session(b.JID.Resource())
				}
			}
			replaced = old
		}
		list := a.Sessions()
		if replaced == nil && b.MaxSessions > 0 && len(list) >= b.MaxSessions {
			replaced = longestAway(list)
		}
		if replaced == nil && b.MaxSessions > 0 && len(list) >= b.MaxSessions {
			a.mu.Unlock()
			return nil, &stanza.Error{Condition: stanza.ResourceConstraint, Text: "too many sessions of this account"}
		}
		s.JID, s.Account = b.JID.Clone(), a
		s.out.init(s, b.Conn, b.OutboxLimit, b.Kick)
		s.out.claimed = b.Held
		if b.Manage > 0 {
			s.out.ledger = &ledger{max: b.Manage}
		}
		next := make([]*Session, 0, len(list)+1)
		for _, o := range list {
			if o != replaced {
				next = append(next, o)
			}
		}
		next = append(next, s)
		a.sessions.Store(&next)
		a.mu.Unlock()
		break
	}
	r.sessions.Add(1)
	if replaced != nil {
		r.sessions.Add(-1)
		replaced.Kick(stream.Err(stream.Conflict, "replaced by a new session")) // RFC 6120 §4.9.3.3
	}
	return s, nil
}

// Agent returns a session that nobody can see or send to: what programs send on
// behalf of an account goes out through it as if through one of its sessions. from
// is the account or one of its resources.
func (r *Router) Agent(from jid.JID) *Session {
	bare := from.Bare()
	a := r.Account(bare)
	if a == nil {
		a = r.newAccount(bare)
	}
	s := &Session{JID: from, Account: a, Bound: r.now()}
	s.out.init(s, nil, 0, func(*stream.Error) {})
	return s
}

// longestAway returns a session whose peer may or may not come back: rather that
// than refuse one that is here.
func longestAway(list []*Session) *Session {
	for _, s := range list {
		if s.State().Away {
			return s
		}
	}
	return nil
}

// Unbind makes a session unreachable. It reports false when the session had been
// replaced or unbound before.
func (r *Router) Unbind(s *Session) bool {
	a := s.Account
	a.mu.Lock()
	list := a.Sessions()
	next := make([]*Session, 0, len(list))
	for _, o := range list {
		if o != s {
			next = append(next, o)
		}
	}
	found := len(next) < len(list)
	if found {
		a.sessions.Store(&next)
		if len(next) == 0 {
			a.gone = true
			r.accounts.Delete(a.Bare)
		}
	}
	a.mu.Unlock()
	if found {
		r.sessions.Add(-1)
	}
	return found
}
