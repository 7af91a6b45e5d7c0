// Package event is the log of what programs are told about: stanzas for gateway
// domains and for watched accounts, registrations with gateways, what became of
// messages sent by REST. Webhooks and event streams read the same log, so an
// event has one number, one id and one form wherever it is seen.
//
// An event is committed before whoever caused it gets an acknowledgement, and is
// kept for Options.Keep. Numbers only rise.
package event

import (
	"strconv"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
)

// Type says what has happened.
type Type string

// The types.
const (
	// Message: a message stanza, errors among them.
	Message Type = "message"
	// Presence: presence without type or unavailable, a probe or an error, to an
	// address of a gateway.
	Presence Type = "presence"
	// Subscription: a presence stanza of a subscription type (RFC 6121 §3).
	Subscription Type = "subscription"
	// IQ: a request that a gateway has to answer.
	IQ Type = "iq"
	// Registration: a user has registered with a gateway, changed the registration or
	// ended it (XEP-0100 §4.1). It has Data and no Stanza.
	Registration Type = "registration"
	// Delivery: what became of a message that was sent by REST. It has Data.
	Delivery Type = "delivery"
	// Test: nothing; somebody wants to see an event arrive. It has Data.
	Test Type = "test"
)

// Types are all of them.
var Types = []Type{Message, Presence, Subscription, IQ, Registration, Delivery, Test}

// Event is one entry of the log. It is not changed once appended.
type Event struct {
	Seq  int64 // its place; microseconds since 1970 or a little more
	Type Type
	Time time.Time // when the server took it
	// Host is the domain of ours that the event is about: a gateway domain or a
	// virtual host.
	Host     string
	From, To jid.JID
	Stanza   []byte // the stanza as a document; nil where there is none
	Data     []byte // a JSON object where there is no stanza
	Trace    string // traceparent of W3C Trace Context, of what caused it; may be empty
	Key      string // orders events of which neither From nor To is the same; usually empty
}

// ID returns the event's id, which is the webhook-id of Standard Webhooks and the
// id of a server-sent event.
func (e *Event) ID() string { return FormatID(e.Seq) }

// FormatID returns the id of the event with that number.
func FormatID(seq int64) string { return "evt_" + strconv.FormatInt(seq, 36) }

// ParseID reads an id.
func ParseID(id string) (seq int64, ok bool) {
	digits, ok := strings.CutPrefix(id, "evt_")
	if !ok || digits == "" || digits[0] == '-' || digits[0] == '+' {
		return 0, false
	}
	seq, err := strconv.ParseInt(digits, 36, 64)
	return seq, err == nil
}

// Conversation is what events are ordered within: one sender and one recipient,
// bare addresses.
type Conversation struct{ From, To, Key string }

// Conversation returns the one that the event belongs to.
func (e *Event) Conversation() Conversation {
	return Conversation{e.From.Bare().String(), e.To.Bare().String(), e.Key}
}

// Of makes an event of a stanza. It shares no memory with it.
func Of(t Type, host string, st *stanza.Stanza) *Event {
	return &Event{
		Type: t, Host: host, From: st.From.Clone(), To: st.To.Clone(),
		Stanza: st.AppendDocument(make([]byte, 0, st.Size()+32)),
	}
}
