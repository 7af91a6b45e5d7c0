package kit

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Last is the presence that the network has set for one address of a contact.
type Last struct {
	Stanza  *stanza.Stanza // from the contact, without 'to'; available or unavailable
	User    jid.JID        // who sees it, a bare address; zero: every subscriber
	Updated time.Time
}

// presences are those of all contacts, in memory and in the store.
type presences struct {
	by    *xsync.Map[jid.JID, []*Last] // by bare address; replaced whole
	count atomic.Int64
	locks [64]sync.Mutex // by contact: writers
}

func (ps *presences) lock(contact jid.JID) *sync.Mutex {
	h := uint32(2166136261)
	for _, c := range []byte(contact.String()) {
		h = (h ^ uint32(c)) * 16777619
	}
	return &ps.locks[h%uint32(len(ps.locks))]
}

func (ps *presences) of(contact jid.JID) []*Last {
	list, _ := ps.by.Load(contact)
	return list
}

func (ps *presences) load(ctx context.Context, g *Gateway) error {
	ps.by = xsync.NewMap[jid.JID, []*Last]()
	rows, err := g.opt.Store.Query(ctx, `SELECT account, stanza, updated FROM kit_presence WHERE domain = ?`, g.domain.Domain())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var account string
		var raw []byte
		var updated int64
		if err := rows.Scan(&account, &raw, &updated); err != nil {
			return err
		}
		st, err := stanza.ParseDocument(raw)
		if err != nil {
			return err
		}
		l := &Last{Stanza: st, Updated: time.UnixMilli(updated).UTC()}
		if account != "" {
			if l.User, err = jid.Parse(account); err != nil {
				return err
			}
		}
		contact := st.From.Bare()
		ps.by.Store(contact, append(slices.Clip(ps.of(contact)), l))
		ps.count.Add(1)
	}
	return rows.Err()
}

// forget drops what only one user saw.
func (ps *presences) forget(user jid.JID) {
	ps.by.Range(func(contact jid.JID, list []*Last) bool {
		if !slices.ContainsFunc(list, func(l *Last) bool { return l.User == user }) {
			return true
		}
		mu := ps.lock(contact)
		mu.Lock()
		defer mu.Unlock()
		ps.put(contact, slices.DeleteFunc(slices.Clone(ps.of(contact)), func(l *Last) bool { return l.User == user }))
		return true
	})
}

// put replaces the list of a contact, under its lock.
func (ps *presences) put(contact jid.JID, list []*Last) {
	ps.count.Add(int64(len(list) - len(ps.of(contact))))
	if len(list) == 0 {
		ps.by.Delete(contact)
		return
	}
	ps.by.Store(contact.Clone(), list)
}

// SetPresence sets the presence of a contact or of the gateway itself, available or
// unavailable, and tells it to whom it concerns: every subscriber, or the one user that
// 'to' names. It is kept, answers probes, and is told again after an outage. An
// unavailable resource is forgotten when the contact has another. The error may be
// ErrForeign, ErrTooMany, or a *stanza.Error for what is no presence.
func (g *Gateway) SetPresence(ctx context.Context, st *stanza.Stanza) error {
	switch {
	case !g.ours(st.From):
		return ErrForeign
	case st.Kind != stanza.Presence || st.Type != "" && st.Type != stanza.Unavailable:
		return stanza.Err(stanza.BadRequest, "neither available nor unavailable presence")
	}
	contact, user := st.From.Bare(), st.To.Bare()
	l := &Last{Stanza: st.Readdressed(st.From.Clone(), jid.JID{}), User: user.Clone(), Updated: g.opt.Now().UTC()}
	if st.Type == stanza.Unavailable && user == (jid.JID{}) && st.From.IsBare() {
		// The contact as a whole has gone: none of its resources is left.
		return g.replace(ctx, contact, l, func(old *Last) bool { return old.User.IsZero() })
	}
	return g.replace(ctx, contact, l, func(old *Last) bool {
		// What is replaced; and of the resources that are gone only the last one counts.
		return old.User == user && (old.Stanza.From == st.From || old.Stanza.Type == stanza.Unavailable)
	})
}

// ClearPresence forgets the presence that was set for a contact; its subscribers are
// told that it is unavailable, unless it is assumed to be available.
func (g *Gateway) ClearPresence(ctx context.Context, contact jid.JID) error {
	if !g.ours(contact) {
		return ErrForeign
	}
	return g.replace(ctx, contact.Bare(), nil, func(*Last) bool { return true })
}

