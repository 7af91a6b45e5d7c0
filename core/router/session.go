package router

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// Presence is a session's own last presence broadcast: it is available.
type Presence struct {
	Stanza   *stanza.Stanza // from the full JID, without 'to'
	Priority int8           // RFC 6121 §4.7.2.3
	Since    time.Time
}

// Session is what the rest of the server sees of one bound resource.
//
// JID, Account, Bound and Client are constant after Bind. Everything else may be
// used from any goroutine.
type Session struct {
	JID     jid.JID
	Account *Account
	Bound   time.Time
	Client  string // the client installation, by XEP-0388's user-agent id; may be empty

	out      Outbox
	flags    atomic.Uint32
	presence atomic.Pointer[Presence]
	active   atomic.Int64 // Unix seconds of the last element from the peer

	mu     sync.Mutex
	values []slot
}

// slot is one value that a module keeps with a session or an account.
type slot struct {
	key   *int
	value any
}

// Flag is one bit that a module keeps with each session. Flags come from
// Router.NewFlag.
type Flag uint32

// Set sets or clears a flag.
func (s *Session) Set(f Flag, on bool) {
	if on {
		s.flags.Or(uint32(f))
	} else {
		s.flags.And(^uint32(f))
	}
}

// Has tells whether a flag is set.
func (s *Session) Has(f Flag) bool { return s.flags.Load()&uint32(f) != 0 }

// Key names a value of type T that a module keeps with sessions.
type Key[T any] struct{ id *int }

// NewKey returns a new Key.
func NewKey[T any]() Key[T] { return Key[T]{new(int)} }

// Update runs f on the session's value (zero at first) under the session's lock
// and stores what it returns. f must not block nor use the session.
func (k Key[T]) Update(s *Session, f func(T) T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.values {
		if s.values[i].key == k.id {
			s.values[i].value = f(s.values[i].value.(T))
			return
		}
	}
	var zero T
	s.values = append(s.values, slot{k.id, f(zero)})
}

// Get returns the session's value, zero when none was stored. What it refers to
// must not be changed unless the module guards it itself.
func (k Key[T]) Get(s *Session) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.values {
		if s.values[i].key == k.id {
			return s.values[i].value.(T)
		}
	}
	var zero T
	return zero
}

// Presence returns the session's presence, nil while it is not available.
func (s *Session) Presence() *Presence { return s.presence.Load() }

// SetPresence replaces the session's presence; nil makes it unavailable.
func (s *Session) SetPresence(p *Presence) { s.presence.Store(p) }

// Available tells whether the session has sent available presence.
func (s *Session) Available() bool { return s.presence.Load() != nil }

// Touch notes that the peer has sent something.
func (s *Session) Touch(now time.Time) { s.active.Store(now.Unix()) }

// Active returns when the peer last sent something, to the second.
func (s *Session) Active() time.Time { return time.Unix(s.active.Load(), 0) }

// State is what is known of a session's connection.
type State struct {
	Info    stream.Info // of the connection, or the last one
	Away    bool        // the connection is lost, and the peer may come back (XEP-0198 §5)
	Managed bool        // stream management is on
	Unacked int         // stanzas that the peer has not acknowledged; 0 unless Managed
	Quiet   bool        // the client is inactive (XEP-0352)
}

// State returns a snapshot.
func (s *Session) State() State {
	o := &s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	st := State{Info: o.info, Away: o.away, Managed: o.ledger != nil, Quiet: o.hold != nil}
	if o.ledger != nil {
		st.Unacked = o.ledger.len()
	}
	return st
}

// Deliver queues st for the session as it is addressed. It reports false when
// the session is lost.
func (s *Session) Deliver(t *Turn, st *stanza.Stanza, rc *Receipt) bool {
	return s.deliver(t, st, rc, nil)
}

// deliver is Deliver of a message that may be parked.
func (s *Session) deliver(t *Turn, st *stanza.Stanza, rc *Receipt, parked Parked) bool {
	q := queued{st: st, to: st.To}
	if parked == nil {
		return s.out.send(t, q, rc)
	}
	q.t = newTransit(rc, parked)
	if s.out.send(t, q, nil) {
		return true
	}
	q.t.abandon()
	return false
}

// DeliverTo is Deliver with another 'to', so that a fan-out needs no copies. A
// message is taken for a copy: when the session is lost nobody else gets it.
func (s *Session) DeliverTo(t *Turn, st *stanza.Stanza, to jid.JID, rc *Receipt) bool {
	return s.out.send(t, queued{st: st, to: to, copy: true}, rc)
}

// Write queues an element that is not a stanza.
func (s *Session) Write(t *Turn, p stanza.Payload) bool { return s.out.write(t, p, nil) }

// Kick ends the session with a stream error; nil ends it without one.
func (s *Session) Kick(e *stream.Error) {
	s.out.mu.Lock()
	kick := s.out.kick
	s.out.mu.Unlock()
	kick(e)
}

// OnKick names who ends the session from now on.
func (s *Session) OnKick(kick func(*stream.Error)) {
	s.out.mu.Lock()
	s.out.kick = kick
	s.out.mu.Unlock()
}

// Drop ends the session's outbox. Messages that have not left the process go the
// way of messages that find no session.
func (s *Session) Drop() { s.out.lose(nil) }

// Begin sends the elements first, the answer to the request to bind among them, in
// front of everything that waits since Bind with Held.
func (s *Session) Begin(first ...stanza.Payload) { s.out.begin(first) }

// FlushOut writes out what waits for the session, if nobody else is about to.
func (s *Session) FlushOut() {
	s.out.mu.Lock()
	mine := s.out.claim()
	s.out.mu.Unlock()
	if mine {
		s.out.flush()
	}
}

// lost is told by the outbox that the peer cannot be reached or does not read.
func (s *Session) lost(kick func(*stream.Error), err error) {
	if err == errOverflow {
		// RFC 6120 §4.9.3.17: the peer is too slow for what it is sent.
		kick(stream.Err(stream.ResourceConstraint, "too much is waiting to be read"))
		return
	}
	if errors.Is(err, net.ErrClosed) {
		return // it has been ended, and its last octets may still be on their way
	}
	kick(nil)
}
