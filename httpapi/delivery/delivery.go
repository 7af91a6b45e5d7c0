// Package delivery knows what became of messages that were sent by REST: receipts
// (XEP-0184), markers (XEP-0333) and errors that come back to their senders.
//
// The latest messages are in memory, some thousands of them. Those that somebody
// wants to follow are in the database as well, for a week and across restarts; a
// filter in front of it keeps the receipts of everybody else away.
//
// Only the recipient of a message can acknowledge it. Errors do not undo what was
// acknowledged, and nothing goes back.
//
//spec:xep-0184 1.4.0 partial | Message Delivery Receipts | requested and recognised for programs
//spec:xep-0333 1.0.0 partial | Displayed Markers | requested and recognised for programs
package delivery

import (
	"time"

	"trivium/core/stanza"
)

// States of a message.
const (
	Pending   = "pending"   // on its way: it is not known yet whether it is safe
	Accepted  = "accepted"  // safe: with the recipient's devices, stored, or with another server
	Delivered = "delivered" // a device of the recipient has acknowledged it
	Displayed = "displayed" // the recipient has seen it
	Failed    = "failed"    // refused; Condition says why
)

// Status is what became of one message.
type Status struct {
	ID        string     `json:"id" doc:"The stanza's id."`
	From      string     `json:"from" format:"xmpp-jid" doc:"Who sent it."`
	To        string     `json:"to" format:"xmpp-jid" doc:"To whom."`
	State     string     `json:"status" enum:"pending,accepted,delivered,displayed,failed" doc:"The last that is known. delivered and displayed need a recipient who says so."`
	Created   time.Time  `json:"created" doc:"When the server got it."`
	Accepted  *time.Time `json:"accepted,omitempty" doc:"When it was safe."`
	Delivered *time.Time `json:"delivered,omitempty" doc:"When the first receipt came."`
	Displayed *time.Time `json:"displayed,omitempty" doc:"When the first marker said so."`
	Failed    *time.Time `json:"failed,omitempty" doc:"When it was refused."`
	Condition string     `json:"condition,omitempty" doc:"Why it failed: the stanza error condition of RFC 6120 section 8.3.3."`
	ErrorType string     `json:"error_type,omitempty" doc:"What the sender may do about it (RFC 6120 section 8.3.2)."`
	Text      string     `json:"text,omitempty" doc:"An explanation for people, if the recipient's side gave one."`
}

// progress is how far a message has got, in microseconds since 1970; 0: not yet.
type progress struct {
	created, accepted, delivered, displayed, failed int64
	reason                                          *stanza.Error // of failed
}

// reach notes that a state was reached, and tells whether that is news.
func (p *progress) reach(state string, at int64, reason *stanza.Error) bool {
	set := func(field *int64) bool {
		if *field != 0 {
			return false
		}
		*field = at
		return true
	}
	switch state {
	case Accepted:
		return set(&p.accepted)
	case Delivered:
		return set(&p.delivered)
	case Displayed:
		return set(&p.displayed)
	case Failed:
		if p.delivered != 0 || p.displayed != 0 || !set(&p.failed) {
			return false // another device has it
		}
		p.reason = reason
		return true
	}
	return false
}

// state is the last that was reached. What is acknowledged has not failed.
func (p *progress) state() string {
	switch {
	case p.displayed != 0:
		return Displayed
	case p.delivered != 0:
		return Delivered
	case p.failed != 0:
		return Failed
	case p.accepted != 0:
		return Accepted
	}
	return Pending
}

// status fills in what p says.
func (p *progress) status(id, from, to string) Status {
	at := func(micro int64) *time.Time {
		if micro == 0 {
			return nil
		}
		t := time.UnixMicro(micro).UTC()
		return &t
	}
	s := Status{
		ID: id, From: from, To: to, State: p.state(), Created: time.UnixMicro(p.created).UTC(),
		Accepted: at(p.accepted), Delivered: at(p.delivered), Displayed: at(p.displayed),
	}
	if s.State == Failed && p.reason != nil {
		s.Failed = at(p.failed)
		s.Condition, s.ErrorType, s.Text = string(p.reason.Condition), string(p.reason.ErrType()), p.reason.Text
	}
	return s
}
