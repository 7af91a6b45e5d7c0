package cpim

import (
	"time"

	"trivium/bridges/cpim/address"
	"trivium/core/stanza"
)

// A Status is the outcome of the message operation: RFC 3860 §3.2.
type Status string

// The three outcomes, in the RFC's own spelling.
const (
	Success       Status = "success"       // this side has delivered the message
	Failed        Status = "failure"       // it will not be delivered
	Indeterminant Status = "indeterminant" // handed on, and nobody will ever tell
)

// InitialForwards is the hop count of a message that enters CPIM here. RFC 3860
// §3.4 wants more than 100.
const InitialForwards = 120

// An Operation is the message operation of RFC 3860 §3.2, from or to a service
// that speaks another protocol.
type Operation struct {
	Source, Destination string // im: URIs
	MaxForwards         int
	TransID             string // opaque; what the answer is matched by
	Content             string // one object with its MIME header
}

// Answer returns the status for what a mapping or a delivery has returned.
func Answer(err error) Status {
	if err != nil {
		return Failed
	}
	return Success
}

// Receive takes an operation of the other side. meta goes with the stanzas through
// the server, so that a message that leaves for CPIM again goes on counting. The
// error is a *stanza.Error; its status is Answer's.
func (m *Mapper) Receive(op Operation, now time.Time) (sts []*stanza.Stanza, meta Meta, err error) {
	// RFC 3860 §3.4.1: the order of the checks.
	var env Envelope
	if env.From, err = account(op.Source); err != nil {
		return nil, Meta{}, err
	}
	if env.To, err = account(op.Destination); err != nil {
		return nil, Meta{}, err
	}
	if op.MaxForwards <= 0 {
		return nil, Meta{}, Loop.Error("the message has been forwarded too often")
	}
	meta = Meta{Received: now, MaxForwards: op.MaxForwards - 1, Forwarded: true}
	sts, err = m.ReadMessage(op.Content, env, now)
	return sts, meta, err
}

// Send makes the operation that carries a message stanza to the other side, under
// the given TransID. The error is that of Message.
func (m *Mapper) Send(st *stanza.Stanza, meta Meta, transID string) (Operation, error) {
	op := Operation{TransID: transID, MaxForwards: InitialForwards}
	if meta.Forwarded {
		if op.MaxForwards = meta.MaxForwards; op.MaxForwards <= 0 {
			return Operation{}, Loop.Error("the message has been forwarded too often")
		}
	}
	content, err := m.AppendMessage(nil, st, meta)
	if err != nil {
		return Operation{}, err
	}
	op.Content = string(content)
	if op.Source, err = address.URI(address.IM, st.From); err == nil {
		op.Destination, err = address.URI(address.IM, st.To)
	}
	return op, failed(err)
}
