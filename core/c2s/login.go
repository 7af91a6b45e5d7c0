package c2s

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/sasl"
	"trivium/core/stanza"
	"trivium/core/stream"
	"trivium/core/wire"
)

// Namespaces of stream negotiation.
const (
	nsTLS    = "urn:ietf:params:xml:ns:xmpp-tls"  // RFC 6120 §5
	nsSASL   = "urn:ietf:params:xml:ns:xmpp-sasl" // RFC 6120 §6
	nsBind   = "urn:ietf:params:xml:ns:xmpp-bind" // RFC 6120 §7
	nsSASLCB = "urn:xmpp:sasl-cb:0"               // XEP-0440 §2
	nsLimits = "urn:xmpp:stream-limits:0"         // XEP-0478 §4.1
)

// langMax bounds an xml:lang that is remembered: it is written into every stanza
// of the session, to every recipient, so a long one multiplies. RFC 5646 §4.4.1
// gets by with 35 octets.
const langMax = 64

// login is what a stream needs only until it is bound.
type login struct {
	from     jid.JID     // what the peer's header says; not to be trusted
	offer    *sasl.Offer // of SASL as in RFC 6120; nil: none
	offer2   *sasl.Offer // of SASL2; nil: none
	attempts int
	claimed  jid.JID // the account that the current attempt is for, once it is known
}

// attemptKey finds the session in the context of its exchange.
type attemptKey struct{}

// throttled asks the throttle as soon as an exchange says which account it is
// for, before any work is done for it.
type throttled struct {
	sasl.Backend
	throttle *auth.Throttle
	host     jid.JID
}

// Unwrap lets the abilities of the Backend be found (sasl.As).
func (b throttled) Unwrap() sasl.Backend { return b.Backend }

// Admit implements sasl.Gate.
func (b throttled) Admit(ctx context.Context, username string) error {
	s, ok := ctx.Value(attemptKey{}).(*session)
	if !ok {
		return nil
	}
	if username != "" { // else nobody knows yet: the address alone decides
		s.login.claimed, _ = jid.New(username, b.host.Domain(), "")
	}
	wait, err := b.throttle.Allow(s.remote(), s.login.claimed)
	if err != nil {
		return &sasl.Failure{Condition: sasl.TemporaryAuthFailure, Cause: err} // RFC 6120 §6.5.11
	}
	if wait > 0 {
		s.svc.pause(wait) // the login deadline goes on
	}
	return nil
}

