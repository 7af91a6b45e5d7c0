package c2s

import (
	"context"
	"errors"

	"golang.org/x/time/rate"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// offerBind sends the features of an authenticated stream (RFC 6120 §7.4).
func offerBind(_ context.Context, s *session) (state, error) {
	return awaitBind, s.send(s.bindFeatures())
}

// bindFeatures is what a stream is offered that has authenticated and not bound.
func (s *session) bindFeatures() features {
	return append(features{stanza.El(nsBind, "bind")}, s.afterLogin()...)
}

// afterLogin is what an authenticated stream is offered, bound or not.
func (s *session) afterLogin() features {
	f := features(s.svc.modules.StreamFeatures(module.AfterLogin, s.host.Domain.Domain()))
	if s.managed == nil { // else Bind 2 has enabled it
		f = append(f, stanza.El(nsManage, "sm"))
	}
	return append(f, limits(s.opts.After, s.opts.PingAfter))
}

// awaitBind waits for the request to bind a resource (RFC 6120 §7.6, §7.7), or to
// resume a session.
func awaitBind(ctx context.Context, s *session) (state, error) {
	ev, err := s.next()
	switch {
	case err != nil:
		return nil, err
	case ev.Is(nsManage, "resume"): // XEP-0198 §5
		reply, ok := s.resume(ev.Tree())
		if err := s.send(reply); err != nil || !ok {
			return awaitBind, err
		}
		return nil, s.resumed()
	case ev.Is(nsManage, "enable"):
		return awaitBind, s.send(failed("unexpected-request")) // XEP-0198 §3: before a resource is bound
	case !ev.Is(stanza.NSClient, "iq"):
		return nil, stream.Err(stream.NotAuthorized, "a resource is to be bound first") // RFC 6120 §7.1
	}
	st, err := stanza.Parse(stanza.IQ, ev.Raw, ev.Index)
	if err == nil {
		err = check(st)
	}
	if err == nil {
		child, ok := st.First()
		if st.Type != stanza.Set || !ok || !child.Is(nsBind, "bind") {
			return nil, stream.Err(stream.NotAuthorized, "a resource is to be bound first")
		}
		err = s.bind(ctx, st, child.Element().ChildText(nsBind, "resource"))
	}
	if err != nil {
		var e *stanza.Error
		if !errors.As(err, &e) {
			return nil, err
		}
		st.From, st.To = jid.JID{}, jid.JID{}
		reply := st.ErrorReply(e)
		if reply == nil {
			return awaitBind, nil
		}
		return awaitBind, s.send(stanza.Raw(reply.String()))
	}
	return nil, nil
}

// restrain sets the rates of what a bound stream may send.
func (s *session) restrain() {
	if s.opts.Rate > 0 {
		s.limit = rate.NewLimiter(rate.Limit(s.opts.Rate), max(s.opts.Burst, 1))
	}
	if s.opts.Pace > 0 {
		s.pace = rate.NewLimiter(rate.Limit(s.opts.Pace), max(s.opts.PaceBurst, 1))
	}
}

// boundTo makes peer the session that the stream carries: the login is over.
func (s *session) boundTo(peer *router.Session) {
	s.peer, s.login = peer, nil
	s.restrain()
	s.svc.watch(s)
}

// generated returns the account's address with a resource of our making.
func (s *session) generated(resource string) jid.JID {
	j, err := s.account.WithResource(resource)
	if err != nil {
		panic("c2s: a generated resource is valid: " + err.Error())
	}
	return j
}

// bind makes the session reachable under the resource asked for, or one of ours.
func (s *session) bind(ctx context.Context, rq *stanza.Stanza, resource string) error {
	fresh := func() jid.JID { return s.generated(newID(9)) }
	full, err := s.account.WithResource(resource)
	switch {
	case resource == "":
		full = fresh()
	case err != nil:
		return &stanza.Error{Condition: stanza.BadRequest, Text: "not a valid resource", Cause: err} // RFC 6120 §7.7.2.1
	}
	peer, err := s.svc.router.Bind(router.Binding{
		JID: full, Conn: s.conn, Conflict: s.opts.Conflict, MaxSessions: s.opts.MaxSessions, OutboxLimit: s.opts.Outbox,
		Rename: fresh, Kick: s.kick, Held: true,
	})
	if err == nil {
		err = s.belongs(ctx, peer)
	}
	if err != nil {
		return err
	}
	s.boundTo(peer)
	s.svc.modules.SessionBound(ctx, peer)
	peer.Begin(stanza.Raw(stanza.New(stanza.IQ, stanza.Result, jid.JID{}, jid.JID{}, rq.ID,
		stanza.El(nsBind, "bind", stanza.TextEl(nsBind, "jid", peer.JID.String()))).String()))
	return nil
}
