package webhook

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"trivium/bridges/cpim"
	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/wire"
	"trivium/httpapi/event"
	"trivium/httpapi/message"
)

// maxReplies is how many messages one answer may hold.
const maxReplies = 64

// Answer is what an endpoint may answer with, as application/json. An answer of
// text/plain is the body of one reply; application/xml is one stanza; message/cpim is
// an object of RFC 3862. Presence and subscriptions are only answered by stanzas.
type Answer struct {
	Reply    *Reply       `json:"reply,omitempty" doc:"One message back."`
	Messages []Reply      `json:"messages,omitempty" maxItems:"64" doc:"Any number of messages, after reply."`
	Result   *string      `json:"result,omitempty" doc:"The answer to an iq request: the child of the result as XML, or an empty string for a result without one."`
	Error    *AnswerError `json:"error,omitempty" doc:"The message, the iq request, or the registration with a synchronous endpoint is refused; who asked sees condition and text. A registration looks at no other member."`
}

// AnswerError is a stanza error.
type AnswerError struct {
	Condition string `json:"condition" doc:"A condition of RFC 6120 section 8.3.3." example:"item-not-found"`
	Type      string `json:"type,omitempty" enum:"auth,cancel,continue,modify,wait" doc:"What the sender may do about it (RFC 6120 section 8.3.2); that of the condition by default."`
	Text      string `json:"text,omitempty" doc:"An explanation for people."`
}

// Reply is a message.Draft whose addresses need not be told: it goes from the
// recipient of the message that was posted to its sender.
type Reply struct {
	From       string `json:"from,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Another address of the gateway than the one that was written to."`
	To         string `json:"to,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Another recipient than who wrote."`
	Type       string `json:"type,omitempty" enum:"chat,normal,headline,groupchat" doc:"The type of RFC 6121 section 5.2.2; that of the message by default."`
	Body       string `json:"body,omitempty" doc:"The text."`
	Subject    string `json:"subject,omitempty" doc:"The subject."`
	Thread     string `json:"thread,omitempty" maxLength:"1023" doc:"The thread; that of the message by default."`
	ID         string `json:"id,omitempty" maxLength:"1023" doc:"The stanza's id. By default it is made of the webhook-id, so that a repeated reply can be recognised."`
	Lang       string `json:"lang,omitempty" maxLength:"35" doc:"The language, a tag of RFC 5646."`
	Extensions string `json:"extensions,omitempty" doc:"Further child elements, as XML."`
	*message.Extras
}

// replies reads the stanzas in an answer. What cannot be sent is left out, and the
// error says why.
func (e *endpoint) replies(d *definition, ev *event.Event, rs response) ([]*stanza.Stanza, error) {
	if ev.Stanza == nil || len(rs.body) == 0 || d.Silent {
		return nil, nil
	}
	st, err := stanza.ParseDocument(ev.Stanza)
	if err != nil {
		return nil, err
	}
	r := &reader{d: d, ev: ev, st: st, limits: e.service.opts.Limits}
	switch rs.media {
	case "text/plain":
		err = r.text(rs.body)
	case event.TypeJSON:
		err = r.json(rs.body)
	case event.TypeXML, "text/xml":
		err = r.xml(rs.body)
	case event.TypeCPIM:
		err = r.cpim(e.service.opts.Mapper, rs.body)
	default:
		return nil, nil // a page, for example
	}
	if st.Type == stanza.TypeError && len(r.list) > 0 {
		// An error is not answered (RFC 6120 §8.3.1), or two could go on for ever.
		return nil, errors.New("an error was answered")
	}
	return r.list, err
}

// refuses reads whether an answer to a registration refuses it; the error is for the user.
// Nothing else in it has a meaning.
func refuses(rs response) error {
	if len(rs.body) == 0 || rs.media != event.TypeJSON {
		return nil
	}
	var a Answer
	err := message.DecodeLoose(rs.body, &a)
	if err != nil || a.Error == nil {
		return err
	}
	refusal, err := a.Error.stanza()
	if err != nil {
		return err
	}
	return refusal
}

// reader makes stanzas of an answer to st, the stanza of ev.
type reader struct {
	d      *definition
	ev     *event.Event
	st     *stanza.Stanza
	limits wire.Limits
	list   []*stanza.Stanza
}

// sender is whom the event was for, and so who answers.
func (r *reader) sender() jid.JID {
	if r.d.domains[r.st.To.Domain()] {
		return r.st.To
	}
	return r.st.To.Bare() // the account's answer, not that of one of its clients
}

func (r *reader) text(body []byte) error {
	text := strings.TrimRight(string(body), "\r\n")
	if text == "" || r.st.Kind != stanza.Message {
		return nil
	}
	return r.draft(message.Draft{Body: text})
}

