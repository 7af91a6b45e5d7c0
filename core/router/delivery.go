package router

import (
	"context"

	"trivium/core/stanza"
)

// local delivers to the server itself and to local accounts: RFC 6121 §8.
type local struct{ r *Router }

// Handle implements Handler.
func (l local) Handle(ctx context.Context, p *Packet) error {
	st, r := p.Stanza, l.r
	if st.To.Local() == "" {
		return r.deliverServer(ctx, p)
	}
	p.Received = st
	p.Account = r.Account(st.To.Bare())
	if p.Account == nil {
		ok, err := r.hooks.Exists(ctx, st.To.Bare())
		if err != nil {
			return err
		}
		if !ok {
			return r.noSuchUser(ctx, p)
		}
	}
	if err := r.hooks.Before(ctx, p); err != nil {
		return err
	}
	var err error
	switch p.Stanza.Kind {
	case stanza.Message:
		err = r.deliverMessage(ctx, p)
	case stanza.Presence:
		r.deliverPresence(p)
	case stanza.IQ:
		err = r.deliverIQ(ctx, p)
	}
	if err != nil {
		if p.ArchiveID != 0 && err != ErrHandled {
			r.hooks.Refused(ctx, p)
		}
		return err
	}
	return r.hooks.After(ctx, p)
}

// deliverServer handles what is addressed to a local domain, RFC 6120 §10.5.2
// and RFC 6121 §8.4.
func (r *Router) deliverServer(ctx context.Context, p *Packet) error {
	st := p.Stanza
	if st.Kind == stanza.IQ {
		if st.Type == stanza.Get || st.Type == stanza.Set {
			return r.hooks.Request(ctx, p)
		}
		return nil // answers to what the server asked end here
	}
	if st.Kind == stanza.Message && st.Type != stanza.TypeError {
		return &stanza.Error{Condition: stanza.ServiceUnavailable}
	}
	return nil
}

// noSuchUser is RFC 6121 §8.5.1. It must not be told from an existing account
// without sessions by a stranger (§11).
func (r *Router) noSuchUser(ctx context.Context, p *Packet) error {
	st := p.Stanza
	switch st.Kind {
	case stanza.Presence:
		if st.Type == stanza.Probe { // §4.3.2, rule 1
			_ = r.Send(ctx, p.Turn, stanza.New(stanza.Presence, stanza.Unsubscribed, st.To.Bare(), st.From, st.ID), nil)
		}
	case stanza.IQ:
		if st.Type == stanza.Get || st.Type == stanza.Set {
			return r.hooks.Refuse(st)
		}
	case stanza.Message:
		// A headline to a resource is refused as one to an account without it.
		if st.Type != stanza.TypeError && (st.Type != stanza.Headline || st.To.IsFull()) {
			return &stanza.Error{Condition: stanza.ServiceUnavailable}
		}
	}
	return nil
}

func (r *Router) deliverMessage(ctx context.Context, p *Packet) error {
	if resource := p.Stanza.To.Resource(); resource != "" {
		// §8.5.3.1: a match gets it whatever its priority.
		if s := p.Account.Session(resource); s != nil && s.deliver(p.Turn, p.Stanza, p.Receipt, p.Parked) {
			p.Targets = append(p.Targets, s)
			return nil
		}
		// §8.5.3.2.1: no match.
		switch p.Stanza.Type {
		case stanza.Chat:
		case stanza.TypeError:
			return ErrHandled
		default:
			return &stanza.Error{Condition: stanza.ServiceUnavailable}
		}
	}
	return r.place(ctx, p, nil)
}

// place delivers a message as if to the bare JID (§8.5.2), leaving out one
// session. It never rewrites 'to' (§8.5.2.1.1).
func (r *Router) place(ctx context.Context, p *Packet, not *Session) error {
	st := p.Stanza
	switch st.Type {
	case stanza.GroupChat:
		return &stanza.Error{Condition: stanza.ServiceUnavailable}
	case stanza.TypeError:
		return ErrHandled
	}
	sessions := p.Account.Sessions()
	// "Most available" is the highest priority, §8.5.2.1.1; a headline goes to
	// every non-negative resource.
	best, several := int8(0), 0
	for _, s := range sessions {
		pr := s.Presence()
		if pr == nil || s == not || pr.Priority < best {
			continue
		}
		if pr.Priority > best && st.Type != stanza.Headline {
			best, several = pr.Priority, 0
		}
		several++
	}
	var in *transit
	if several > 1 || several > 0 && (p.Receipt != nil || p.Parked != nil) {
		in = newTransit(p.Receipt, p.Parked) // it counts one: ours, so that it is not taken for lost before all have it
	}
	for _, s := range sessions {
		pr := s.Presence()
		if pr == nil || s == not || pr.Priority < best {
			continue
		}
		if in != nil {
			in.left.Add(1)
		}
		if s.out.send(p.Turn, queued{st: st, to: st.To, t: in}, nil) {
			p.Targets = append(p.Targets, s)
		} else if in != nil {
			in.left.Add(-1)
		}
	}
	if in != nil {
		if none, parked := in.abandon(); none {
			p.Targets, p.Parked = p.Targets[:0], parked // all have been lost meanwhile
		}
	}
	if len(p.Targets) > 0 {
		return nil
	}
	if st.Type == stanza.Headline {
		return ErrHandled
	}
	return r.noSession(ctx, p)
}

// noSession has a message kept that no session gets.
func (r *Router) noSession(ctx context.Context, p *Packet) error {
	// A session may outlive its account for a moment, and that of ANONYMOUS has none:
	// nobody would ever come for what is kept.
	st := p.Stanza
	if ok, err := r.hooks.Exists(ctx, st.To.Bare()); err != nil {
		return err
	} else if !ok {
		return &stanza.Error{Condition: stanza.ServiceUnavailable} // §8.5.1
	}
	return r.hooks.NoSession(ctx, p) // §8.5.2.2.1
}

// deliverPresence brings presence without type and "unavailable" to a resource
// or to all available resources (§8.5.2.1.2, §8.5.3.1), and what the steps left
// of subscription stanzas to all interested in them.
func (r *Router) deliverPresence(p *Packet) {
	st := p.Stanza
	if resource := st.To.Resource(); resource != "" {
		if s := p.Account.Session(resource); s != nil && s.Deliver(p.Turn, st, nil) {
			p.Targets = append(p.Targets, s)
		}
		return
	}
	for _, s := range p.Account.Sessions() {
		if s.Available() && s.JID != st.From && s.Deliver(p.Turn, st, nil) {
			p.Targets = append(p.Targets, s)
		}
	}
}

func (r *Router) deliverIQ(ctx context.Context, p *Packet) error {
	st := p.Stanza
	request := st.Type == stanza.Get || st.Type == stanza.Set
	if resource := st.To.Resource(); resource != "" {
		if s := p.Account.Session(resource); s != nil && s.Deliver(p.Turn, st, nil) {
			p.Targets = append(p.Targets, s)
			return nil
		}
		if request {
			return &stanza.Error{Condition: stanza.ServiceUnavailable} // §8.5.3.2.3
		}
		return ErrHandled
	}
	if request {
		return r.hooks.Request(ctx, p) // §8.5.2.1.3: the server answers for the account
	}
	return ErrHandled
}
