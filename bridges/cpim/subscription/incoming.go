package subscription

import (
	"time"

	"trivium/core/stanza"
)

// Incoming is a foreign watcher's subscription to an XMPP user: RFC 3922 §6.2 and
// §6.5. The authorization and what the watcher has asked for live apart: the one
// ends when the user says so, the other when its time is up.
type Incoming struct {
	Authorized bool // the user has agreed
	Asked      bool // the user has been asked and has not answered
	Blocked    bool

	ID       string        // SubscriptID of the living subscription; empty: none
	Granted  time.Duration // to it
	Expires  time.Time     // its end
	TransID  string        // of the request whose response waits for the user
	AnswerBy time.Time     // when that response has to be given
	Notified time.Time     // the last notification
	Owed     bool          // something has changed since
}

// State sums up where the subscription stands.
func (s Incoming) State() State {
	switch {
	case s.ID == "":
		return None
	case s.Authorized:
		return Active
	}
	return Pending
}

// Due returns when to come back with a Tick, zero for never.
func (s Incoming) Due(r *Rules) time.Time {
	if s.ID == "" {
		return time.Time{}
	}
	due := s.Expires
	if s.TransID != "" {
		due = earliest(due, s.AnswerBy)
	}
	if s.Owed {
		due = earliest(due, s.Notified.Add(r.interval()))
	}
	return due
}

// On returns what the event makes of the subscription, and what is to be done.
func (s Incoming) On(e Event, r *Rules, now time.Time) (Incoming, []Action) {
	switch e := e.(type) {
	case Request:
		return s.request(e, r, now)
	case Presence:
		switch e.Type {
		case stanza.Subscribed:
			return s.allow(r, now)
		case stanza.Unsubscribed:
			return s.deny(e.ID)
		}
	case Changed:
		if s.State() != Active {
			return s, nil
		}
		s.Owed = true
		return s.catchUp(r, now, nil)
	case Blocked:
		return s.block(e.Now, r, now)
	case Tick:
		return s.tick(r, now)
	}
	return s, nil
}

// request: RFC 3859 §3.4.1, in the order of its checks.
func (s Incoming) request(e Request, r *Rules, now time.Time) (Incoming, []Action) {
	if s.ID != "" && !now.Before(s.Expires) { // its Tick is late
		s, before := s.tick(r, now)
		s, out := s.request(e, r, now)
		return s, append(before, out...)
	}
	known := s.ID != "" && e.SubscriptID == s.ID
	switch {
	case s.Blocked:
		return s, []Action{Answer{TransID: e.TransID, Reason: NotAllowed}}
	case e.Duration <= 0 && known: // cancelled, §3.4.3
		s, last := s.notify(Current, r, now)
		last.Last = true
		if !s.Authorized {
			last.What = Undecided
		}
		var out []Action
		if s.TransID != "" {
			out = append(out, Answer{TransID: s.TransID, OK: true, Duration: s.Granted})
		}
		s.ID, s.TransID, s.Owed = "", "", false
		out = append(out, Answer{TransID: e.TransID, OK: true}, last)
		if s.Authorized {
			out = append(out, Leave{})
		}
		return s, out
	case e.Duration <= 0: // fetched, §3.4.3
		if !s.Authorized {
			return s, []Action{Answer{TransID: e.TransID, Reason: NotAllowed}}
		}
		return s, []Action{
			Answer{TransID: e.TransID, OK: true},
			Notify{SubscriptID: e.SubscriptID, TransID: r.newID(), What: Current, Last: true},
		}
	case s.ID != "" && !known:
		return s, []Action{Answer{TransID: e.TransID, Reason: Duplicate}}
	}
	s.ID, s.Granted = e.SubscriptID, r.grant(e.Duration)
	s.Expires = now.Add(s.Granted)
	if s.Authorized {
		s, n := s.notify(Current, r, now)
		return s, []Action{Answer{TransID: e.TransID, OK: true, Duration: s.Granted}, n}
	}
	if s.Asked && s.TransID == "" && known { // refreshed before the user has decided
		s, n := s.notify(Undecided, r, now)
		return s, []Action{Answer{TransID: e.TransID, OK: true, Duration: s.Granted}, n}
	}
	var out []Action
	if s.TransID != "" { // the same request again
		out = append(out, Answer{TransID: s.TransID, OK: true, Duration: s.Granted})
	}
	// RFC 3922 §6.2. The response waits a moment for the user's answer, who may be
	// a program or have decided before.
	s.TransID, s.AnswerBy = e.TransID, now.Add(r.hold())
	if !s.Asked || !known {
		s.Asked = true
		out = append(out, Question{ID: e.TransID})
	}
	return s, out
}

