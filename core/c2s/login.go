package c2s

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/sasl"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// login is what a stream needs only until it is bound.
type login struct {
	from     jid.JID     // what the peer's header says; not to be trusted
	offer    *sasl.Offer // of SASL as in RFC 6120; nil: none
	offer2   *sasl.Offer // of SASL2; nil: none
	attempts int
	claimed  jid.JID // the account that the current attempt is for, once it is known

	began     time.Time // the last attempt
	anonymous bool      // it was for no account
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

// awaitLogin waits for STARTTLS or SASL (RFC 6120 §5.4.2, §6.4.2).
func awaitLogin(ctx context.Context, s *session) (state, error) {
	ev, err := s.next()
	switch {
	case err != nil:
		return nil, err
	case ev.Is(nsTLS, "starttls"):
		return startTLS, nil
	case ev.Is(nsSASL, "auth"):
		return s.authenticate(ctx, ev.Tree())
	case ev.Is(nsManage, "enable"), ev.Is(nsManage, "resume"):
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
	s.login.claimed, s.login.began = jid.JID{}, time.Now()
	for {
		out, done, err := ex.Step(ctx, in)
		if err != nil || done {
			return out, err
		}
		if err := s.send(stanza.TextEl(space, "challenge", encode(out))); err != nil {
			return nil, err
		}
		ev, err := s.next()
		switch {
		case err != nil:
			return nil, err
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
	if s.login.anonymous = local == ""; s.login.anonymous {
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
