package module

import (
	"context"
	"errors"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/store"
)

func run(ctx context.Context, p *Packet, steps []Step) error {
	for _, s := range steps {
		if err := s(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// Out runs the outbound steps for a stanza of p.Session that has its 'to'.
func (h *Host) Out(ctx context.Context, p *Packet) error {
	k := p.Stanza.Kind
	for ph := range phases {
		if err := run(ctx, p, h.out[ph][k]); err != nil {
			return err
		}
	}
	return nil
}

// Announce runs the steps for a presence of p.Session without 'to'.
func (h *Host) Announce(ctx context.Context, p *Packet) error {
	for ph := range phases {
		if err := run(ctx, p, h.broadcast[ph]); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) inBefore(ctx context.Context, p *Packet) error {
	k := p.Stanza.Kind
	if err := run(ctx, p, h.in[Guard][k]); err != nil {
		return err
	}
	return run(ctx, p, h.in[Rewrite][k])
}

func (h *Host) takeOver(ctx context.Context, p *Packet) error {
	for _, s := range h.noSession {
		if err := s(ctx, p); err != nil {
			return err
		}
	}
	return &stanza.Error{Condition: stanza.ServiceUnavailable}
}

func (h *Host) tellRefused(ctx context.Context, p *Packet) {
	for _, f := range h.refused {
		f(ctx, p)
	}
}

// SessionBound and SessionUnbound tell the modules of a session's life.
func (h *Host) SessionBound(ctx context.Context, s *Session) {
	for _, f := range h.bound {
		f(ctx, s)
	}
}

// SessionUnbound tells the modules that a session has ended.
func (h *Host) SessionUnbound(ctx context.Context, t *Turn, s *Session) {
	for _, f := range h.unbound {
		f(ctx, t, s)
	}
}

// AccountLeaving tells others that an account is about to be removed. Whoever
// removes one calls it first.
func (h *Host) AccountLeaving(ctx context.Context, t *Turn, account jid.JID) error {
	defer t.Flush() // also when one fails: outboxes that t has claimed wait for it
	for _, f := range h.leaving {
		if err := f(ctx, t, account); err != nil {
			return err
		}
	}
	return nil
}

// AccountRemoved purges the modules' data of an account.
func (h *Host) AccountRemoved(tx *store.Tx, account jid.JID) error {
	for _, f := range h.removed {
		if err := f(tx, account); err != nil {
			return err
		}
	}
	return nil
}

// StreamFeatures returns what modules offer on a stream.
func (h *Host) StreamFeatures(st Stage, host string) []stanza.Payload {
	var out []stanza.Payload
	for _, f := range h.features {
		if p := f(st, host); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// request answers an iq to the server or to an account, and sends the answer.
func (h *Host) request(ctx context.Context, p *Packet) error {
	st := p.Stanza
	child, err := requestChild(st)
	if err != nil {
		return err
	}
	at := Server
	if st.To.Local() != "" {
		at = Account
	}
	e, ok := h.iqs[iqKey{st.Type, child.Space, child.Local}][at]
	if !ok {
		// RFC 6120 §8.4, RFC 6121 §8.5.2.1.3
		return &stanza.Error{Condition: stanza.ServiceUnavailable}
	}
	if e.scope == Own && st.From.Bare() != st.To {
		return &stanza.Error{Condition: stanza.Forbidden} // RFC 6121 §2.3.3
	}
	p.Turn.Flush() // the handler may wait for the store; nobody else should
	payload, err := e.fn(ctx, &Request{Stanza: st, Payload: child, Session: p.Session, Turn: p.Turn})
	if err != nil {
		return err
	}
	reply := st.Result(payload)
	if p.Session != nil && p.Session.JID == st.From {
		p.Session.Deliver(p.Turn, reply, nil)
		return nil
	}
	err = h.Router.Send(ctx, p.Turn, reply, nil)
	var e2 *stanza.Error
	if errors.As(err, &e2) {
		return nil // an answer that cannot be delivered is dropped
	}
	return err
}

// refuse is what an account that is not there answers: what a stranger gets
// from one that is (RFC 6121 §8.5.1, §11).
func (h *Host) refuse(st *stanza.Stanza) error {
	if st.To.IsFull() {
		return &stanza.Error{Condition: stanza.ServiceUnavailable} // RFC 6121 §8.5.3.1
	}
	child, err := requestChild(st)
	if err != nil {
		return err
	}
	if h.iqs[iqKey{st.Type, child.Space, child.Local}][Account].scope == Own {
		return &stanza.Error{Condition: stanza.Forbidden}
	}
	return &stanza.Error{Condition: stanza.ServiceUnavailable}
}

// requestChild checks RFC 6120 §8.2.3: a request has exactly one child.
func requestChild(st *stanza.Stanza) (stanza.Child, error) {
	if st.Len() != 1 {
		return stanza.Child{}, stanza.Err(stanza.BadRequest, "an iq request has exactly one child element")
	}
	c, _ := st.First()
	return c, nil
}

// AnswersBeforeAuth tells whether a stream that has not authenticated may send
// an iq with this child.
func (h *Host) AnswersBeforeAuth(typ, space, local string) bool {
	return h.before[iqKey{typ, space, local}] != nil
}

// BeforeAuthRequest answers an iq on a stream that has not authenticated.
func (h *Host) BeforeAuthRequest(ctx context.Context, rq *Request) (stanza.Payload, error) {
	child, err := requestChild(rq.Stanza)
	if err != nil {
		return nil, err
	}
	rq.Payload = child
	fn := h.before[iqKey{rq.Stanza.Type, child.Space, child.Local}]
	if fn == nil {
		return nil, &stanza.Error{Condition: stanza.NotAuthorized}
	}
	return fn(ctx, rq)
}
