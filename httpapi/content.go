package httpapi

import (
	"bytes"
	"errors"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"trivium/bridges/cpim"
	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/httpapi/event"
	"trivium/httpapi/message"
)

// Types of messages beside JSON and XML.
const (
	cpimType      = event.TypeCPIM        // RFC 3862
	multipartType = "multipart/form-data" // RFC 7578
	ndjsonType    = "application/x-ndjson"
	pidfType      = event.TypePIDF // RFC 3863
)

// Submission is a message.Draft and what is to be done with it.
type Submission struct {
	message.Draft
	Track bool `json:"track,omitempty" doc:"Follow what becomes of the message for a week and across restarts: see GET /messages/{id}. Messages with an Idempotency-Key or a request for a receipt are followed so in any case, others as long as memory lasts."`
}

// open finds out what the body is and reads it, unless it comes in parts.
func (rq *request) open(buf *bytes.Buffer) *Problem {
	r := rq.r
	rq.media = mediaType(r)
	if encoded(r) {
		rq.w.Header()["Accept-Encoding"] = []string{"identity"} // RFC 9110 §12.5.3
		return problem(http.StatusUnsupportedMediaType, "The message comes without a content coding.")
	}
	if rq.media == multipartType {
		return nil
	}
	if r.ContentLength > rq.opts.MaxBody {
		return problem(http.StatusRequestEntityTooLarge, "")
	}
	hurry(rq.w, rq.opts.MaxBody)
	if _, err := buf.ReadFrom(http.MaxBytesReader(rq.w, r.Body, rq.opts.MaxBody)); err != nil {
		return readProblem(rq.w, err)
	}
	relax(rq.w)
	rq.body = buf.Bytes()
	return nil
}

// mediaType returns the type of the body, without parameters; "" for one that is not
// in UTF-8.
func mediaType(r *http.Request) string {
	ct := r.Header.Get("Content-Type")
	if ct == jsonType || ct == xmlType { // nearly always
		return ct
	}
	media, params, err := mime.ParseMediaType(ct)
	if charset := params["charset"]; err != nil || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return ""
	}
	if media == "text/xml" {
		return xmlType
	}
	return media
}

// readProblem is the document for a body that could not be read.
func readProblem(w http.ResponseWriter, err error) *Problem {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return problem(http.StatusRequestEntityTooLarge, "")
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header()["Connection"] = []string{"close"} // RFC 9110 §15.5.9
		return problem(http.StatusRequestTimeout, "The body came too slowly.")
	}
	return problem(http.StatusBadRequest, "The request ended early.")
}

