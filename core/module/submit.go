package module

import (
	"context"
	"errors"

	"trivium/core/jid"
	"trivium/core/stanza"
)

// Submit sends a stanza on behalf of its sender, as a client of the sender would: what
// an account of ours sends takes the outbound steps (its archive, its other sessions,
// its roster), anything else is routed as it is. The stanza has both addresses; the
// caller has seen to it that 'from' may be used. Errors are what the sender would have
// been told; rc is as for router.Send.
func (h *Host) Submit(ctx context.Context, t *Turn, st *stanza.Stanza, rc *Receipt) error {
	if !h.ours(st.From) {
		return h.Router.Send(ctx, t, st, rc)
	}
	st = humble(st)
	p := &Packet{Stanza: st, Session: h.Router.Agent(st.From), Turn: t, Receipt: rc}
	err := h.Out(ctx, p)
	if err == nil {
		err = h.Router.Route(ctx, p)
	}
	if errors.Is(err, ErrHandled) {
		return nil
	}
	return err
}

// Ask sends an iq request on behalf of its sender and returns the answer, which is a
// result or an error stanza. ctx bounds the wait; the error is ctx's or that of an
// outbound step. A request without 'to' is for the sender's own account (RFC 6120
// §10.3.3).
func (h *Host) Ask(ctx context.Context, st *stanza.Stanza) (*stanza.Stanza, error) {
	if st.To.IsZero() {
		st = st.Readdressed(st.From, st.From.Bare())
	}
	if h.ours(st.From) {
		st = humble(st)
		var t Turn
		p := &Packet{Stanza: st, Session: h.Router.Agent(st.From), Turn: &t}
		err := h.Out(ctx, p)
		t.Flush()
		var refused *stanza.Error
		switch {
		case errors.As(err, &refused):
			return st.ErrorReply(refused), nil
		case err != nil:
			return nil, err
		}
		st = p.Stanza
	}
	return h.Router.Ask(ctx, st)
}

// agentResource is where programs speak from that speak to their own account's clients.
const agentResource = "rest"

// humble gives what an account says to its own clients a resource to come from. What
// comes from its bare address they take for the server's word: carbons (XEP-0280 §11),
// results of archives (XEP-0313 §4.2), roster pushes (RFC 6121 §2.1.6).
func humble(st *stanza.Stanza) *stanza.Stanza {
	if !st.From.IsBare() || st.To.Bare() != st.From || st.Kind != stanza.Message && st.To.IsBare() {
		return st
	}
	from, err := jid.New(st.From.Local(), st.From.Domain(), agentResource)
	if err != nil {
		return st // its parts were prepared before: this cannot be
	}
	return st.Readdressed(from, st.To)
}

// ours tells whether an address is an account's, or a resource of one.
func (h *Host) ours(j jid.JID) bool { return j.Local() != "" && h.Router.Hosts(j.Domain()) }
