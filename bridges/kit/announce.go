package kit

import (
	"context"
	"slices"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
)

// page is how many users are told of something before the outboxes are flushed.
const page = 256

// tell brings one change to those who see it; gone: only that an address has gone. All of
// them are told the same, even if there is another change meanwhile.
func (g *Gateway) tell(ctx context.Context, c change, gone bool) {
	var t router.Turn
	defer t.Flush()
	contact := c.from.Bare()
	if c.whole {
		if !gone {
			g.announceAll(ctx, &t, c.user, contact, c.n, g.herald.told, 0)
		}
		return
	}
	is := g.look(Between{Contact: contact})
	one := func(user jid.JID) {
		mine := c
		if c.user.IsZero() {
			mine.user, mine.owed = user, true
		}
		g.announceTo(ctx, &t, user, mine, &is, func(is *sight) []*stanza.Stanza {
			list := g.among(ctx, is.list, contact, user)
			i := slices.IndexFunc(list, func(st *stanza.Stanza) bool { return st.From == c.from })
			switch {
			case i >= 0 && gone && list[i].Type == "":
				return nil
			case i >= 0:
				return list[i : i+1]
			}
			out := []*stanza.Stanza{stanza.New(stanza.Presence, stanza.Unavailable, c.from, jid.JID{}, "")}
			for _, st := range list { // assumed again
				if st.Type == "" && st.From.IsBare() && !gone {
					out = append(out, st)
				}
			}
			return out
		})
	}
	if !c.user.IsZero() {
		one(c.user)
		return
	}
	err := g.watchers(ctx, contact, one, t.Flush)
	if err != nil && ctx.Err() == nil {
		g.log.Error("presence of a contact was not told", "contact", contact.String(), "err", err)
	}
}

// announceAll tells a recipient of all that is available of a contact, or that it is not
// any more; n is the number of the change.
func (g *Gateway) announceAll(ctx context.Context, t *router.Turn, to, contact jid.JID, n uint64, up bool, since uint64) {
	c := change{from: contact, user: to, whole: true, owed: true, n: n}
	g.announceTo(ctx, t, to, c, nil, func(is *sight) []*stanza.Stanza {
		if !up {
			is.n = n // a loss says nothing of what was found after it
			is.since = since
		}
		var out []*stanza.Stanza
		for _, st := range g.among(ctx, is.list, contact, to) {
			switch {
			case st.Type != "":
			case up:
				out = append(out, st)
			default:
				out = append(out, stanza.New(stanza.Presence, stanza.Unavailable, st.From, jid.JID{}, ""))
			}
		}
		return out
	})
}

// watchers calls f for every user who sees a contact, and done after each page.
func (g *Gateway) watchers(ctx context.Context, contact jid.JID, f func(user jid.JID), done func()) error {
	last := ""
	for {
		rows, err := g.opt.Store.Query(ctx, `SELECT account FROM kit_contact
			WHERE domain = ? AND contact = ? AND account > ? AND (state & ?) <> 0 ORDER BY account LIMIT ?`,
			g.domain.Domain(), contact.String(), last, int64(shown), page)
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
			f(u)
		}
		done()
		if len(users) < page {
			return nil
		}
		last = users[len(users)-1].String()
	}
}

// announce tells all who see any contact that it is available again, or that it is not;
// n is the number of that. since is zero, or limits it to those who have heard something since.
func (g *Gateway) announce(ctx context.Context, up bool, n, since uint64) {
	var t router.Turn
	defer t.Flush()
	h := &g.herald
	reach := func(p Between, n uint64) {
		h.mu.Lock()
		h.announcing, h.announced = p, n
		h.mu.Unlock()
	}
	err := g.eachWatched(ctx, func(user, contact jid.JID) {
		if up {
			reach(Between{user, contact}, n)
		}
		g.announceAll(ctx, &t, user, contact, n, up, since)
	}, t.Flush)
	reach(Between{}, 0)
	if err != nil && ctx.Err() == nil {
		g.log.Error("the state of the gateway was not announced to all", "up", up, "err", err)
	}
	// Those who see a contact without a subscription: the one that its presence was for,
	// and who has logged in.
	g.presences.by.Range(func(contact jid.JID, list []*Last) bool {
		for _, l := range list {
			if l.User.IsZero() || l.Stanza.Type != "" {
				continue
			}
			if b, err := g.book(ctx, l.User); err == nil && !b.state(contact).has(shown) {
				g.announceAll(ctx, &t, l.User, contact, n, up, since)
			}
		}
		return true
	})
	for _, full := range g.online.all() {
		if b, err := g.book(ctx, full.Bare()); err == nil && !b.state(g.domain).has(shown) {
			g.announceAll(ctx, &t, full, g.domain, n, up, since)
		}
	}
}

// eachWatched calls f for every user and contact of whom the user sees the presence.
func (g *Gateway) eachWatched(ctx context.Context, f func(user, contact jid.JID), done func()) error {
	var account, contact string
	for {
		rows, err := g.opt.Store.Query(ctx, `SELECT account, contact FROM kit_contact
			WHERE domain = ? AND (account, contact) > (?, ?) AND (state & ?) <> 0 ORDER BY account, contact LIMIT ?`,
			g.domain.Domain(), account, contact, int64(shown), page)
		if err != nil {
			return err
		}
		var pairs [][2]jid.JID
		for rows.Next() {
			var p [2]jid.JID
			if err := rows.Scan(&p[0], &p[1]); err != nil {
				rows.Close()
				return err
			}
			pairs = append(pairs, p)
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		for _, p := range pairs {
			f(p[0], p[1])
		}
		done()
		if len(pairs) < page {
			return nil
		}
		account, contact = pairs[len(pairs)-1][0].String(), pairs[len(pairs)-1][1].String()
	}
}
