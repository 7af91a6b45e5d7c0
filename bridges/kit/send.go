package kit

import (
	"context"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Send sends what the network says, from the gateway or one of its contacts. Presence
// and subscriptions are as SetPresence and Subscribe; the answer to a request goes to
// whoever has asked, once (ErrNoRequest: nobody has, or it has been answered); requests of
// the network get their answer in Network.IQ. Everything else is routed. rc is as for
// router.Send; an error is what the sender is to be told, or ErrForeign.
func (g *Gateway) Send(ctx context.Context, t *router.Turn, st *stanza.Stanza, rc *router.Receipt) error {
	if !g.ours(st.From) {
		return ErrForeign
	}
	switch st.Kind {
	case stanza.Presence:
		return g.sendPresence(ctx, t, st)
	case stanza.IQ:
		return g.sendIQ(ctx, t, st)
	}
	return g.opt.Router.Send(ctx, t, st, rc)
}

func (g *Gateway) sendPresence(ctx context.Context, t *router.Turn, st *stanza.Stanza) error {
	switch {
	case st.Type == "" || st.Type == stanza.Unavailable:
		return g.SetPresence(ctx, st)
	case isSubscription(st.Type):
		_, err := g.subscribe(ctx, t, st)
		return err
	case st.To.IsZero():
		return stanza.Err(stanza.BadRequest, "no recipient")
	}
	return g.opt.Router.Send(ctx, t, st, nil) // a probe, or an error
}

func (g *Gateway) sendIQ(ctx context.Context, t *router.Turn, st *stanza.Stanza) error {
	if st.To.IsZero() {
		return stanza.Err(stanza.BadRequest, "no recipient")
	}
	if st.Type == stanza.Result || st.Type == stanza.TypeError {
		if !g.requests.take(request{st.To, st.From, st.ID}, nil) {
			return ErrNoRequest
		}
		return g.opt.Router.Send(ctx, t, st, nil)
	}
	if st.ID == "" {
		return stanza.Err(stanza.BadRequest, "a request has an id") // RFC 6120 §8.1.3
	}
	q := request{st.From, st.To, st.ID}
	late := func() {
		e := st.ErrorReply(&stanza.Error{Condition: stanza.RemoteServerTimeout})
		if err := g.net.IQ(context.Background(), e); err != nil {
			g.log.Warn("the end of a request was not told", "err", err)
		}
	}
	if err := g.requests.add(q, false, &g.opt, late); err != nil {
		return err
	}
	if err := g.opt.Router.Send(ctx, t, st, nil); err != nil {
		g.requests.take(q, nil)
		return err
	}
	return nil
}

// Erase ends the gateway for good: users are told, and everything the store has of it
// is deleted. The domain must have been taken from the router before.
func (g *Gateway) Erase(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var t router.Turn
	last := ""
	for {
		rows, err := g.opt.Store.Query(ctx, `SELECT DISTINCT account FROM kit_contact WHERE domain = ? AND account > ? ORDER BY account LIMIT ?`,
			g.domain.Domain(), last, page)
		if err != nil {
			return err
		}
		var users []jid.JID
		for rows.Next() {
			var j jid.JID
			if err := rows.Scan(&j); err != nil {
				rows.Close()
				return err
			}
			users = append(users, j)
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		for _, u := range users {
			b, err := g.book(ctx, u)
			if err != nil {
				return err
			}
			for i := range b.contacts {
				g.part(ctx, &t, u, &b.contacts[i])
			}
		}
		t.Flush()
		if len(users) < page {
			break
		}
		last = users[len(users)-1].String()
	}
	err := g.opt.Store.Write(ctx, func(tx *store.Tx) error {
		for _, q := range [...]string{
			`DELETE FROM kit_registration WHERE domain = ?`,
			`DELETE FROM kit_contact WHERE domain = ?`,
			`DELETE FROM kit_presence WHERE domain = ?`,
			`DELETE FROM kit_profile WHERE domain = ?`,
		} {
			if _, err := tx.Exec(q, g.domain.Domain()); err != nil {
				return err
			}
		}
		return nil
	})
	g.books.InvalidateAll()
	return err
}