func (r *reader) json(body []byte) error {
	var a Answer
	if err := message.DecodeLoose(body, &a); err != nil {
		return err
	}
	if a.Error != nil {
		if r.st.Type == stanza.TypeError || r.st.Kind == stanza.Message && !r.d.domains[r.st.To.Domain()] {
			return nil // a watched account has got its message
		}
		failed, err := a.Error.stanza()
		if err != nil {
			return err
		}
		if reply := r.st.ErrorReply(failed); reply != nil {
			r.list = append(r.list, reply)
		}
		return nil
	}
	if r.st.Kind == stanza.IQ {
		return r.result(a.Result)
	}
	if r.st.Kind == stanza.Presence {
		return nil // a simple bot answers whatever it gets; a stanza says that it is meant
	}
	drafts := a.Messages
	if a.Reply != nil {
		drafts = append([]Reply{*a.Reply}, drafts...)
	}
	var failed error
	if len(drafts) > maxReplies {
		failed = fmt.Errorf("there are %d messages in it", len(drafts))
		drafts = drafts[:maxReplies]
	}
	for i := range drafts {
		if err := r.draft(message.Draft(drafts[i])); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// conditions are those of RFC 6120 §8.3.3 that a program may answer with.
var conditions = []stanza.Condition{
	stanza.BadRequest, stanza.Conflict, stanza.FeatureNotImplemented, stanza.Forbidden, stanza.Gone, stanza.InternalServerError,
	stanza.ItemNotFound, stanza.JIDMalformed, stanza.NotAcceptable, stanza.NotAllowed, stanza.NotAuthorized, stanza.PolicyViolation,
	stanza.RecipientUnavailable, stanza.Redirect, stanza.RegistrationRequired, stanza.RemoteServerNotFound, stanza.RemoteServerTimeout,
	stanza.ResourceConstraint, stanza.ServiceUnavailable, stanza.SubscriptionRequired, stanza.UndefinedCondition, stanza.UnexpectedRequest,
}

var errorTypes = []stanza.ErrorType{"", stanza.Auth, stanza.Cancel, stanza.Continue, stanza.Modify, stanza.Wait}

func (a *AnswerError) stanza() (*stanza.Error, error) {
	e := &stanza.Error{Condition: stanza.Condition(a.Condition), Type: stanza.ErrorType(a.Type), Text: a.Text}
	switch {
	case !slices.Contains(conditions, e.Condition):
		return nil, &message.FieldError{Field: "error.condition", Reason: "is not one of RFC 6120"}
	case !slices.Contains(errorTypes, e.Type):
		return nil, &message.FieldError{Field: "error.type", Reason: "is not one of RFC 6120"}
	case !wire.ValidText(a.Text):
		return nil, &message.FieldError{Field: "error.text", Reason: "has a character that XML cannot carry"}
	}
	return e, nil
}

// result answers an iq request with a payload: nil is no answer.
func (r *reader) result(payload *string) error {
	if payload == nil {
		return nil
	}
	reply, err := r.st.Result(nil).WithPayloadXML(*payload)
	if err == nil && reply.Len() > 1 { // RFC 6120 §8.2.3
		err = errors.New("it has several elements")
	}
	if err != nil {
		return &message.FieldError{Field: "result", Reason: "is not one whole element", Err: err}
	}
	r.list = append(r.list, reply)
	return nil
}

// draft adds a message. Its id is made of the webhook-id, so that whoever gets it
// twice can tell.
func (r *reader) draft(m message.Draft) error {
	from, to := r.sender(), r.st.From
	if m.From != "" {
		other, err := message.Address("from", m.From)
		if err != nil {
			return err
		}
		if !r.d.mayBe(r.st.To, other) {
			return errForeign
		}
		if r.d.domains[r.st.To.Domain()] {
			from = other
		}
	}
	if m.To != "" {
		var err error
		if to, err = message.Address("to", m.To); err != nil {
			return err
		}
	}
	if m.Type == "" && r.st.Type != stanza.Chat {
		m.Type = stanza.Normal
		if r.st.Type == stanza.GroupChat {
			m.Type = stanza.Chat // in private: only occupants speak in a room
		}
	}
	if m.Thread == "" && m.To == "" {
		m.Thread = thread(r.st) // RFC 6121 §5.2.5
	}
	if m.ID == "" {
		m.ID = r.id()
	}
	st, err := m.Stanza(from, to, r.limits)
	if err == nil {
		r.list = append(r.list, st)
	}
	return err
}

func (r *reader) id() string { return r.ev.ID() + "-" + strconv.Itoa(len(r.list)) }

func thread(st *stanza.Stanza) string {
	if c, ok := st.Child(stanza.NSClient, "thread"); ok {
		return c.Element().Text()
	}
	return ""
}

var errForeign = &message.FieldError{Field: "from", Reason: "is not an address of this webhook"}

// xml takes one stanza as it is. Addresses that it does not have are those of a reply;
// an iq can only be the answer to the request that was posted.
func (r *reader) xml(body []byte) error {
	st, err := parseStanza(body, r.limits)
	if err != nil {
		return err
	}
	from, to := r.sender(), r.st.From
	if !st.From.IsZero() {
		if !r.d.mayBe(r.st.To, st.From) {
			return errForeign
		}
		if r.d.domains[r.st.To.Domain()] {
			from = st.From
		}
	}
	if !st.To.IsZero() {
		to = st.To
	}
	if st.Kind == stanza.IQ {
		if r.st.Kind != stanza.IQ || st.Type != stanza.Result && st.Type != stanza.TypeError {
			return errors.New("an iq can only answer an iq request")
		}
		st.ID, from, to = r.st.ID, r.st.To, r.st.From // RFC 6120 §8.2.3
	}
	if st.Kind == stanza.Presence && !r.d.domains[from.Domain()] {
		return errors.New("only a gateway has presence to send")
	}
	if st.ID == "" {
		st.ID = r.id()
	}
	r.list = append(r.list, st.Readdressed(from, to))
	return nil
}

func (r *reader) cpim(m *cpim.Mapper, body []byte) error {
	if r.st.Kind != stanza.Message {
		return errors.New("message/cpim can only answer a message")
	}
	list, err := m.ReadMessage(string(body), cpim.Envelope{From: r.sender(), To: r.st.From}, time.Now())
	if errors.Is(err, cpim.ErrNothing) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, st := range list {
		if !r.d.mayBe(r.st.To, st.From) {
			return errForeign
		}
		if st.ID == "" {
			st.ID = r.id()
		}
		r.list = append(r.list, st)
	}
	return nil
}

// parseStanza reads one stanza from outside, in the namespace jabber:client or in
// none.
func parseStanza(raw []byte, limits wire.Limits) (*stanza.Stanza, error) {
	limits.Bytes = max(limits.Bytes, len(raw)+1) // it was bounded when it was read
	var sc wire.Scanner
	sc.Reset(wire.Document, limits)
	defer sc.Reset(wire.Document, wire.Limits{})
	kind, n, err := sc.Next(raw)
	if err != nil {
		return nil, err
	}
	el := sc.Index()
	if kind != wire.KindElement || strings.Trim(string(raw[n:]), " \t\r\n") != "" || !el.Prefix.Empty() {
		return nil, errors.New("it is not one stanza")
	}
	raw = raw[n-el.Len : n]
	local := el.Local.Bytes(raw)
	k := stanza.KindOf(local)
	space := string(el.Space.Bytes(raw))
	switch {
	case k == 0 || space != stanza.NSClient && space != "":
		return nil, errors.New("it is not one stanza")
	case el.Text:
		return nil, errors.New("it has text outside of elements")
	case space == "":
		name := 1 + len(local)
		full := append(make([]byte, 0, len(raw)+32), raw[:name]...)
		full = append(full, " xmlns='"+stanza.NSClient+"'"...)
		return parseStanza(append(full, raw[name:]...), limits)
	case el.Foreign:
		own, err := sc.Canonical(nil, raw)
		if err != nil {
			return nil, err
		}
		return parseStanza(own, limits)
	}
	return stanza.Parse(k, slices.Clone(raw), el)
}

// deliver sends the replies and calls done once: when all are safe or refused,
// or with the reason why one is not safe.
func (e *endpoint) deliver(list []*stanza.Stanza, done func(error)) {
	if len(list) == 0 {
		done(nil)
		return
	}
	s := e.service
	var left atomic.Int32
	var failed atomic.Pointer[error]
	left.Store(int32(len(list)))
	var t router.Turn
	for _, st := range list {
		rc := router.NewReceipt(func(err error) {
			if err != nil && refusal(err) == nil {
				failed.Store(&err)
			}
			if left.Add(-1) == 0 {
				if p := failed.Load(); p != nil {
					done(*p)
				} else {
					done(nil)
				}
			}
		})
		rc.Prompt = true // the next post waits for this one
		err := s.opts.Submit(s.ctx, &t, st, rc)
		if err != nil && refusal(err) != nil {
			s.log.Debug("a reply of a webhook was refused", "webhook", e.name, "err", err)
			s.opts.Router.Bounce(s.ctx, &t, st, err) // the gateway's user learns of it
			err = nil
		}
		rc.Release(err)
	}
	t.Flush()
}

// refuse tells the sender of st that it was not delivered.
func (e *endpoint) refuse(st *stanza.Stanza, err *stanza.Error) {
	var t router.Turn
	e.service.opts.Router.Bounce(e.service.ctx, &t, st, err)
	t.Flush()
}

// refusal returns the stanza error that err is, or nil.
func refusal(err error) *stanza.Error {
	var e *stanza.Error
	if errors.As(err, &e) && e.Condition != stanza.InternalServerError {
		return e
	}
	return nil
}
