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
	from  jid.JID
	user  jid.JID // who sees it; zero: every subscriber
	whole bool    // all there is to see of the contact is told, to a user or one resource
	owed  bool    // to one of all subscribers
	n     uint64  // the number of the change; 0 in keys
}

// herald tells users of presence, one change after the other, so that the last word on
// an address is the last one that is sent. What happens has numbers in its order; an
// answer that a user gets directly goes by the number it was given at, and supersedes
// the announcements up to that (see heard).
type herald struct {
	up   atomic.Bool   // the network is connected
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	seq   uint64
	noted map[change]uint64 // what waits
	order []change          // its keys
	found uint64            // when the network was last connected, if that waits
	lost  uint64            // when it was last lost, if that waits
	again uint64            // when what is available had to be told anew, if that waits

	busy       bool              // Run tells of a batch
	doing      map[change]uint64 // of it
	announced  uint64            // of it, what all are told of; 0: nothing
	announcing Between           // how far that is
	now        Between           // whom Run talks to
	speaking   bool              // something is being sent to them
	crossed    bool              // an answer to them has begun meanwhile
	talks      map[Between]*talk
	words      map[heard]uint64

	told bool // that the gateway is up; owned by Run
}

func (h *herald) init() {
	h.wake, h.noted = make(chan struct{}, 1), map[change]uint64{}
	h.talks, h.words = map[Between]*talk{}, map[heard]uint64{}
}

func (h *herald) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// note asks for a change to be told. Changes of one address that wait are one.
func (h *herald) note(c change) {
	h.mu.Lock()
	h.seq++
	h.queue(c, h.seq)
	h.mu.Unlock()
	h.signal()
}

func (h *herald) queue(c change, n uint64) {
	c.n = 0
	if _, ok := h.noted[c]; !ok {
		h.order = append(h.order, c)
	}
	h.noted[c] = max(h.noted[c], n)
}

func (h *herald) refresh() {
	h.mu.Lock()
	h.seq++
	h.again = h.seq
	h.mu.Unlock()
	h.signal()
}

// turn says that the network is connected or not, and tells whether that is new.
func (h *herald) turn(up bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.up.Swap(up) == up {
		return false
	}
	h.seq++
	if up {
		h.found = h.seq
	} else {
		h.lost, h.found, h.again = h.seq, 0, 0
	}
	return true
}

// batch is what has to be told, with the numbers of what happened.
type batch struct {
	changes            []change
	found, lost, again uint64
}

// take ends a batch and begins the next one. False: there is none.
func (h *herald) take() (b batch, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy, h.announced = false, 0
	if !h.pending() {
		clear(h.words)
		h.doing = nil
		return b, false
	}
	b = batch{changes: h.order, found: h.found, lost: h.lost, again: h.again}
	oldest := h.seq
	for i := range b.changes {
		b.changes[i].n = h.noted[b.changes[i]]
		oldest = min(oldest, b.changes[i].n)
	}
	for _, n := range [...]uint64{b.found, b.lost, b.again} {
		if n > 0 {
			oldest = min(oldest, n)
		}
	}
	h.forget(oldest)
	h.doing, h.noted = h.noted, map[change]uint64{}
	h.order, h.found, h.lost, h.again = nil, 0, 0, 0
	h.busy = true
	return b, true
}

// Up tells whether the network is connected.
func (g *Gateway) Up() bool { return g.herald.up.Load() }

// SetUp says whether the network is connected. When it is lost, the gateway and all
// contacts become unavailable for those who saw them available; when it is back they get
// the presence that is set by then. Messages go to the Network all the same; requests are
// refused while the gateway is down.
func (g *Gateway) SetUp(up bool) {
	if !g.herald.turn(up) {
		return
	}
	g.log.Info("the gateway's network has changed", "up", up)
	if !up {
		g.requests.abandon(g)
	}
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
		for ctx.Err() == nil {
			b, ok := h.take()
			if !ok {
				break
			}
			g.proclaim(ctx, &b)
		}
	}
}

// proclaim tells of a batch. A loss is told before what was found after it, and before
// both, or what is told anew, what had gone: it is not among that.
func (g *Gateway) proclaim(ctx context.Context, b *batch) {
	h := &g.herald
	if h.told && b.lost|b.again > 0 {
		for _, c := range b.changes {
			g.tell(ctx, c, true)
		}
	}
	if h.told && b.lost > 0 {
		h.told = false
		g.announce(ctx, false, b.lost)
	}
	switch {
	case !h.told && b.found > 0:
		h.told = true
		g.announce(ctx, true, max(b.found, b.again))
	case h.told && b.again > 0:
		g.announce(ctx, true, b.again)
	default:
		for _, c := range b.changes {
			if c.whole || h.told {
				g.tell(ctx, c, false)
			}
		}
	}
}

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
			g.announceAll(ctx, &t, c.user, contact, c.n, g.herald.told)
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
func (g *Gateway) announceAll(ctx context.Context, t *router.Turn, to, contact jid.JID, n uint64, up bool) {
	c := change{from: contact, user: to, whole: true, owed: true, n: n}
	g.announceTo(ctx, t, to, c, nil, func(is *sight) []*stanza.Stanza {
		if !up {
			is.n = n // a loss says nothing of what was found after it
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
// n is the number of that.
func (g *Gateway) announce(ctx context.Context, up bool, n uint64) {
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
		g.announceAll(ctx, &t, user, contact, n, up)
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
				g.announceAll(ctx, &t, l.User, contact, n, up)
			}
		}
		return true
	})
	for _, full := range g.online.all() {
		if b, err := g.book(ctx, full.Bare()); err == nil && !b.state(g.domain).has(shown) {
			g.announceAll(ctx, &t, full, g.domain, n, up)
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
