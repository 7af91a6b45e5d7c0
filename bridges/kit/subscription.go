package kit

import (
	"context"
	"errors"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
)

// subscription takes a subscription stanza of a user: RFC 6121 §3 and Appendix A.3.
func (g *Gateway) subscription(ctx context.Context, p *router.Packet) error {
	user, contact := p.Stanza.From.Bare(), p.Stanza.To.Bare()
	st := p.Stanza
	if st.From != user || st.To != contact {
		st = st.Readdressed(user, contact) // §3.1.2, §3.1.3
	}
	if st.Type == stanza.Subscribe && contact != g.domain {
		if err := g.admit(ctx, user); err != nil {
			return err
		}
	}
	p.Turn.Flush() // the store may make us wait
	ctx = context.WithoutCancel(ctx)
	b, err := g.book(ctx, user)
	if err != nil {
		return err
	}
	// The network is told before the state changes: what it is told is committed first
	// then, and a crash in between repeats it instead of losing it. An answer that it
	// gives at once is an approval beforehand (RFC 6121 §3.4) or finds the state as it was.
	_, tell, _ := received(st.Type, g.assumed(b, contact, st.Type))
	if tell && contact != g.domain {
		if err := g.net.Subscription(ctx, st); err != nil {
			return err
		}
	}
	both := Between{user, contact}
	g.herald.enter(both)
	defer g.herald.leave(both, 0, false)
	var reply string
	was, _, err := g.change(ctx, user, contact, func(b *book, e entry) (entry, error) {
		e.state, _, reply = received(st.Type, g.assumed(b, contact, st.Type))
		return e, nil
	})
	switch {
	case errors.Is(err, ErrTooMany):
		return stanza.Err(stanza.ResourceConstraint, "too many contacts at this gateway")
	case err != nil:
		return err
	}
	if st.Type == stanza.Unsubscribe && was.state.has(shown) {
		g.hide(ctx, p.Turn, user, contact) // §3.3.3
	}
	if reply != "" {
		g.send(ctx, p.Turn, stanza.New(stanza.Presence, reply, contact, user, st.ID))
		if reply == stanza.Subscribed {
			g.show(ctx, p.Turn, user, contact, !was.state.has(shown))
		}
	}
	return nil
}

// assumed is the state by which a user's stanza is judged: requests that need no
// answer of the network count as granted beforehand.
func (g *Gateway) assumed(b *book, contact jid.JID, typ string) state {
	s := b.state(contact)
	if typ != stanza.Subscribe || s.has(shown) {
		return s
	}
	d := g.def.Load()
	if contact == g.domain && (b.registered || d.Registration == nil) || // XEP-0100 §4.1.1
		contact != g.domain && d.Subscriptions == "accept" {
		s |= approved
	}
	return s
}

// Subscribe sends a subscription stanza on behalf of a contact, or of the gateway: a
// request to see the user's presence, the answer to a request of the user, or the
// end of either (RFC 6121 §3 and Appendix A.2). status is for people and may be empty.
// It tells whether the stanza went out; "subscribed" that nobody has asked for is
// remembered and grants the next request.
func (g *Gateway) Subscribe(ctx context.Context, typ string, contact, user jid.JID, status string) (routed bool, err error) {
	var payload stanza.Payload
	if status != "" {
		payload = stanza.TextEl(stanza.NSClient, "status", status)
	}
	var t router.Turn
	defer t.Flush()
	return g.subscribe(ctx, &t, stanza.New(stanza.Presence, typ, contact.Bare(), user.Bare(), "", payload))
}

func (g *Gateway) subscribe(ctx context.Context, t *router.Turn, st *stanza.Stanza) (routed bool, err error) {
	contact, user := st.From.Bare(), st.To.Bare()
	switch {
	case !g.ours(contact):
		return false, ErrForeign
	case !isSubscription(st.Type):
		return false, stanza.Err(stanza.BadRequest, "not a type of subscription stanzas")
	case user.IsZero():
		return false, stanza.Err(stanza.JIDMalformed, "no address of a user")
	}
	if st.From != contact || st.To != user {
		st = st.Readdressed(contact, user)
	}
	t.Flush()
	ctx = context.WithoutCancel(ctx)
	both := Between{user, contact}
	g.herald.enter(both)
	defer g.herald.leave(both, 0, false)
	was, now, err := g.change(ctx, user, contact, func(_ *book, e entry) (entry, error) {
		e.state, routed = sent(st.Type, e.state)
		return e, nil
	})
	if err != nil || !routed {
		return false, err
	}
	if st.Type == stanza.Unsubscribed && was.state.has(shown) {
		g.hide(ctx, t, user, contact) // §3.2.2: before the stanza
	}
	if err := g.opt.Router.Send(ctx, t, st, nil); err != nil {
		if was.state != now.state && st.Type == stanza.Subscribe {
			g.undo(ctx, user, contact)
		}
		return false, err
	}
	if st.Type == stanza.Subscribed {
		g.show(ctx, t, user, contact, true) // §3.1.5: behind the stanza
	}
	return true, nil
}

// undo takes a request back that could not be sent.
func (g *Gateway) undo(ctx context.Context, user, contact jid.JID) {
	_, _, err := g.change(ctx, user, contact, func(_ *book, e entry) (entry, error) {
		e.state &^= pendingOut
		return e, nil
	})
	if err != nil {
		g.log.Error("a subscription request is pending that was not sent", "contact", contact.String(), "user", user.String(), "err", err)
	}
}

// part ends everything between a user and a contact, as both would.
func (g *Gateway) part(ctx context.Context, t *router.Turn, user jid.JID, e *entry) {
	both := Between{user, e.jid}
	g.herald.enter(both)
	defer g.herald.leave(both, 0, false)
	say := func(typ string) { g.send(ctx, t, stanza.New(stanza.Presence, typ, e.jid, user, "")) }
	if e.state&(sees|pendingOut) != 0 {
		say(stanza.Unsubscribe)
	}
	if e.state.has(shown) && e.jid != g.domain {
		g.hide(ctx, t, user, e.jid)
	}
	if e.state&(shown|pendingIn) != 0 {
		say(stanza.Unsubscribed)
	}
	if e.jid == g.domain { // XEP-0100 §4.3.1: the gateway's own unavailability comes last
		say(stanza.Unavailable)
	}
}
