package kit

import (
	"context"
	"maps"
	"slices"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
)

// heard is what a recipient has been told of an address while announcements wait. begun
// says that the recipient sees the contact only since then: what was before is not news.
type heard struct {
	to, from jid.JID
	begun    bool
}

// talk is a direct answer to a user on a contact's presence that is under way. What is
// to be announced to them meanwhile waits for its end.
type talk struct {
	open    int
	last    uint64   // the latest number that an answer goes by
	behind  bool     // an older answer may have come after a newer one
	waiting []change // with the numbers they had
}

// enter has a direct answer begin: until leave, nothing is announced to the pair.
func (h *herald) enter(p Between) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.talks == nil {
		h.talks = map[Between]*talk{}
	}
	k := h.talks[p]
	if k == nil {
		k = &talk{}
		h.talks[p] = k
	}
	k.open++
	if h.now == p {
		h.crossed = true
	}
}

// sight is what there is of a contact, and the number of the last change that is in it.
type sight struct {
	n     uint64
	up    bool
	list  []*Last
	since uint64 // it is news only for those who have heard anything since; 0: for all
}

// look returns what there is for a pair. An answer to it goes by that number.
func (g *Gateway) look(p Between) sight {
	h := &g.herald
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.talks[p]; k != nil {
		k.last = max(k.last, h.seq)
	}
	return sight{n: h.seq, up: h.up.Load(), list: g.presences.of(p.Contact)}
}

// leave ends an answer that went by n, 0 for one that said nothing. outdated says that
// there would be something else to say now.
func (h *herald) leave(p Between, n uint64, outdated bool) {
	h.mu.Lock()
	k := h.talks[p]
	k.behind = k.behind || outdated && n > 0 && n < k.last
	k.open--
	if k.open > 0 {
		h.mu.Unlock()
		return
	}
	delete(h.talks, p)
	h.deferred -= len(k.waiting)
	for _, c := range k.waiting {
		h.queue(c, c.n)
	}
	if k.behind {
		h.seq++
		h.queue(change{from: p.Contact, user: p.User, whole: true, owed: true}, h.seq)
	}
	more := len(h.order) > 0
	h.mu.Unlock()
	if more {
		h.signal()
	}
}

// pending tells whether anything is to be announced, under mu.
func (h *herald) pending() bool {
	return h.busy || len(h.order)+h.deferred > 0 || h.lost|h.found|h.again > 0
}

// said notes that an answer has told of an address. Nobody needs the note when nothing
// waits, and where an announcement is on its way to the same pair it does not count.
func (h *herald) said(p Between, w heard, n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending() && (h.now != p || !h.speaking) {
		h.words[w] = n
	}
}

// address begins an announcement to a pair. False: not now, or not at all.
func (h *herald) address(p Between, c change) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.talks[p]; k != nil {
		k.waiting = append(k.waiting, c)
		h.deferred++
		return false
	}
	if (c.owed || c.user.IsZero()) && h.words[heard{p.User, p.Contact, true}] >= c.n {
		return false
	}
	h.now, h.crossed, h.speaking = p, false, false
	return true
}

// speak goes on with it, unless an answer has begun meanwhile; then the change waits.
func (h *herald) speak(p Between, c change) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.crossed {
		h.speaking = true
		return true
	}
	h.now = Between{}
	if k := h.talks[p]; k != nil {
		k.waiting = append(k.waiting, c)
		h.deferred++
	} else {
		h.queue(c, c.n)
	}
	return false
}

// news tells whether a recipient does not know yet of an address what change c is about,
// and notes that it does from now on.
func (h *herald) news(w heard, c change, is *sight) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.words[w] >= c.n || h.words[w] < is.since {
		return false
	}
	n := is.n
	if h.lost > 0 { // what is told is from before
		n = min(n, h.lost-1)
	}
	if len(h.order)+h.deferred > 0 || h.lost|h.found|h.again > 0 { // else all that comes is newer
		h.words[w] = n
	}
	return true
}

// done ends it, and tells whether an answer has begun meanwhile.
func (h *herald) done() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = Between{}
	return h.crossed
}

// waits tells whether a user has still to be told of an address.
func (h *herald) waits(from, user jid.JID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range [...]change{{from: from}, {from: from, user: user}} {
		if _, ok := h.noted[c]; ok {
			return true
		}
		if _, ok := h.doing[c]; ok {
			return true
		}
	}
	return false
}

// due tells whether the availability of the gateway waits to be announced to a user who
// is subscribed to it.
func (h *herald) due(p Between) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := max(h.found, h.again)
	if a := &h.announcing; n == 0 && (p.User.String() > a.User.String() || p.User == a.User && p.Contact.String() > a.Contact.String()) {
		n = h.announced
	}
	return n > 0 && h.words[heard{p.User, p.Contact, true}] < n && h.words[heard{p.User, p.Contact, false}] < n
}

// forget drops the notes that nothing asks for any more: those older than n.
func (h *herald) forget(n uint64) {
	maps.DeleteFunc(h.words, func(_ heard, said uint64) bool { return said < n })
}

// entitled tells whether a recipient, a user or one resource, is one to tell of a contact.
func (g *Gateway) entitled(ctx context.Context, to, contact jid.JID) bool {
	b, err := g.book(ctx, to.Bare())
	if err != nil {
		return false
	}
	if b.state(contact).has(shown) {
		return true
	}
	if to.IsFull() {
		return g.online.has(to)
	}
	for _, l := range g.presences.of(contact) {
		if l.User == to {
			return true
		}
	}
	return false
}

// announceTo tells a recipient of a change: what list has to say of the contact, as far as
// nobody has said it. as is what it is about; nil: what there is by then.
func (g *Gateway) announceTo(ctx context.Context, t *router.Turn, to jid.JID, c change, as *sight, list func(*sight) []*stanza.Stanza) {
	h := &g.herald
	contact := c.from.Bare()
	p := Between{to.Bare(), contact}
	if !g.around(to) || !h.address(p, c) {
		return
	}
	if c.owed && !g.entitled(ctx, to, contact) {
		h.done()
		return
	}
	if !h.speak(p, c) {
		return
	}
	if as == nil {
		now := g.look(p)
		as = &now
	}
	var sent []*stanza.Stanza
	for _, st := range list(as) {
		if h.news(heard{to: to, from: st.From}, c, as) {
			g.send(ctx, t, st.Readdressed(st.From, to))
			sent = append(sent, st)
		}
	}
	if !h.done() || !c.owed || g.entitled(ctx, to, contact) {
		return
	}
	// The answer that has crossed ours was the end of the subscription.
	for _, st := range sent {
		if st.Type == "" {
			g.send(ctx, t, stanza.New(stanza.Presence, stanza.Unavailable, st.From, to, ""))
		}
	}
}

// inform gives a direct answer on a contact's presence to a user or a resource. say is
// called with what is there now, and with a function that notes what it has told of.
func (g *Gateway) inform(to, contact jid.JID, say func(is sight, said func(heard))) {
	h := &g.herald
	p := Between{to.Bare(), contact}
	h.enter(p)
	is := g.look(p)
	say(is, func(w heard) { h.said(p, w, is.n) })
	h.leave(p, is.n, is.up != g.Up() || !slices.Equal(is.list, g.presences.of(contact)))
}
