package kit

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
)

// change is an address of which presence has changed.
type change struct {
	from jid.JID
	user jid.JID // who sees it; zero: every subscriber
}

// herald tells users of presence, one change after the other, so that the last word on
// an address is the last one that is sent.
type herald struct {
	up   atomic.Bool   // the network is connected
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	noted map[change]struct{}
	order []change
	again bool // what is available has to be told anew

	told bool // that the gateway is up; owned by Run
}

func (h *herald) init() { h.wake, h.noted = make(chan struct{}, 1), map[change]struct{}{} }

func (h *herald) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// note asks for a change to be told. Changes of one address that wait are one.
func (h *herald) note(c change) {
	h.mu.Lock()
	if _, ok := h.noted[c]; !ok {
		h.noted[c] = struct{}{}
		h.order = append(h.order, c)
	}
	h.mu.Unlock()
	h.signal()
}

func (h *herald) refresh() {
	h.mu.Lock()
	h.again = true
	h.mu.Unlock()
	h.signal()
}

func (h *herald) take() (changes []change, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changes, again = h.order, h.again
	h.order, h.again = nil, false
	clear(h.noted)
	return changes, again
}

// Up tells whether the network is connected.
func (g *Gateway) Up() bool { return g.herald.up.Load() }

// SetUp says whether the network is connected. When it is lost, the gateway and all
// contacts become unavailable for those who saw them available; when it is back they get
// the presence that is set by then. Messages go to the Network all the same; requests are
// refused while the gateway is down.
func (g *Gateway) SetUp(up bool) {
	if g.herald.up.Swap(up) == up {
		return
	}
	g.log.Info("the gateway's network has changed", "up", up)
	if up {
		g.herald.refresh() // also when nobody has been told yet that it was down
		return
	}
	g.requests.abandon(g)
	g.herald.signal()
}

// Run tells users of presence until ctx ends. It is called once.
func (g *Gateway) Run(ctx context.Context) {
	defer func() {
		g.requests.close()
		g.ending.Lock()
		g.ended = true
		g.ending.Unlock()
		g.working.Wait()
	}()
	h := &g.herald
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		changes, again := h.take()
		up := h.up.Load()
		switch {
		case up != h.told:
			h.told = up
			g.announce(ctx, up)
			if up {
				continue // what has changed is among it
			}
		case up && again:
			g.announce(ctx, true)
			continue
		}
		if up {
			for _, c := range changes {
				g.tell(ctx, c)
			}
		}
	}
}

// page is how many users are told of something before the outboxes are flushed.
const page = 256

// tell brings one change to those who see it.
func (g *Gateway) tell(ctx context.Context, c change) {
	var t router.Turn
	contact := c.from.Bare()
	if !c.user.IsZero() {
		g.tellOne(ctx, &t, c.from, c.user)
		t.Flush()
		return
	}
	err := g.watchers(ctx, contact, func(user jid.JID) {
		g.tellOne(ctx, &t, c.from, user)
	}, t.Flush)
	if err != nil && ctx.Err() == nil {
		g.log.Error("presence of a contact was not told", "contact", contact.String(), "err", err)
	}
}

// tellOne sends a user what there is to see of one address.
func (g *Gateway) tellOne(ctx context.Context, t *router.Turn, from, user jid.JID) {
	if !g.around(user) {
		return
	}
	list := g.visible(ctx, from.Bare(), user)
	i := slices.IndexFunc(list, func(st *stanza.Stanza) bool { return st.From == from })
	if i < 0 {
		g.send(ctx, t, stanza.New(stanza.Presence, stanza.Unavailable, from, user, ""))
		for _, st := range list { // assumed again
			if st.Type == "" && st.From.IsBare() {
				g.send(ctx, t, st.Readdressed(st.From, user))
			}
		}
		return
	}
	g.send(ctx, t, list[i].Readdressed(from, user))
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

// announce tells all who see any contact that it is available again, or that it is not.
func (g *Gateway) announce(ctx context.Context, up bool) {
	var t router.Turn
	one := func(user, contact jid.JID) {
		if !g.around(user) {
			return
		}
		for _, st := range g.visible(ctx, contact, user) {
			switch {
			case st.Type != "":
			case up:
				g.send(ctx, &t, st.Readdressed(st.From, user))
			default:
				g.send(ctx, &t, stanza.New(stanza.Presence, stanza.Unavailable, st.From, user, ""))
			}
		}
	}
	if err := g.eachWatched(ctx, one, t.Flush); err != nil && ctx.Err() == nil {
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
				one(l.User, contact)
			}
		}
		return true
	})
	for _, full := range g.online.all() {
		if b, err := g.book(ctx, full.Bare()); err == nil && !b.state(g.domain).has(shown) {
			one(full, g.domain)
		}
	}
	t.Flush()
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