// replace puts l (nil: nothing) in place of what gone is true for.
func (g *Gateway) replace(ctx context.Context, contact jid.JID, l *Last, gone func(*Last) bool) error {
	ps := &g.presences
	mu := ps.lock(contact)
	mu.Lock()
	defer mu.Unlock()
	old := ps.of(contact)
	var next, dropped []*Last
	for _, o := range old {
		if gone(o) {
			dropped = append(dropped, o)
		} else {
			next = append(next, o)
		}
	}
	if l != nil {
		// An unavailable resource tells nothing while another one is there.
		if l.Stanza.Type != stanza.Unavailable || !slices.ContainsFunc(next, func(o *Last) bool { return o.User == l.User && o.Stanza.Type == "" }) {
			next = append(next, l)
		}
	}
	if len(next) > len(old) && ps.count.Load() >= int64(g.opt.MaxPresences) {
		return ErrTooMany
	}
	err := g.opt.Store.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		for _, o := range dropped {
			if _, err := tx.Exec(`DELETE FROM kit_presence WHERE domain = ? AND contact = ? AND resource = ? AND account = ?`,
				g.domain.Domain(), contact.String(), o.Stanza.From.Resource(), o.User.String()); err != nil {
				return err
			}
		}
		if l == nil || !slices.Contains(next, l) {
			return nil
		}
		_, err := tx.Exec(`INSERT INTO kit_presence (domain, contact, resource, account, stanza, updated) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (domain, contact, resource, account) DO UPDATE SET stanza = excluded.stanza, updated = excluded.updated`,
			g.domain.Domain(), contact.String(), l.Stanza.From.Resource(), l.User.String(), l.Stanza.AppendDocument(nil), l.Updated.UnixMilli())
		return err
	})
	if err != nil {
		return err
	}
	h := &g.herald
	h.mu.Lock()
	ps.put(contact, next) // with its number, or who looks in between would be told twice
	h.seq++
	// Each address that has changed is told of, in this order: what is gone, what is new.
	for _, o := range dropped {
		if l == nil || o.Stanza.From != l.Stanza.From || o.User != l.User {
			if o.Stanza.Type == "" {
				h.queue(change{from: o.Stanza.From, user: o.User}, h.seq)
			}
		}
	}
	if l != nil {
		h.queue(change{from: l.Stanza.From, user: l.User}, h.seq)
	}
	h.mu.Unlock()
	h.signal()
	return nil
}

// Presences returns what is set for a contact, the latest last.
func (g *Gateway) Presences(contact jid.JID) []*Last {
	return slices.Clone(g.presences.of(contact.Bare()))
}

// visible returns the presence of a contact as a user may see it: its available
// resources, or that it is unavailable. Nothing means that nothing is known.
func (g *Gateway) visible(ctx context.Context, contact, user jid.JID) []*stanza.Stanza {
	return g.among(ctx, g.presences.of(contact), contact, user)
}

// among is visible of what is, or was, in presences.
func (g *Gateway) among(ctx context.Context, list []*Last, contact, user jid.JID) []*stanza.Stanza {
	var out []*stanza.Stanza
	user = user.Bare()
	for _, l := range list {
		switch {
		case !l.User.IsZero() && l.User != user:
			continue
		case l.User.IsZero() && slices.ContainsFunc(list, func(o *Last) bool { return o.User == user && o.Stanza.From == l.Stanza.From }):
			continue // this user sees something else
		}
		out = append(out, g.decorate(ctx, l.Stanza))
	}
	if len(out) == 0 && (contact == g.domain || g.def.Load().Presence == "assumed") {
		out = append(out, g.decorate(ctx, stanza.New(stanza.Presence, "", contact, jid.JID{}, "")))
	}
	return out
}

// nsVCardUpdate is the namespace of XEP-0153.
const nsVCardUpdate = "vcard-temp:x:update"

// decorate adds to available presence what tells clients where to look further:
// capabilities (XEP-0115) and the avatar (XEP-0153).
func (g *Gateway) decorate(ctx context.Context, st *stanza.Stanza) *stanza.Stanza {
	if st.Type != "" {
		return st
	}
	p := g.profile(ctx, st.From.Bare())
	if !st.Has(nsCaps, "c") {
		st = st.Append(g.caps(st.From.Bare(), p))
	}
	if p.photo != "" && !st.Has(nsVCardUpdate, "x") {
		st = st.Append(stanza.El(nsVCardUpdate, "x", stanza.TextEl(nsVCardUpdate, "photo", p.photo)))
	}
	return st
}

