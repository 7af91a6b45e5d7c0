package stanza

import (
	"trivium/core/jid"
	"trivium/core/wire"
)

// ErrorType says what the sender may do about an error, RFC 6120 §8.3.2.
type ErrorType string

// The error types.
const (
	Auth     ErrorType = "auth"
	Cancel   ErrorType = "cancel"
	Continue ErrorType = "continue"
	Modify   ErrorType = "modify"
	Wait     ErrorType = "wait"
)

// Condition is a defined condition of RFC 6120 §8.3.3.
type Condition string

// The defined conditions, RFC 6120 §8.3.3.1 to §8.3.3.22.
const (
	BadRequest            Condition = "bad-request"
	Conflict              Condition = "conflict"
	FeatureNotImplemented Condition = "feature-not-implemented"
	Forbidden             Condition = "forbidden"
	Gone                  Condition = "gone"
	InternalServerError   Condition = "internal-server-error"
	ItemNotFound          Condition = "item-not-found"
	JIDMalformed          Condition = "jid-malformed"
	NotAcceptable         Condition = "not-acceptable"
	NotAllowed            Condition = "not-allowed"
	NotAuthorized         Condition = "not-authorized"
	PolicyViolation       Condition = "policy-violation"
	RecipientUnavailable  Condition = "recipient-unavailable"
	Redirect              Condition = "redirect"
	RegistrationRequired  Condition = "registration-required"
	RemoteServerNotFound  Condition = "remote-server-not-found"
	RemoteServerTimeout   Condition = "remote-server-timeout"
	ResourceConstraint    Condition = "resource-constraint"
	ServiceUnavailable    Condition = "service-unavailable"
	SubscriptionRequired  Condition = "subscription-required"
	UndefinedCondition    Condition = "undefined-condition"
	UnexpectedRequest     Condition = "unexpected-request"
)

// defaultType gives the error type that RFC 6120 §8.3.3 names with each condition.
func (c Condition) defaultType() ErrorType {
	switch c {
	case BadRequest, JIDMalformed, NotAcceptable, PolicyViolation, Redirect:
		return Modify
	case Forbidden, NotAuthorized, RegistrationRequired, SubscriptionRequired:
		return Auth
	case RecipientUnavailable, RemoteServerTimeout, ResourceConstraint, UnexpectedRequest:
		return Wait
	}
	return Cancel
}

// defined tells whether RFC 6120 §8.3.3 has the condition.
func (c Condition) defined() bool {
	switch c {
	case BadRequest, Conflict, FeatureNotImplemented, Forbidden, Gone, InternalServerError, ItemNotFound, JIDMalformed,
		NotAcceptable, NotAllowed, NotAuthorized, PolicyViolation, RecipientUnavailable, Redirect, RegistrationRequired,
		RemoteServerNotFound, RemoteServerTimeout, ResourceConstraint, ServiceUnavailable, SubscriptionRequired,
		UndefinedCondition, UnexpectedRequest:
		return true
	}
	return false
}

// Error is a stanza error: one stanza failed, the stream goes on.
type Error struct {
	Type      ErrorType // empty: the type RFC 6120 names for the condition
	Condition Condition
	Text      string  // for people; may be empty
	By        jid.JID // who says so; zero: left out
	Alternate string  // the new address of gone and redirect, a URI
	App       Payload // application-specific condition (§8.3.4); may be nil
	Cause     error   // for the log, never sent
}

// Err returns an Error with its default type.
func Err(c Condition, text string) *Error { return &Error{Condition: c, Text: text} }

// Internal is what the peer learns of our own bugs.
func Internal() *Error { return &Error{Condition: InternalServerError} }

func (e *Error) Error() string {
	s := string(e.Condition)
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Cause != nil {
		s += " (" + e.Cause.Error() + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// ErrType returns the error's type, its condition's own when none is set.
func (e *Error) ErrType() ErrorType {
	if e.Type != "" {
		return e.Type
	}
	return e.Condition.defaultType()
}

// AppendXML implements Payload: the <error/> of RFC 6120 §8.3.2.
func (e *Error) AppendXML(dst []byte) []byte {
	dst = append(dst, "<error"...)
	dst = appendAttr(dst, " type='", string(e.ErrType()))
	if !e.By.IsZero() {
		dst = appendAttr(dst, " by='", e.By.String())
	}
	dst = append(dst, "><"...)
	dst = append(dst, e.Condition...)
	dst = append(dst, " xmlns='"+NSStanzas+"'"...)
	if e.Alternate == "" {
		dst = append(dst, "/>"...)
	} else {
		dst = append(dst, '>')
		dst = wire.AppendText(dst, carriable(e.Alternate))
		dst = append(dst, "</"...)
		dst = append(dst, e.Condition...)
		dst = append(dst, '>')
	}
	if e.Text != "" {
		dst = append(dst, "<text xmlns='"+NSStanzas+"'>"...)
		dst = wire.AppendText(dst, carriable(e.Text))
		dst = append(dst, "</text>"...)
	}
	if e.App != nil {
		dst = e.App.AppendXML(dst)
	}
	return append(dst, "</error>"...)
}

// ReadError reads type, condition and text of the error in a stanza of type error
// (RFC 6120 §8.3.2). Whoever has sent it may have written anything: a condition or a
// type that the RFC does not have is as good as absent, and an absent condition is
// undefined-condition.
func (st *Stanza) ReadError() *Error {
	e := &Error{Condition: UndefinedCondition}
	c, ok := st.Child(NSClient, "error")
	if !ok {
		return e
	}
	el := c.Element()
	switch t := ErrorType(el.Attr("type")); t {
	case Auth, Cancel, Continue, Modify, Wait:
		e.Type = t
	}
	e.Text = el.ChildText(NSStanzas, "text")
	for _, n := range el.Children(NSStanzas, "") {
		if c := Condition(n.Local); c.defined() {
			e.Condition = c
			break
		}
	}
	return e
}

// ErrorReply returns the error answer to st, or nil when st must not be answered
// with an error: errors and results never are (RFC 6120 §8.3.1). The original
// payload is not echoed.
func (st *Stanza) ErrorReply(e *Error) *Stanza {
	if st.Type == TypeError || st.Kind == IQ && st.Type == Result {
		return nil
	}
	return New(st.Kind, TypeError, st.To, st.From, st.ID, e)
}