// notify makes a notification that accompanies something else.
func (s Incoming) notify(w What, r *Rules, now time.Time) (Incoming, Notify) {
	s.Notified, s.Owed = now, false
	return s, Notify{SubscriptID: s.ID, TransID: r.newID(), What: w}
}

// allow: RFC 3922 §6.2, the user agrees.
func (s Incoming) allow(r *Rules, now time.Time) (Incoming, []Action) {
	if s.Authorized {
		return s, nil
	}
	s.Authorized, s.Asked = true, false
	if s.ID == "" {
		return s, nil
	}
	var out []Action
	if s.TransID != "" {
		out = append(out, Answer{TransID: s.TransID, OK: true, Duration: s.Granted})
		s.TransID = ""
	}
	s, n := s.notify(Current, r, now)
	return s, append(out, n)
}

// deny: RFC 3922 §6.2 and §6.5, the user says no, at once or later. There is no
// further notification.
func (s Incoming) deny(id string) (Incoming, []Action) {
	var out []Action
	switch {
	case s.TransID != "":
		out = append(out, Answer{TransID: s.TransID, Reason: Denied})
	case s.ID != "":
		out = append(out, End{SubscriptID: s.ID, TransID: id})
	}
	return Incoming{Blocked: s.Blocked}, out
}

// block: the watcher sees the user leave and is not told more.
func (s Incoming) block(is bool, r *Rules, now time.Time) (Incoming, []Action) {
	if s.Blocked == is {
		return s, nil
	}
	s.Blocked = is
	if !is || s.ID == "" {
		return s, nil
	}
	var out []Action
	switch {
	case s.TransID != "":
		out = append(out, Answer{TransID: s.TransID, Reason: NotAllowed})
	case s.Authorized:
		var n Notify
		s, n = s.notify(Withheld, r, now)
		n.Last = true
		out = append(out, n)
	}
	s.ID, s.TransID, s.Owed = "", "", false
	return s, out
}

// catchUp notifies of a change if the last notification is long enough ago (RFC
// 3856 §6.10); the latest state wins.
func (s Incoming) catchUp(r *Rules, now time.Time, out []Action) (Incoming, []Action) {
	if !s.Owed || s.State() != Active || now.Before(s.Notified.Add(r.interval())) {
		return s, out
	}
	s, n := s.notify(Current, r, now)
	return s, append(out, n)
}

func (s Incoming) tick(r *Rules, now time.Time) (Incoming, []Action) {
	if s.ID == "" {
		return s, nil
	}
	var out []Action
	if s.TransID != "" && !now.Before(s.AnswerBy) {
		// RFC 3859 §3.4.1 wants the response at once. The user has not decided:
		// the watcher learns that, as in RFC 3856 §6.6, and nothing more.
		out = append(out, Answer{TransID: s.TransID, OK: true, Duration: s.Granted})
		s.TransID = ""
		var n Notify
		s, n = s.notify(Undecided, r, now)
		out = append(out, n)
	}
	if !now.Before(s.Expires) {
		// RFC 3922 §6.2: the duration is over. The authorization stays.
		s.ID, s.Owed = "", false
		if s.Authorized {
			out = append(out, Leave{})
		}
		return s, out
	}
	return s.catchUp(r, now, out)
}
