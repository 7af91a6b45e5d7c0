//spec:xep-0198 1.6.3 complete | Stream Management | acknowledgements, and resumption over any framing; also inside SASL2 and Bind 2; no location
package c2s

import (
	"strconv"
	"time"

	"trivium/core/stanza"
	"trivium/core/stream"
)

// nsManage is the namespace of stream management (XEP-0198 §12).
const nsManage = "urn:xmpp:sm:3"

// manage takes what a client sends of stream management on a bound stream.
func (s *session) manage(ev *stream.Event) error {
	switch local := string(ev.Index.Local.Bytes(ev.Raw)); {
	case local == "enable" && s.managed != nil:
		// XEP-0198 §3: a second attempt ends the stream.
		return stream.Err(stream.PolicyViolation, "stream management is enabled already")
	case local == "enable":
		m := s.newManaged(ev.Tree())
		s.peer.Manage(&s.turn, s.opts.Unacked, m.enabled())
		return nil
	case local == "resume":
		s.peer.Write(&s.turn, failed("unexpected-request")) // XEP-0198 §5: a resource is bound
		return nil
	case s.managed == nil:
		return stream.Err(stream.UnsupportedStanzaType, "stream management is not enabled")
	case local == "r":
		s.managed.answer(&s.turn)
		return nil
	case local == "a":
		h, ok := counter(ev)
		if !ok {
			return stream.Err(stream.BadFormat, "'h' is a number")
		}
		return s.acknowledge(h)
	}
	return stream.Err(stream.UnsupportedStanzaType, "")
}

// newManaged makes the session one with stream management.
func (s *session) newManaged(enable *stanza.Element) *managed {
	m := &managed{svc: s.svc, peer: s.peer, owner: s, id: newID(16)}
	if r := enable.Attr("resume"); r == "true" || r == "1" {
		m.max = max(s.opts.Resume, 0)
		if wish, err := strconv.ParseUint(enable.Attr("max"), 10, 31); err == nil && wish > 0 {
			m.max = min(m.max, time.Duration(wish)*time.Second)
		}
	}
	s.svc.registry.keep(m)
	s.peer.OnKick(m.kick)
	s.managed = m
	return m
}

// enabled is the answer to <enable/>.
func (m *managed) enabled() stanza.Payload {
	el := stanza.El(nsManage, "enabled")
	if m.max > 0 {
		el.Set("id", m.id).Set("resume", "true").Set("max", strconv.Itoa(int(m.max/time.Second)))
	}
	return el
}

// enable takes <enable/> inside of Bind 2's <bind/> and returns what goes into
// <bound/> (XEP-0198 §8). The session has been bound with Binding.Manage, so that
// all that comes behind <success/> is counted.
func (s *session) enable(el *stanza.Element) stanza.Payload { return s.newManaged(el).enabled() }

// acknowledge takes the peer's 'h'.
func (s *session) acknowledge(h uint32) error {
	var sent uint32
	var ok bool
	s.svc.debts.pay(&s.turn, func() { sent, ok = s.peer.Acknowledge(h) })
	if ok {
		return nil
	}
	// XEP-0198 §6
	return &stream.Error{
		Condition: stream.UndefinedCondition,
		Text:      "You acknowledged " + strconv.FormatUint(uint64(h), 10) + " stanzas, but I only sent you " + strconv.FormatUint(uint64(sent), 10) + " so far.",
		App: stanza.El(nsManage, "handled-count-too-high").
			Set("h", strconv.FormatUint(uint64(h), 10)).Set("send-count", strconv.FormatUint(uint64(sent), 10)).String(),
	}
}

// counter reads the attribute 'h'.
func counter(ev *stream.Event) (uint32, bool) {
	text, ok := attr(ev, "h")
	h, err := strconv.ParseUint(text, 10, 32)
	return uint32(h), ok && err == nil
}

// ack is <a/>.
type ack managed

// AppendXML implements stanza.Payload. It reads the number in the moment in which
// the element takes its place on the stream, so that none is behind a higher one.
func (m *ack) AppendXML(dst []byte) []byte {
	dst = append(dst, "<a xmlns='"+nsManage+"' h='"...)
	dst = strconv.AppendUint(dst, uint64(m.handled.Load()), 10)
	return append(dst, "'/>"...)
}

// failed is the answer to <enable/> and <resume/> that do not work (XEP-0198 §6).
func failed(condition string) *stanza.Element {
	return stanza.El(nsManage, "failed", stanza.El(stanza.NSStanzas, condition))
}

// resume takes <resume/> of an authenticated stream that is not bound (XEP-0198
// §5). With ok the stream now belongs to the former session; reply is to be sent
// first, and then resumed is to be called. Otherwise reply is the <failed/> to
// send.
func (s *session) resume(el *stanza.Element) (reply stanza.Payload, ok bool) {
	id := el.Attr("previd")
	h, err := strconv.ParseUint(el.Attr("h"), 10, 32)
	if err != nil || id == "" {
		return failed("bad-request"), false
	}
	m, last, known := s.svc.registry.resumable(id, s.account)
	if m == nil {
		s.svc.Stats.ResumesBad.Add(1)
		el := failed("item-not-found")
		if known {
			el.Set("h", strconv.FormatUint(uint64(last), 10))
		}
		return el, false
	}
	if !m.claim(s) {
		s.svc.Stats.ResumesBad.Add(1)
		return failed("item-not-found"), false
	}
	s.svc.Stats.Resumes.Add(1)
	s.peer, s.managed, s.login = m.peer, m, nil
	s.resumeFrom = uint32(h)
	in := m.settle()
	return stanza.El(nsManage, "resumed").Set("previd", id).Set("h", strconv.FormatUint(uint64(in), 10)), true
}

// resumed sends what the peer has not acknowledged, and goes on. An error ends the
// stream.
func (s *session) resumed() error {
	s.restrain()
	s.peer.Touch(time.Now())
	s.svc.watch(s)
	if err := s.acknowledge(s.resumeFrom); err != nil {
		return err
	}
	if !s.peer.Attach(s.conn, s.managed.kick) {
		return stream.Err(stream.ResourceConstraint, "the session has ended meanwhile")
	}
	return nil
}