// remote returns the peer's IP address, zero where it has none.
func (s *session) remote() netip.Addr {
	if a, ok := s.conn.Info().Remote.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// opening reads the peer's header and answers with ours and the features
// (RFC 6120 §4.2, §4.3).
func opening(ctx context.Context, s *session) (state, error) {
	ev, err := s.conn.Read(nil)
	switch {
	case err != nil:
		return nil, err
	case ev.Kind == stream.Closed:
		return nil, nil
	case ev.Kind != stream.Opened:
		return nil, stream.Err(stream.InvalidXML, "a stream header is due")
	}
	h := ev.Header
	ours := stream.Header{ID: newID(16), Version: "1.0", Lang: "en"}
	refusal := s.greet(h)
	if s.host != nil {
		ours.From = s.host.Domain.String()
	} else {
		ours.From = s.svc.first.Domain.String()
	}
	if from, err := jid.Parse(h.From); err == nil && refusal == nil {
		ours.To = from.String() // RFC 6120 §4.7.2
	}
	if err := s.conn.Open(ours); err != nil {
		return nil, err
	}
	if refusal != nil {
		return nil, refusal
	}
	if s.account.IsZero() {
		return offerLogin(ctx, s)
	}
	return offerBind(ctx, s)
}

// greet checks the peer's header, RFC 6120 §4.7 and §4.9.3.
func (s *session) greet(h *stream.Header) *stream.Error {
	if h.Err != nil {
		return h.Err
	}
	if h.Content != stanza.NSClient {
		return stream.Err(stream.InvalidNamespace, "the content namespace is "+stanza.NSClient)
	}
	host := s.svc.lookup(h.To)
	switch {
	case host == nil:
		return stream.Err(stream.HostUnknown, "") // RFC 6120 §4.9.3.6
	case s.host != nil && s.host != host:
		// RFC 6120 §4.3.3: a restart goes on with the same host.
		return stream.Err(stream.HostUnknown, "a restart cannot change the host")
	case h.Version != "1.0" && !strings.HasPrefix(h.Version, "1."):
		return stream.Err(stream.UnsupportedVersion, "") // RFC 6120 §4.9.3.25
	}
	s.host = host
	if len(h.Lang) <= langMax {
		s.lang = h.Lang
	}
	if s.login == nil {
		s.login = &login{}
	}
	s.login.from = jid.JID{}
	if from, err := jid.Parse(h.From); err == nil {
		if from.Domain() != host.Domain.Domain() {
			return stream.Err(stream.InvalidFrom, "the address is not of this host") // XEP-0388 §2.1
		}
		s.login.from = from.Bare().Clone()
	}
	return nil
}

// lookup finds a virtual host by the 'to' of a header. A server with one host
// serves it also to those who do not say.
func (svc *Service) lookup(to string) *virtualHost {
	if to == "" && len(svc.hosts) == 1 {
		return svc.first
	}
	j, err := jid.Parse(to)
	if err != nil {
		return nil
	}
	return svc.hosts[j.Domain()]
}

// features writes <stream:features/>.
type features []stanza.Payload

func (f features) AppendXML(dst []byte) []byte {
	if len(f) == 0 {
		return append(dst, "<stream:features/>"...)
	}
	dst = append(slices.Grow(dst, 1536), "<stream:features>"...) // what SASL2 takes
	for _, p := range f {
		dst = p.AppendXML(dst)
	}
	return append(dst, "</stream:features>"...)
}

// offerLogin sends the features of a stream that has not authenticated.
func offerLogin(_ context.Context, s *session) (state, error) {
	var f features
	secure := s.conn.Info().Secure
	if s.canSecure() {
		tls := stanza.El(nsTLS, "starttls")
		if s.requireTLS {
			tls.Add(stanza.El(nsTLS, "required")) // RFC 6120 §5.4.1
		}
		f = append(f, tls)
	}
	if secure || !s.requireTLS {
		var binding sasl.Binding
		if b, ok := s.conn.(stream.Binder); ok {
			binding = b
		}
		s.login.offer = s.host.sasl.Offer(secure, binding)
		// XEP-0388 §5: "SASL2 MUST only be [...] offered by Servers after TLS
		// negotiation". What it offers is the same, so that XEP-0474 has one hash.
		if s.login.offer2 = nil; secure && len(s.login.offer.Mechanisms()) > 0 {
			s.login.offer2 = s.login.offer
		}
		f = append(f, stanza.Raw(s.login.offer.Notice(s.mechanisms)))
		f = append(f, s.svc.modules.StreamFeatures(module.BeforeLogin, s.host.Domain.Domain())...)
		f = append(f, limits(s.opts.Before, 0))
	}
	return awaitLogin, s.send(f)
}

// mechanisms announces the ways to log in, with RFC 6120 §6.4.1 and with SASL2, and
// what channels can be bound to (XEP-0440 §2). It is the same for all streams of a
// host that can be bound to the same.
func (s *session) mechanisms() string {
	list := stanza.El(nsSASL, "mechanisms")
	for _, name := range s.login.offer.Mechanisms() {
		list.Add(stanza.TextEl(nsSASL, "mechanism", name))
	}
	text := list.AppendXML(nil)
	if s.login.offer2 != nil {
		text = s.authentication().AppendXML(text)
	}
	if types := s.login.offer.BindingTypes(); len(types) > 0 {
		cb := stanza.El(nsSASLCB, "sasl-channel-binding")
		for _, t := range types {
			cb.Add(stanza.El(nsSASLCB, "channel-binding").Set("type", t))
		}
		text = cb.AppendXML(text)
	}
	return string(text)
}

// limits announces what the stream takes from here on, XEP-0478 §4.1. idle is the
// silence after which the peer is asked for a sign of life; not said if 0 or less.
func limits(l wire.Limits, idle time.Duration) stanza.Payload {
	if l.Bytes <= 0 {
		l = wire.DefaultLimits()
	}
	el := stanza.El(nsLimits, "limits", stanza.TextEl(nsLimits, "max-bytes", strconv.Itoa(l.Bytes)))
	if idle > 0 {
		el.Add(stanza.TextEl(nsLimits, "idle-seconds", strconv.FormatInt(int64(idle/time.Second), 10)))
	}
	return el
}

func (s *session) canSecure() bool {
	_, ok := s.conn.(stream.Securer)
	return ok && !s.conn.Info().Secure && s.host.TLS != nil
}

// awaitLogin waits for STARTTLS or SASL (RFC 6120 §5.4.2, §6.4.2).
func awaitLogin(ctx context.Context, s *session) (state, error) {
	ev, err := s.conn.Read(nil)
	switch {
	case err != nil:
		return nil, err
	case ev.Kind == stream.Closed:
		return nil, nil
	case ev.Kind == stream.Opened:
		return nil, stream.Err(stream.NotAuthorized, "no stream restart is due")
	case ev.Is(nsTLS, "starttls"):
		return startTLS, nil
	case ev.Is(nsSASL, "auth"):
		return s.authenticate(ctx, ev.Tree())
	case ev.Is(NSManage, "enable"), ev.Is(NSManage, "resume"):
		return awaitLogin, s.send(failed("unexpected-request")) // XEP-0198 §3
	case ev.Is(nsSASL2, "authenticate"):
		return s.authenticate2(ctx, ev.Tree())
	case ev.Is(nsSASL, "abort"), ev.Is(nsSASL2, "abort"):
		return s.refuse(ev.Space(), nil, &sasl.Failure{Condition: sasl.Aborted})
	case ev.Is(nsSASL, "response"), ev.Is(nsSASL2, "response"):
		return s.refuse(ev.Space(), nil, &sasl.Failure{Condition: sasl.MalformedRequest})
	}
	if stanza.KindOf(ev.Index.Local.Bytes(ev.Raw)) == stanza.IQ && ev.Space() == stanza.NSClient && s.login.offer != nil {
		if ok, err := s.answerStranger(ctx, &ev); ok {
			return awaitLogin, err
		}
	}
	return nil, stream.Err(stream.NotAuthorized, "") // RFC 6120 §4.9.3.12
}

// answerStranger answers an iq that may come before authentication.
func (s *session) answerStranger(ctx context.Context, ev *stream.Event) (bool, error) {
	st, err := stanza.Parse(stanza.IQ, ev.Raw, ev.Index)
	child, ok := st.First()
	if err != nil || !ok || st.ID == "" || !s.svc.modules.AnswersBeforeAuth(st.Type, child.Space, child.Local) {
		return false, nil
	}
	if st.To.IsZero() {
		st.To = s.host.Domain
	}
	if st.To != s.host.Domain {
		return false, nil
	}
	st.From = jid.JID{}
	payload, err := s.svc.modules.BeforeAuthRequest(ctx, &module.Request{Stanza: st, Remote: s.conn.Info().Remote})
	reply := st.Result(payload)
	if err != nil {
		var e *stanza.Error
		if !errors.As(err, &e) {
			s.svc.log.Error("handling a request failed", "child", child.Space, "err", err)
			e = stanza.Internal()
		}
		reply = st.ErrorReply(e)
	}
	return true, s.send(stanza.Raw(reply.String()))
}

// startTLS secures the connection (RFC 6120 §5.4.2, §5.4.3).
func startTLS(_ context.Context, s *session) (state, error) {
	if !s.canSecure() {
		_ = s.send(stanza.El(nsTLS, "failure")) // RFC 6120 §5.4.2.2
		return nil, nil
	}
	if err := s.send(stanza.El(nsTLS, "proceed")); err != nil {
		return nil, err
	}
	if err := s.conn.(stream.Securer).Secure(s.host.TLS); err != nil {
		s.conn.Abort() // RFC 6120 §5.4.3.2: the TCP connection ends
		return nil, err
	}
	s.login = nil
	return opening, nil
}

// authenticate takes an attempt as in RFC 6120 §6.4.
func (s *session) authenticate(ctx context.Context, auth *stanza.Element) (state, error) {
	if s.login.offer == nil {
		return s.refuse(nsSASL, nil, &sasl.Failure{Condition: sasl.EncryptionRequired}) // RFC 6120 §6.5.4
	}
	ex, err := s.login.offer.Start(auth.Attr("mechanism"))
	if err != nil {
		return s.refuse(nsSASL, nil, err)
	}
	in, err := sasl.Decode(auth.Text())
	if err != nil {
		return s.refuse(nsSASL, ex, err)
	}
	out, err := s.exchange(ctx, nsSASL, ex, in)
	if err != nil {
		return s.refuse(nsSASL, ex, err)
	}
	return s.welcome(ex, out)
}

// exchange runs one attempt from its initial response (nil: none) to the data that
// comes with success. It is the same for both profiles of SASL but for the
// namespace, and how an empty response is written. An error that is a *sasl.Failure
// ends the attempt, any other the stream.
func (s *session) exchange(ctx context.Context, space string, ex sasl.Exchange, in []byte) ([]byte, error) {
	ctx = context.WithValue(ctx, attemptKey{}, s)
	s.login.claimed = jid.JID{}
	for {
		out, done, err := ex.Step(ctx, in)
		if err != nil || done {
			return out, err
		}
		if err := s.send(stanza.TextEl(space, "challenge", encode(out))); err != nil {
			return nil, err
		}
		ev, err := s.conn.Read(nil)
		switch {
		case err != nil:
			return nil, err
		case ev.Kind == stream.Closed:
			return nil, io.EOF
		case ev.Is(space, "response"):
			if in, err = decode(space, ev.Tree().Text()); err != nil {
				return nil, err
			}
			if in == nil {
				in = []byte{}
			}
		case ev.Is(space, "abort"):
			return nil, &sasl.Failure{Condition: sasl.Aborted} // RFC 6120 §6.4.4, XEP-0388 §6.5
		default:
			// XEP-0388 §2.5: anything else ends the stream.
			return nil, stream.Err(stream.NotAuthorized, "")
		}
	}
}

// refuse tells of a failed attempt and lets the peer try again, up to a limit
// (RFC 6120 §6.4.5, XEP-0388 §2.6.2). An error that is no *sasl.Failure ends the
// stream.
func (s *session) refuse(space string, ex sasl.Exchange, err error) (state, error) {
	var f *sasl.Failure
	if !errors.As(err, &f) {
		if errors.Is(err, io.EOF) {
			return nil, nil // closed in order
		}
		return nil, err
	}
	s.svc.Stats.LoginsBad.Add(1)
	if t := s.opts.Throttle; t != nil && ex != nil && f.Condition == sasl.NotAuthorized {
		t.Failed(s.remote(), s.login.claimed)
	}
	s.svc.log.Info("login failed", "remote", s.remote().String(), "host", s.host.Domain.String(), "condition", string(f.Condition))
	if err := s.send(stanza.El(space, "failure").Add(stanza.El(nsSASL, string(f.Condition)))); err != nil {
		return nil, err
	}
	if s.login.attempts++; s.login.attempts >= s.opts.Attempts {
		return nil, stream.Err(stream.PolicyViolation, "too many failed logins")
	}
	return awaitLogin, nil
}

// welcome ends a successful exchange (RFC 6120 §6.4.6).
func (s *session) welcome(ex sasl.Exchange, data []byte) (state, error) {
	account, err := s.identify(ex)
	if err != nil {
		return s.refuse(nsSASL, ex, err)
	}
	ok := stanza.El(nsSASL, "success")
	if len(data) > 0 {
		ok.AddText(encode(data))
	}
	s.authenticated(account)
	s.conn.Restart()
	return opening, s.send(ok)
}

// identify returns the account that an exchange was for.
func (s *session) identify(ex sasl.Exchange) (jid.JID, error) {
	local := ex.Username()
	if local == "" {
		local = "anon-" + newID(12) // ANONYMOUS
	}
	account, err := jid.New(local, s.host.Domain.Domain(), "")
	if err != nil {
		return jid.JID{}, &sasl.Failure{Condition: sasl.TemporaryAuthFailure, Cause: err}
	}
	return account.Clone(), nil
}

// authenticated makes the stream the account's. The peer does not know yet.
func (s *session) authenticated(account jid.JID) {
	s.account = account
	if t := s.opts.Throttle; t != nil {
		t.Succeeded(s.remote(), s.account)
	}
	s.conn.Limit(s.opts.After)
	s.svc.Stats.Logins.Add(1)
}

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
		f = append(f, stanza.El(NSManage, "sm"))
	}
	return append(f, limits(s.opts.After, s.opts.PingAfter))
}