// encoded tells whether the body has a content coding (RFC 9110 §8.4).
func encoded(r *http.Request) bool {
	for _, line := range r.Header["Content-Encoding"] {
		for coding := range strings.SplitSeq(line, ",") {
			if coding = strings.Trim(coding, " \t"); coding != "" && !strings.EqualFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}

// unsupported is the problem of a body of another type.
func unsupported(types string) *Problem {
	return problem(http.StatusUnsupportedMediaType, "The message comes as "+types+", in UTF-8.")
}

// messages is the reader of POST /messages.
func (a *API) messages(rq *request) ([]letter, error) {
	switch rq.media {
	case jsonType:
		var s Submission
		if err := decodeSubmission(rq.body, &s); err != nil {
			return nil, err
		}
		return rq.draft(&s)
	case xmlType:
		return rq.one(message.Parse(rq.body, rq.opts.Limits))
	case cpimType:
		return rq.cpim()
	case multipartType:
		return rq.multipart()
	}
	return nil, unsupported("application/json, application/xml, message/cpim or multipart/form-data")
}

// decodeSubmission reads a submission: drafts of plain strings, which nearly all
// are, on the short way.
func decodeSubmission(raw []byte, s *Submission) error {
	if s.Flat(raw) {
		return nil
	}
	*s = Submission{}
	return message.Decode(raw, s)
}

// draft makes the letter of a submission.
func (rq *request) draft(s *Submission) ([]letter, error) {
	to, err := message.Address("to", s.To)
	if err != nil {
		return nil, err
	}
	from, err := rq.sender(s.From)
	if err != nil {
		return nil, err
	}
	if s.ID == "" {
		s.ID = rq.id()
	}
	st, err := s.Stanza(from, to, rq.opts.Limits)
	if err != nil {
		return nil, err
	}
	return rq.letter(st, s.Track), nil
}

// sender is who sends: the address in the request, or the token's only one.
func (rq *request) sender(from string) (jid.JID, error) {
	if from != "" {
		return message.Address("from", from)
	}
	return defaultSender(rq.token)
}

// one completes a stanza that came as XML.
func (rq *request) one(st *stanza.Stanza, err error) ([]letter, error) {
	if err != nil {
		return nil, err
	}
	if st.To.IsZero() {
		return nil, &message.FieldError{Field: "to", Reason: "is needed"}
	}
	if st.From.IsZero() {
		if st.From, err = defaultSender(rq.token); err != nil {
			return nil, err
		}
	}
	if st.ID == "" && st.Kind == stanza.Message && st.Type != stanza.TypeError {
		st.ID = rq.id()
	}
	return rq.letter(st, false), nil
}

func defaultSender(token *auth.Token) (jid.JID, error) {
	from, ok := token.DefaultSender()
	if !ok {
		return from, &message.FieldError{Field: "from", Reason: "is needed: the token may send from more than one address"}
	}
	return from, nil
}

// cpim makes the letters of a Message/CPIM object: one for each recipient that its
// headers name. Its From header is all that says who sends, so the token has to
// cover it.
func (rq *request) cpim() ([]letter, error) {
	list, err := rq.opts.Messages.CPIM.ReadMessage(string(rq.body), cpim.Envelope{}, time.Now())
	if err != nil {
		return nil, cpimProblem(err)
	}
	letters := make([]letter, len(list))
	for i, st := range list {
		if st.ID == "" {
			st = st.Copy()
			st.ID = rq.id()
		}
		letters[i].st = st
	}
	return letters, nil
}

// cpimProblem says in words why an object cannot be mapped (RFC 3922 §4.2, §6.4).
func cpimProblem(err error) error {
	if errors.Is(err, cpim.ErrNothing) {
		return problem(http.StatusUnprocessableEntity, "The object holds nothing that could be sent as a message.")
	}
	var refused *stanza.Error
	if !errors.As(err, &refused) {
		return err
	}
	p, _ := problemOf(refused)
	switch refused.Condition { // the texts of the mapper may quote the object
	case stanza.BadRequest:
		p.Status, p.Detail = http.StatusBadRequest, "The object is not well-formed Message/CPIM (RFC 3862)."
	case stanza.Forbidden:
		p.Detail = "The object is from someone else than its sender."
	case stanza.JIDMalformed:
		p.Detail = "A From or To header holds an address that has no counterpart in XMPP: it wants an im: URI."
	case stanza.NotAcceptable:
		p.Detail = "The content cannot be carried as a message: only plain text in us-ascii or utf-8, alternatives that have it, and S/MIME objects can (RFC 3922 section 4.2.9)."
	case stanza.FeatureNotImplemented:
		p.Detail = "The object requires a header to be understood that is not (RFC 3862 section 4.5)."
	case stanza.PolicyViolation:
		p.Status, p.Detail = http.StatusRequestEntityTooLarge, "The object has more or longer headers, or more text, than the server allows."
	case stanza.RemoteServerNotFound:
		p.Detail = "No To header names a recipient that can be reached."
	default:
		p.Detail = "The object cannot be mapped to a message."
	}
	return p
}

// maySend checks that the token may speak for from, and that from is ours: a
// domain we serve and, where the domain has accounts, one of them.
func (a *API) maySend(w http.ResponseWriter, r *http.Request, token *auth.Token, from jid.JID) error {
	if !token.MaySend(from) || !a.opts.Router.Serves(from.Domain()) {
		return noScope(w, "The token may not send from this address.", sendAs(from))
	}
	if from.Local() != "" && a.opts.Router.Hosts(from.Domain()) {
		ok, err := a.opts.Exists(r.Context(), from.Bare())
		if err != nil {
			return err
		}
		if !ok {
			return noScope(w, "The sender's account does not exist.")
		}
	}
	return nil
}
