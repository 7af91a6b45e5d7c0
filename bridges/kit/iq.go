package kit

import (
	"context"
	"sync"
	"time"
	"unicode/utf8"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
)

// request names an iq that waits for its answer.
type request struct {
	from, to jid.JID
	id       string
}

// waiting is one of them.
type waiting struct {
	timer  *time.Timer
	theirs bool // of a user: the network answers; otherwise the network has asked
}

// requests are those that wait.
type requests struct {
	mu     sync.Mutex
	open   map[request]*waiting
	of     map[jid.JID]int // those of each user, bare
	theirs int
	closed bool
}

func (r *requests) init() { r.open, r.of = map[request]*waiting{}, map[jid.JID]int{} }

// add notes a request; late is called when nobody has answered in time.
func (r *requests) add(q request, theirs bool, o *Options, late func()) error {
	q = request{q.from.Clone(), q.to.Clone(), q.id}
	user := q.from.Bare()
	r.mu.Lock()
	defer r.mu.Unlock()
	_, taken := r.open[q]
	switch {
	case taken:
		return &stanza.Error{Condition: stanza.Conflict, Text: "a request with this id is under way"}
	case r.closed:
		return &stanza.Error{Type: stanza.Wait, Condition: stanza.ServiceUnavailable}
	case theirs && (r.theirs >= o.MaxRequests || r.of[user] >= o.MaxUserRequests),
		!theirs && len(r.open)-r.theirs >= o.MaxRequests:
		return &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: "too many requests wait for an answer"}
	}
	w := &waiting{theirs: theirs}
	w.timer = time.AfterFunc(o.RequestTimeout, func() {
		if r.take(q, w) {
			late()
		}
	})
	r.open[q] = w
	if theirs {
		r.theirs++
		r.of[user]++
	}
	return nil
}

// take ends a request; false says that somebody else has. A nil w is any that theirs
// does not rule out.
func (r *requests) take(q request, w *waiting) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.open[q]
	if now == nil || w != nil && now != w {
		return false
	}
	r.drop(q, now)
	return true
}

func (r *requests) drop(q request, w *waiting) {
	w.timer.Stop()
	delete(r.open, q)
	if !w.theirs {
		return
	}
	r.theirs--
	user := q.from.Bare()
	if r.of[user]--; r.of[user] == 0 {
		delete(r.of, user)
	}
}

// abandon tells all users who wait that there will be no answer.
func (r *requests) abandon(g *Gateway) {
	r.mu.Lock()
	var left []request
	for q, w := range r.open {
		if w.theirs {
			r.drop(q, w)
			left = append(left, q)
		}
	}
	r.mu.Unlock()
	for _, q := range left {
		g.late(q)
	}
}

func (r *requests) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for q, w := range r.open {
		r.drop(q, w)
	}
}

// late tells a user that the network has not answered.
func (g *Gateway) late(q request) {
	var t router.Turn
	g.send(context.Background(), &t, stanza.New(stanza.IQ, stanza.TypeError, q.to, q.from, q.id,
		stanza.Err(stanza.RemoteServerTimeout, "the gateway has not answered")))
	t.Flush()
}

// iq takes an iq to the gateway or a contact.
func (g *Gateway) iq(ctx context.Context, p *router.Packet) error {
	st := p.Stanza
	if st.Type == stanza.Result || st.Type == stanza.TypeError {
		if g.requests.take(request{st.To, st.From, st.ID}, nil) {
			return g.net.IQ(ctx, st)
		}
		return nil // nobody has asked, or somebody has answered
	}
	child, ok := st.First()
	if !ok || st.Len() != 1 || st.Type != stanza.Get && st.Type != stanza.Set {
		return &stanza.Error{Condition: stanza.BadRequest} // RFC 6120 §8.2.3
	}
	p.Turn.Flush() // the store may make us wait
	payload, answered, err := g.answer(ctx, st, child)
	switch {
	case err != nil:
		return err
	case answered:
		g.send(ctx, p.Turn, st.Result(payload))
		return nil
	}
	return nil
}

