package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"trivium/bridges/kit"
	"trivium/core/auth/bearer"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/message"
)

// Problem is a problem document, RFC 9457. It never repeats what a request held.
type Problem struct {
	Type      string  `json:"type" format:"uri-reference" doc:"What kind of problem this is (RFC 9457 section 3.1.1): about:blank when the status says it all, else a stanza error as urn:ietf:params:xml:ns:xmpp-stanzas#condition." example:"urn:ietf:params:xml:ns:xmpp-stanzas#service-unavailable"`
	Title     string  `json:"title" doc:"The same for every problem of the type." example:"service-unavailable"`
	Status    int     `json:"status" doc:"The HTTP status code." minimum:"400" maximum:"599"`
	Detail    string  `json:"detail,omitempty" doc:"What happened here, for people."`
	Instance  string  `json:"instance,omitempty" format:"uri" doc:"The request, by its X-Request-Id." example:"urn:x-trivium:request:5b0c6a1f0e2d4c38"`
	Condition string  `json:"condition,omitempty" doc:"The stanza error condition of RFC 6120 section 8.3.3, when the message was refused on its way." example:"service-unavailable"`
	ErrorType string  `json:"error_type,omitempty" enum:"auth,cancel,continue,modify,wait" doc:"What the sender may do about it (RFC 6120 section 8.3.2)."`
	Errors    []Fault `json:"errors,omitempty" doc:"What is wrong with the request."`
}

// Error lets a handler return the document.
func (p *Problem) Error() string { return "httpapi: " + p.Title + ": " + p.Detail }

// Fault says what is wrong with one part of a request.
type Fault struct {
	Location string `json:"location" doc:"Where it is." example:"body.to"`
	Message  string `json:"message" doc:"What is wrong with it." example:"is not an address"`
}

// statusOf is the table of stanza error conditions (RFC 6120 §8.3.3) and the
// status codes they are reported with.
var statusOf = [...]struct {
	condition stanza.Condition
	status    int
}{
	{stanza.BadRequest, http.StatusUnprocessableEntity},
	{stanza.Conflict, http.StatusConflict},
	{stanza.FeatureNotImplemented, http.StatusNotImplemented},
	{stanza.Forbidden, http.StatusForbidden},
	{stanza.Gone, http.StatusGone},
	{stanza.InternalServerError, http.StatusInternalServerError},
	{stanza.ItemNotFound, http.StatusNotFound},
	{stanza.JIDMalformed, http.StatusUnprocessableEntity},
	{stanza.NotAcceptable, http.StatusUnprocessableEntity},
	{stanza.NotAllowed, http.StatusForbidden},
	{stanza.NotAuthorized, http.StatusForbidden},
	{stanza.PolicyViolation, http.StatusForbidden},
	{stanza.RecipientUnavailable, http.StatusServiceUnavailable},
	{stanza.Redirect, http.StatusNotFound},
	{stanza.RegistrationRequired, http.StatusForbidden},
	{stanza.RemoteServerNotFound, http.StatusNotFound},
	{stanza.RemoteServerTimeout, http.StatusGatewayTimeout},
	{stanza.ResourceConstraint, http.StatusServiceUnavailable},
	// Nobody of this address takes messages now: not a failure of this service,
	// and the answer for accounts that do not exist (RFC 6121 §8.5.1).
	{stanza.ServiceUnavailable, http.StatusNotFound},
	{stanza.SubscriptionRequired, http.StatusForbidden},
	{stanza.UndefinedCondition, http.StatusInternalServerError},
	{stanza.UnexpectedRequest, http.StatusConflict},
}

func conditionStatus(c stanza.Condition) int {
	for _, e := range statusOf {
		if e.condition == c {
			return e.status
		}
	}
	return http.StatusInternalServerError
}

// problem makes a document whose status says it all (RFC 9457 §4.2.1).
func problem(status int, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

// problemOf turns an error into a document. Errors that are ours alone become an
// internal server error; ours reports them.
func problemOf(err error) (p *Problem, ours bool) {
	var field *message.FieldError
	var syntax *message.SyntaxError
	var refused *stanza.Error
	switch {
	case errors.As(err, &field):
		p = problem(http.StatusUnprocessableEntity, "The body is not as it should be.")
		at := "body"
		if field.Field != "" {
			at += "." + field.Field
		}
		p.Errors = []Fault{{at, field.Reason}}
		return p, false
	case errors.As(err, &syntax):
		return problem(http.StatusBadRequest, "The request "+syntax.Reason+"."), false
	case errors.As(err, &refused):
		return &Problem{
			Type: stanza.NSStanzas + "#" + string(refused.Condition), Title: string(refused.Condition),
			Status: conditionStatus(refused.Condition), Detail: refused.Text,
			Condition: string(refused.Condition), ErrorType: string(refused.ErrType()),
		}, refused.Condition == stanza.InternalServerError
	case errors.Is(err, kit.ErrNoRequest):
		return problem(http.StatusConflict, "Nobody waits for this answer: the request was answered, or given up."), false
	case errors.Is(err, store.ErrBusy), errors.Is(err, store.ErrFull), errors.Is(err, store.ErrIO),
		errors.Is(err, store.ErrLocked), errors.Is(err, store.ErrClosed):
		return problem(http.StatusServiceUnavailable, "The store cannot be used now."), true
	case errors.Is(err, bearer.ErrUnavailable):
		return problem(http.StatusServiceUnavailable, "The issuer of the token cannot be asked now."), true
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return problem(http.StatusGatewayTimeout, "There was no answer in time."), false
	}
	if errors.Is(err, context.Canceled) {
		return problem(http.StatusGatewayTimeout, "The request was given up."), false // and nobody reads this
	}
	return problem(http.StatusInternalServerError, ""), true
}

// encodeJSON is json.Marshal that leaves the signs of XML as they are.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// retryAfter is what a client is asked to wait, in seconds, where a later
// attempt may succeed.
const retryAfter = 5

func (p *Problem) write(w http.ResponseWriter) {
	told := *p // p may be shared
	if id := requestID(w); id != "" {
		told.Instance = "urn:x-trivium:request:" + id
	}
	body, err := encodeJSON(&told)
	if err != nil {
		panic(err) // strings and numbers
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/problem+json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests) && h["Retry-After"] == nil {
		h["Retry-After"] = []string{strconv.Itoa(retryAfter)}
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}