// awaitBind waits for the request to bind a resource (RFC 6120 §7.6, §7.7), or to
// resume a session.
func awaitBind(ctx context.Context, s *session) (state, error) {
	ev, err := s.conn.Read(nil)
	switch {
	case err != nil:
		return nil, err
	case ev.Kind == stream.Closed:
		return nil, nil
	case ev.Kind == stream.Opened:
		return nil, stream.Err(stream.NotAuthorized, "no stream restart is due")
	case ev.Is(NSManage, "resume"): // XEP-0198 §5
		reply, ok := s.resume(ctx, ev.Tree())
		if err := s.send(reply); err != nil || !ok {
			return awaitBind, err
		}
		return nil, s.resumed()
	case ev.Is(NSManage, "enable"):
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

// bind makes the session reachable under the resource asked for, or one of ours.
func (s *session) bind(ctx context.Context, rq *stanza.Stanza, resource string) error {
	fresh := func() jid.JID {
		j, err := s.account.WithResource(newID(9))
		if err != nil {
			panic("c2s: a hexadecimal resource is valid: " + err.Error())
		}
		return j
	}
	full := fresh()
	if resource != "" {
		j, err := s.account.WithResource(resource)
		if err != nil {
			return &stanza.Error{Condition: stanza.BadRequest, Text: "not a valid resource", Cause: err} // RFC 6120 §7.7.2.1
		}
		full = j
	}
	opts := s.opts
	peer, err := s.svc.router.Bind(router.Binding{
		JID: full, Conn: s.conn, Conflict: opts.Conflict, MaxSessions: opts.MaxSessions, OutboxLimit: opts.Outbox,
		Rename: fresh, Kick: s.kick,
		Held: true,
	})
	if err != nil {
		return err
	}
	s.peer, s.login = peer, nil
	s.restrain()
	s.svc.settle(s)
	s.svc.modules.SessionBound(ctx, peer)
	peer.Begin(stanza.Raw(stanza.New(stanza.IQ, stanza.Result, jid.JID{}, jid.JID{}, rq.ID,
		stanza.El(nsBind, "bind", stanza.TextEl(nsBind, "jid", peer.JID.String()))).String()))
	return nil
}