// answer answers a request, or sees to it that it is: then answered is false.
func (g *Gateway) answer(ctx context.Context, st *stanza.Stanza, child stanza.Child) (payload stanza.Payload, answered bool, err error) {
	get, toGateway := st.Type == stanza.Get, st.To.Bare() == g.domain
	d := g.def.Load()
	switch {
	case get && child.Is(nsDiscoInfo, "query"):
		payload, err = g.info(ctx, st, child.Element())
		return payload, true, err
	case get && child.Is(nsPing, "ping"):
		return nil, true, nil // XEP-0199 §4.2
	case get && toGateway && g.opt.Version != "" && child.Is(nsVersion, "query"):
		return stanza.El(nsVersion, "query", stanza.TextEl(nsVersion, "name", "Trivium"),
			stanza.TextEl(nsVersion, "version", g.opt.Version)), true, nil
	case !d.admits(st.From):
		return nil, false, stanza.Err(stanza.Forbidden, "this gateway is not for you")
	case get && child.Is(nsDiscoItems, "query"):
		payload, err = g.items(ctx, st, child.Element())
		return payload, true, err
	case toGateway && child.Is(nsGateway, "query"):
		payload, err = g.address(st, child.Element())
		return payload, true, err
	case toGateway && child.Is(nsRegister, "query"):
		if d.Registration == nil { // XEP-0077 §3.1
			return nil, false, stanza.Err(stanza.ServiceUnavailable, "there is no registration")
		}
		return g.registration(ctx, st, child.Element())
	case toGateway && !get && child.Is(nsCommands, "command") && d.Registration != nil && g.commandNode(child.Element().Attr("node")) != nil:
		return g.command(ctx, st, child.Element())
	}
	if err := g.admit(ctx, st.From); err != nil {
		return nil, false, err
	}
	if get && child.Is(nsVCard, "vCard") {
		p, err := g.Profile(ctx, st.To.Bare())
		if err != nil {
			return nil, false, err
		}
		if p.VCard != "" {
			return stanza.Raw(p.VCard), true, nil
		}
	}
	return nil, false, g.ask(ctx, st)
}

// ask hands a request to the network.
func (g *Gateway) ask(ctx context.Context, st *stanza.Stanza) error {
	if !g.Up() { // XEP-0100 §4.8.2: the legacy service cannot be reached
		return stanza.Err(stanza.RemoteServerTimeout, "the gateway is not connected")
	}
	q := request{st.From, st.To, st.ID}
	if err := g.requests.add(q, true, &g.opt, func() { g.late(q) }); err != nil {
		return err
	}
	if err := g.net.IQ(ctx, st); err != nil {
		if !g.requests.take(q, nil) {
			return nil // answered after all
		}
		return err
	}
	return nil
}

// address is jabber:iq:gateway: what contacts are known by, and how such a name looks
// as an address (XEP-0100 §6.3).
func (g *Gateway) address(st *stanza.Stanza, q *stanza.Element) (stanza.Payload, error) {
	d := g.def.Load()
	if st.Type == stanza.Get {
		out := stanza.El(nsGateway, "query")
		if d.Description != "" {
			out.Add(stanza.TextEl(nsGateway, "desc", d.Description))
		}
		prompt := d.Prompt
		if prompt == "" {
			prompt = "Contact ID"
		}
		return out.Add(stanza.TextEl(nsGateway, "prompt", prompt)), nil
	}
	j, err := g.Address(q.ChildText(nsGateway, "prompt"))
	if err != nil {
		return nil, &stanza.Error{Condition: stanza.NotAcceptable, Text: "no contact can have that name", Cause: err}
	}
	return stanza.El(nsGateway, "query", stanza.TextEl(nsGateway, "jid", j.String())), nil
}

// message takes a message to the gateway or a contact.
func (g *Gateway) message(ctx context.Context, p *router.Packet) error {
	st := p.Stanza
	if st.Type == stanza.TypeError {
		return g.net.Message(ctx, p)
	}
	if err := g.admit(ctx, st.From); err != nil {
		return err
	}
	if g.def.Load().RefuseLong {
		if err := g.fits(ctx, st); err != nil {
			return err
		}
	}
	return g.net.Message(ctx, p)
}

// fits refuses a message that is longer than the network can carry.
func (g *Gateway) fits(ctx context.Context, st *stanza.Stanza) error {
	p, err := g.Profile(ctx, st.To.Bare())
	if err != nil {
		return err
	}
	most := g.capabilitiesOf(p).MaxLength
	if most == 0 || len(st.Payload()) <= most {
		return nil
	}
	body, _ := st.Body()
	if n := utf8.RuneCountInString(body); n > most {
		return stanza.Err(stanza.PolicyViolation, tooLong(n, most))
	}
	return nil
}
