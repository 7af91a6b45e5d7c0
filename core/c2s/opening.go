package c2s

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
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
