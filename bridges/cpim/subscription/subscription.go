// Package subscription translates between the two ideas of watching someone: the
// subscription of RFC 3859, which a duration ends and a refresh keeps alive, and
// the one of XMPP, an authorization that stands until it is taken back.
//
// Outgoing is an XMPP user's watch on a foreign presentity, Incoming a foreign
// watcher's on an XMPP user. Both are values that can be stored as they are. Their
// one method takes an event and the time and returns the next value with the
// actions to carry out; Due tells when to come back with a Tick. Nothing here does
// I/O, reads a clock or starts a timer.
//
//spec:rfc-3859 complete | Common Profile for Presence (CPP) | the subscription service, both ways, as a state machine
//spec:rfc-3922 complete | Mapping XMPP to CPIM | §6: subscriptions
package subscription

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"time"

	"trivium/bridges/cpim/pidf"
	"trivium/core/stanza"
)

// Rules are the durations and sources a subscription lives by. The zero value is
// the default.
type Rules struct {
	Ask      time.Duration // duration asked for; 0: an hour
	Min, Max time.Duration // durations granted; 0: a minute and a day
	Interval time.Duration // between notifications of one watcher; 0: 5 s
	Patience time.Duration // for an answer of the other side; 0: 32 s
	Hold     time.Duration // how long a watcher's answer waits for the user's; 0: 1 s

	// NewID makes identifiers that are unique in the world and over time, of at
	// most 40 octets (RFC 3859 §3.2). nil: random ones.
	NewID func() string
	// Jitter returns a number in [0,1). nil: a random one.
	Jitter func() float64
}

func or(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

func (r *Rules) ask() time.Duration      { return or(r.Ask, time.Hour) }
func (r *Rules) patience() time.Duration { return or(r.Patience, 32*time.Second) }
func (r *Rules) interval() time.Duration { return or(r.Interval, 5*time.Second) }
func (r *Rules) hold() time.Duration     { return or(r.Hold, time.Second) }

func (r *Rules) grant(d time.Duration) time.Duration {
	return min(max(d, or(r.Min, time.Minute)), or(r.Max, 24*time.Hour))
}

func (r *Rules) newID() string {
	if r.NewID != nil {
		return r.NewID()
	}
	return rand.Text()
}

// refresh returns when to refresh what has been granted for d: after 80 % of it,
// give or take a tenth, so that refreshes spread out.
func (r *Rules) refresh(d time.Duration) time.Duration {
	j := r.Jitter
	if j == nil {
		j = mathrand.Float64
	}
	return time.Duration(float64(d) * 0.8 * (0.9 + 0.2*j()))
}

// backoff returns how long to wait after n failures in a row: 2 s, 4 s, ... 300 s.
func backoff(n int) time.Duration {
	return min(time.Second<<min(n, 9), 300*time.Second)
}

// State is where a subscription stands.
type State uint8

// The states. An Expiring subscription is being cancelled.
const (
	None State = iota
	Pending
	Active
	Expiring
)

func (s State) String() string {
	return [...]string{"none", "pending", "active", "expiring"}[s&3]
}

// A Reason says why a subscription was refused or has ended.
type Reason uint8

// The reasons.
const (
	Transient  Reason = iota // the next attempt may do; silence counts as this
	Denied                   // the target said no
	NotFound                 // there is no such presentity
	NotAllowed               // access control says no
	Duplicate                // the pair has a subscription already
)

// An Event is what happens to a subscription.
type Event interface{ event() }

// The events. Those of the XMPP side are Presence, Online, Changed and Blocked,
// those of the other side Request, Response and Notice.
type (
	// Presence is a stanza of the XMPP user to the other side: subscribe,
	// unsubscribe or probe to what is Outgoing, subscribed or unsubscribed to what
	// is Incoming.
	Presence struct{ Type, ID string }
	// Online tells whether the user has a session.
	Online struct{ Now bool }
	// Changed says that there is something new to notify about.
	Changed struct{}
	// Blocked tells whether the user blocks the watcher (XEP-0191).
	Blocked struct{ Now bool }
	// Request is the subscribe operation of a watcher. Duration 0 cancels the
	// subscription of that SubscriptID, or fetches (RFC 3859 §3.4.3).
	Request struct {
		Duration             time.Duration
		SubscriptID, TransID string
	}
	// Response answers a subscribe operation of ours.
	Response struct {
		TransID  string
		OK       bool
		Duration time.Duration // what was granted
		Reason   Reason        // if not OK
	}
	// Notice is the notify operation of a presentity. Protocols that tell more than
	// RFC 3859 say here that the target has not decided yet, or that the
	// subscription has ended, and why.
	Notice struct {
		Document   *pidf.Presence // nil: unknown
		Undecided  bool
		Ended      bool
		Reason     Reason        // if Ended
		RetryAfter time.Duration // if Ended and Transient
	}
	// Tick says that the time is Due.
	Tick struct{}
)

func (Presence) event() {}
func (Online) event()   {}
func (Changed) event()  {}
func (Blocked) event()  {}
func (Request) event()  {}
func (Response) event() {}
func (Notice) event()   {}
func (Tick) event()     {}

// An Action is what has to be done, in the order given.
type Action interface{ action() }

// The actions. Tell, Show, Replay, Hide, Question and Leave go to the XMPP user;
// Subscribe, Answer, Notify and End to the other side.
type (
	// Tell is a presence stanza of this type from the bare address of the other
	// side: subscribed, unsubscribed or an error.
	Tell struct {
		Type, ID string
		Err      *stanza.Error
	}
	// Show is a document to be told the user (cpim.Mapper.Notify).
	Show struct{ Document *pidf.Presence }
	// Replay is the presence last told, to be told again (cpim.Watched.Replay).
	Replay struct{}
	// Hide makes all that was told unavailable (cpim.Watched.Close).
	Hide struct{}
	// Question asks the user: presence of type subscribe from the watcher.
	Question struct{ ID string }
	// Leave is unavailable presence from the watcher: it does not look any more.
	Leave struct{}

	// Subscribe is the subscribe operation of RFC 3859 §3.2. Watcher and Target
	// are pres: URIs.
	Subscribe struct {
		Watcher, Target      string
		Duration             time.Duration
		SubscriptID, TransID string
	}
	// Answer is the response to a Request.
	Answer struct {
		TransID  string
		OK       bool
		Duration time.Duration
		Reason   Reason // if not OK
	}
	// Notify is the notify operation.
	Notify struct {
		SubscriptID, TransID string
		What                 What
		Last                 bool // none follows in this subscription
	}
	// End tells the watcher that the user has taken the authorization back, which
	// RFC 3922 §6.5 calls a subscription of duration 0. There is no notification.
	End struct{ SubscriptID, TransID string }
)

func (Tell) action()      {}
func (Show) action()      {}
func (Replay) action()    {}
func (Hide) action()      {}
func (Question) action()  {}
func (Leave) action()     {}
func (Subscribe) action() {}
func (Answer) action()    {}
func (Notify) action()    {}
func (End) action()       {}

// What a notification says.
type What uint8

// The contents of notifications.
const (
	Current   What = iota // the full state (cpim.Presentity.Document)
	Withheld              // closed, and nothing else (cpim.Presentity.Closed)
	Undecided             // closed, with the note "pending": the user has not decided
)

// earliest returns the earlier of two times, of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
