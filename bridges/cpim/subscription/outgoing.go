package subscription

import (
	"time"

	"trivium/bridges/cpim/address"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// pendingAttempts is how often an unanswered request is sent before its user is
// told.
const pendingAttempts = 6

// Outgoing is an XMPP user's subscription to a foreign presentity: RFC 3922 §6.1
// and §6.4.
type Outgoing struct {
	State           State
	Watcher, Target string // pres: URIs

	ID       string        // SubscriptID of the subscription over there; empty: none lives
	TransID  string        // of the operation in flight; empty: none
	StanzaID string        // of the stanza that awaits an answer
	Expires  time.Time     // end of what was granted
	Next     time.Time     // when to refresh, retry or give up; zero: never
	Granted  time.Duration // by the last response
	Failures int           // in a row
	Away     bool          // the user has no session

	// FetchTransID is that of a fetch in flight, FetchID its SubscriptID.
	FetchID, FetchTransID string
}

// NewOutgoing returns the subscription, still None. The error says that an address
// has no pres: URI.
func NewOutgoing(watcher, target jid.JID) (Outgoing, error) {
	w, err := address.URI(address.Pres, watcher)
	if err != nil {
		return Outgoing{}, err
	}
	t, err := address.URI(address.Pres, target)
	return Outgoing{Watcher: w, Target: t}, err
}

// Due returns when to come back with a Tick, zero for never.
func (s Outgoing) Due() time.Time {
	if s.State == Active && s.ID != "" {
		return earliest(s.Next, s.Expires)
	}
	return s.Next
}

// expired tells whether what was granted has run out.
func (s Outgoing) expired(now time.Time) bool { return !s.Expires.IsZero() && !now.Before(s.Expires) }

// On returns what the event makes of the subscription, and what is to be done.
func (s Outgoing) On(e Event, r *Rules, now time.Time) (Outgoing, []Action) {
	switch e := e.(type) {
	case Presence:
		switch e.Type {
		case stanza.Subscribe:
			return s.subscribe(e.ID, r, now)
		case stanza.Unsubscribe:
			return s.unsubscribe(e.ID, r, now)
		case stanza.Probe:
			return s.probe(e.ID, r, now)
		}
	case Online:
		return s.online(e.Now, r, now)
	case Response:
		return s.response(e, r, now)
	case Notice:
		return s.notice(e, r, now)
	case Tick:
		return s.tick(r, now)
	}
	return s, nil
}

// send makes the subscribe operation and waits for its response.
func (s Outgoing) send(d time.Duration, r *Rules, now time.Time) (Outgoing, Subscribe) {
	if s.ID == "" {
		s.ID = r.newID()
	}
	s.TransID = r.newID()
	s.Next = now.Add(r.patience())
	return s, Subscribe{s.Watcher, s.Target, d, s.ID, s.TransID}
}

// end returns the subscription as it was before it began.
func (s Outgoing) end() Outgoing { return Outgoing{Watcher: s.Watcher, Target: s.Target, Away: s.Away} }

// subscribe: RFC 3922 §6.1.
func (s Outgoing) subscribe(id string, r *Rules, now time.Time) (Outgoing, []Action) {
	var before []Action
	switch s.State {
	case Active: // servers repeat subscribe; the answer stands
		return s, []Action{Tell{Type: stanza.Subscribed, ID: id}}
	case Pending:
		return s, nil
	case Expiring: // a change of mind, for which the other side needs a new one
		before = []Action{Hide{}}
	}
	s = s.end()
	s.State, s.StanzaID, s.Away = Pending, id, false
	s, op := s.send(r.ask(), r, now)
	return s, append(before, op)
}

// unsubscribe: RFC 3922 §6.4. The answer follows the last notification, which is
// swallowed.
func (s Outgoing) unsubscribe(id string, r *Rules, now time.Time) (Outgoing, []Action) {
	switch {
	case s.State == Expiring:
		return s, nil
	case s.State == None || s.ID == "":
		return s.finish(id)
	}
	s.State, s.StanzaID, s.Expires = Expiring, id, time.Time{}
	s, op := s.send(0, r, now)
	return s, []Action{op}
}

// finish ends it towards the user.
func (s Outgoing) finish(id string) (Outgoing, []Action) {
	out := []Action{Tell{Type: stanza.Unsubscribed, ID: id}}
	if s.State == Active || s.State == Expiring {
		out = append(out, Hide{})
	}
	return s.end(), out
}

// probe: RFC 3922 §5.1.4 announces a mapping and gives none; it is a fetch, or the
// answer that a living subscription has at hand.
func (s Outgoing) probe(id string, r *Rules, now time.Time) (Outgoing, []Action) {
	switch {
	case s.State == None:
		return s, []Action{Tell{Type: stanza.Unsubscribed, ID: id}}
	case s.State != Active, s.FetchTransID != "":
		return s, nil
	case s.ID != "" && !s.expired(now):
		return s, []Action{Replay{}}
	}
	s.FetchID, s.FetchTransID = r.newID(), r.newID()
	return s, []Action{Subscribe{s.Watcher, s.Target, 0, s.FetchID, s.FetchTransID}}
}

// online stops refreshing for a user without a session and begins anew when it is
// back (RFC 8048 §8.1: one old subscription must not cause traffic for ever).
func (s Outgoing) online(is bool, r *Rules, now time.Time) (Outgoing, []Action) {
	s.Away = !is
	if !is || s.State == None || s.State == Expiring || s.TransID != "" || s.ID != "" && now.Before(s.Next) {
		return s, nil
	}
	if s.expired(now) {
		s.ID, s.Expires = "", time.Time{}
	}
	s, op := s.send(r.ask(), r, now)
	return s, []Action{op}
}

func (s Outgoing) response(e Response, r *Rules, now time.Time) (Outgoing, []Action) {
	switch e.TransID {
	case "":
		return s, nil
	case s.FetchTransID:
		s.FetchTransID = ""
		if !e.OK {
			s.FetchID = ""
			if e.Reason == Denied || e.Reason == NotAllowed || e.Reason == NotFound {
				return s.finish("")
			}
		}
		return s, nil
	case s.TransID:
		s.TransID = ""
	default:
		return s, nil // of an operation that no longer matters
	}
	if !e.OK {
		return s.refused(e.Reason, r, now)
	}
	s.Failures = 0
	if s.State == Expiring {
		s.Next = now.Add(r.patience()) // for the last notification
		return s, nil
	}
	if s.Granted = e.Duration; e.Duration <= 0 {
		s.Granted = r.ask()
	}
	s.Expires = now.Add(s.Granted)
	s.Next = now.Add(r.refresh(s.Granted))
	return s, nil
}

// refused: RFC 3922 §6.1, the denial and the exceptions.
func (s Outgoing) refused(why Reason, r *Rules, now time.Time) (Outgoing, []Action) {
	if s.State == Expiring {
		if why == NotFound { // RFC 3922 §6.4
			id := s.StanzaID
			return s.end(), []Action{failure(stanza.ItemNotFound, id), Hide{}}
		}
		return s.finish(s.StanzaID) // it will run out over there
	}
	if why == Transient || why == Duplicate && s.State == Active {
		return s.failed(r, now)
	}
	if s.State == Active || why == Denied {
		return s.finish(s.StanzaID)
	}
	condition := stanza.ItemNotFound
	switch why {
	case NotAllowed:
		condition = stanza.Forbidden
	case Duplicate:
		condition = stanza.Conflict
	}
	id := s.StanzaID
	return s.end(), []Action{failure(condition, id)}
}

func failure(c stanza.Condition, id string) Tell {
	return Tell{Type: stanza.TypeError, ID: id, Err: stanza.Err(c, "")}
}

// failed waits for the next attempt. A request that nobody answers is given up.
func (s Outgoing) failed(r *Rules, now time.Time) (Outgoing, []Action) {
	s.TransID = ""
	s.Failures++
	if s.State == Pending && s.Failures >= pendingAttempts {
		id := s.StanzaID
		return s.end(), []Action{failure(stanza.RemoteServerTimeout, id)}
	}
	s.Next = now.Add(backoff(s.Failures))
	return s, nil
}

func (s Outgoing) notice(e Notice, r *Rules, now time.Time) (Outgoing, []Action) {
	switch s.State {
	case None: // not subscribed to: never shown
		return s, nil
	case Expiring:
		if s.TransID != "" && !e.Ended {
			return s, nil // RFC 3922 §6.4: no notification after unsubscribe
		}
		return s.finish(s.StanzaID)
	}
	if e.Ended {
		if e.Reason == Denied || e.Reason == NotFound || e.Reason == NotAllowed {
			return s.finish(s.StanzaID)
		}
		wait := e.RetryAfter
		if began := s.Expires.Add(-s.Granted); wait == 0 && now.Sub(began) < time.Minute {
			wait = backoff(1) // what ends as soon as it has begun must not go round and round
		}
		s.ID, s.TransID, s.Expires = "", "", time.Time{}
		if s.Away {
			s.Next = time.Time{}
			return s, nil
		}
		if wait > 0 {
			s.Next = now.Add(wait)
			return s, nil
		}
		s, op := s.send(r.ask(), r, now)
		return s, []Action{op}
	}
	if e.Undecided {
		return s, nil
	}
	var out []Action
	if s.State == Pending {
		out = append(out, Tell{Type: stanza.Subscribed, ID: s.StanzaID})
		s.State, s.StanzaID = Active, ""
	}
	s.FetchID = ""
	if e.Document != nil {
		out = append(out, Show{e.Document})
	}
	return s, out
}

func (s Outgoing) tick(r *Rules, now time.Time) (Outgoing, []Action) {
	if due := s.Due(); due.IsZero() || now.Before(due) {
		return s, nil
	}
	if s.State == Expiring {
		return s.finish(s.StanzaID)
	}
	var out []Action
	if s.ID != "" && s.expired(now) {
		if s.State == Active { // what was told is not known any more
			out = append(out, Hide{})
		}
		s.ID, s.Expires = "", time.Time{}
	}
	if s.Next.IsZero() || now.Before(s.Next) {
		return s, out
	}
	if s.TransID != "" { // no answer
		s, more := s.failed(r, now)
		return s, append(out, more...)
	}
	if s.Away {
		s.Next = time.Time{}
		return s, out
	}
	s, op := s.send(r.ask(), r, now)
	return s, append(out, op)
}