// show sends a user, or one resource, the presence of a contact that the user may see, if
// it is available. fresh says that the user has begun to see it.
func (g *Gateway) show(ctx context.Context, t *router.Turn, to, contact jid.JID, fresh bool) {
	g.inform(to, contact, func(is sight, said func(heard)) {
		if fresh {
			said(heard{to.Bare(), contact, true})
		}
		if !is.up {
			return
		}
		for _, st := range g.among(ctx, is.list, contact, to) {
			if st.Type == "" {
				said(heard{to: to, from: st.From})
				g.send(ctx, t, st.Readdressed(st.From, to))
			}
		}
	})
}

// hide tells a user that a contact that was available is not.
func (g *Gateway) hide(ctx context.Context, t *router.Turn, user, contact jid.JID) {
	for _, st := range g.visible(ctx, contact, user) {
		if st.Type == "" || g.herald.waits(st.From, user) {
			g.send(ctx, t, stanza.New(stanza.Presence, stanza.Unavailable, st.From, user, ""))
		}
	}
}

// presence takes a presence stanza of a user.
func (g *Gateway) presence(ctx context.Context, p *router.Packet) error {
	st := p.Stanza
	switch st.Type {
	case stanza.Subscribe, stanza.Subscribed, stanza.Unsubscribe, stanza.Unsubscribed:
		return g.subscription(ctx, p)
	case stanza.Probe:
		return g.probe(ctx, p)
	case "", stanza.Unavailable:
	case stanza.TypeError:
		return g.net.Presence(ctx, st)
	default:
		return stanza.Err(stanza.BadRequest, "no such type of presence") // RFC 6121 §4.7.1
	}
	if err := g.admit(ctx, st.From); err != nil {
		if st.Type == stanza.Unavailable {
			return nil // there is nothing to do about it
		}
		return err
	}
	if err := g.net.Presence(ctx, st); err != nil {
		return err
	}
	if st.To.Local() != "" {
		return nil
	}
	session := Between{st.From.Bare(), g.domain}
	g.herald.enter(session)
	defer g.herald.leave(session, 0, false)
	if st.Type == stanza.Unavailable { // XEP-0100 §4.5.1: logged out
		if g.online.remove(st.From) {
			g.send(ctx, p.Turn, stanza.New(stanza.Presence, stanza.Unavailable, g.domain, st.From, ""))
		}
		return nil
	}
	first := g.online.add(st.From)
	switch {
	case !g.Up(): // XEP-0100 §4.4.2
		return stanza.Err(stanza.RemoteServerTimeout, "the gateway is not connected")
	case first: // XEP-0100 §4.4.1
		to := st.From
		if b, err := g.book(ctx, session.User); err == nil && b.state(g.domain).has(shown) && g.herald.due(session) {
			to = session.User // all resources wait to hear of it
		}
		g.show(ctx, p.Turn, to, g.domain, false)
	}
	return nil
}

// probe answers for a contact: RFC 6121 §4.3.2.
func (g *Gateway) probe(ctx context.Context, p *router.Packet) error {
	user, contact := p.Stanza.From.Bare(), p.Stanza.To.Bare()
	b, err := g.book(ctx, user)
	if err != nil {
		return err
	}
	reply := func(typ string, from jid.JID) {
		g.send(ctx, p.Turn, stanza.New(stanza.Presence, typ, from, p.Stanza.From, p.Stanza.ID))
	}
	g.inform(p.Stanza.From, contact, func(is sight, said func(heard)) {
		directed := slices.ContainsFunc(is.list, func(l *Last) bool { return l.User == user })
		if !b.state(contact).has(shown) && !directed && !b.state(contact).has(pendingIn) {
			reply(stanza.Unsubscribed, contact) // rule 1
			return
		}
		// Rule 1 does not suit who still waits for leave: by Table 9 it would end the request.
		if !is.up || !b.state(contact).has(shown) && !directed {
			said(heard{to: p.Stanza.From, from: contact})
			reply(stanza.Unavailable, contact)
			return
		}
		found := false
		for _, st := range g.among(ctx, is.list, contact, user) {
			if p.Stanza.To.IsFull() && st.From != p.Stanza.To {
				continue
			}
			found = true
			said(heard{to: p.Stanza.From, from: st.From})
			g.send(ctx, p.Turn, st.Readdressed(st.From, p.Stanza.From))
		}
		if !found {
			said(heard{to: p.Stanza.From, from: p.Stanza.To})
			reply(stanza.Unavailable, p.Stanza.To) // §4.3.2.1
		}
	})
	return nil
}
