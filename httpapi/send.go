package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/message"
)

// Accepted is the answer to a message that is safe.
type Accepted struct {
	ID     string `json:"id" doc:"The stanza's id." example:"F6QJ3GMSMSZFQR7GNS5GBCKHB4"`
	To     string `json:"to" doc:"The recipient's address in its normal form." example:"juliet@example.org"`
	Status string `json:"status" enum:"accepted" doc:"The message has left for every device of the recipient that takes it, or it is stored."`
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const keepBuffer = 64 << 10 // larger ones are left to the collector

var turns = sync.Pool{New: func() any { return new(router.Turn) }}

// postMessage is POST /messages.
func (a *API) postMessage(w http.ResponseWriter, r *http.Request) {
	token, p := a.authenticate(w, r) // before anything of the body is read
	if p == nil {
		var st *stanza.Stanza
		st, p = a.read(w, r, &token)
		if p == nil && st.Size() > a.stanzaMax {
			p = problem(http.StatusRequestEntityTooLarge, "The message is larger than a stanza may be.")
		}
		if p == nil {
			p = a.send(r, st)
		}
		if p == nil {
			a.Stats.Accepted.Add(1)
			writeJSON(w, http.StatusAccepted, &Accepted{ID: st.ID, To: st.To.String(), Status: "accepted"})
			return
		}
	}
	if p.Status >= 500 {
		a.Stats.Failed.Add(1)
	} else {
		a.Stats.Refused.Add(1)
	}
	p.write(w)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	if len(body) > ownLength {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// ownLength is up to where net/http finds out the length of an answer itself,
// which costs less than telling it (http.ResponseWriter, Write).
const ownLength = 2048

// read makes the message of a request's body.
func (a *API) read(w http.ResponseWriter, r *http.Request, token *auth.Token) (*stanza.Stanza, *Problem) {
	asXML, p := format(r)
	if p != nil {
		return nil, p
	}
	if encoded(r) {
		w.Header()["Accept-Encoding"] = []string{"identity"} // RFC 9110 §12.5.3
		return nil, problem(http.StatusUnsupportedMediaType, "The message comes without a content coding.")
	}
	if r.ContentLength > a.opts.MaxBody {
		return nil, problem(http.StatusRequestEntityTooLarge, "")
	}
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= keepBuffer {
			buf.Reset()
			buffers.Put(buf)
		}
	}()
	body := r.Body
	if r.ContentLength < 0 { // of those that have a length net/http lets no more through
		body = http.MaxBytesReader(w, body, a.opts.MaxBody)
	}
	if _, err := buf.ReadFrom(body); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, problem(http.StatusRequestEntityTooLarge, "")
		}
		return nil, problem(http.StatusBadRequest, "The request ended early.")
	}
	var st *stanza.Stanza
	var err error
	if asXML {
		st, err = a.readXML(buf.Bytes(), token)
	} else {
		st, err = a.readJSON(buf.Bytes(), token)
	}
	if err == nil {
		p, err = a.maySend(w, r, token, st.From)
	}
	if err != nil {
		var ours bool
		if p, ours = problemOf(err); ours {
			a.log.Error("request failed", "err", err)
		}
	}
	if p != nil {
		return nil, p
	}
	return st, nil
}

// format tells whether the body is XML; otherwise it is JSON.
func format(r *http.Request) (asXML bool, p *Problem) {
	switch ct := r.Header.Get("Content-Type"); ct {
	case "application/json":
		return false, nil
	case "application/xml":
		return true, nil
	default:
		media, params, err := mime.ParseMediaType(ct)
		if charset := params["charset"]; err == nil && (charset == "" || equalFold(charset, "utf-8")) {
			switch media {
			case "application/json":
				return false, nil
			case "application/xml", "text/xml":
				return true, nil
			}
		}
	}
	return false, problem(http.StatusUnsupportedMediaType, "The message comes as application/json or application/xml, in UTF-8.")
}

// encoded tells whether the body has a content coding (RFC 9110 §8.4).
func encoded(r *http.Request) bool {
	for _, line := range r.Header["Content-Encoding"] {
		for coding := range strings.SplitSeq(line, ",") {
			if coding = strings.Trim(coding, " \t"); coding != "" && !equalFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}

func equalFold(a, b string) bool { return len(a) == len(b) && bytes.EqualFold([]byte(a), []byte(b)) }

func (a *API) readJSON(raw []byte, token *auth.Token) (*stanza.Stanza, error) {
	var d message.Draft
	if err := message.DecodeDraft(raw, &d); err != nil {
		return nil, err
	}
	to, err := message.Address("to", d.To)
	if err != nil {
		return nil, err
	}
	var from jid.JID
	if d.From != "" {
		if from, err = message.Address("from", d.From); err != nil {
			return nil, err
		}
	} else if from, err = defaultSender(token); err != nil {
		return nil, err
	}
	return d.Stanza(from, to, a.opts.Limits)
}

func (a *API) readXML(raw []byte, token *auth.Token) (*stanza.Stanza, error) {
	st, err := message.Parse(raw, a.opts.Limits)
	if err != nil {
		return nil, err
	}
	if st.To.IsZero() {
		return nil, &message.FieldError{Field: "to", Reason: "is needed"}
	}
	if st.From.IsZero() {
		st.From, err = defaultSender(token)
	}
	return st, err
}

func defaultSender(token *auth.Token) (jid.JID, error) {
	from, ok := token.DefaultSender()
	if !ok {
		return from, &message.FieldError{Field: "from", Reason: "is needed: the token may send from more than one address"}
	}
	return from, nil
}

// maySend checks that the token may speak for from, and that from is ours: a
// domain we serve and, where the domain has accounts, one of them.
func (a *API) maySend(w http.ResponseWriter, r *http.Request, token *auth.Token, from jid.JID) (*Problem, error) {
	if !token.MaySend(from) || !a.opts.Router.Serves(from.Domain()) {
		return noScope(w, "The token may not send from this address.", sendAs(from)), nil
	}
	if from.Local() != "" && a.opts.Router.Hosts(from.Domain()) {
		ok, err := a.opts.Exists(r.Context(), from.Bare())
		if err != nil {
			return nil, err
		}
		if !ok {
			return noScope(w, "The sender's account does not exist."), nil
		}
	}
	return nil, nil
}

// send routes the message and waits until it is safe.
func (a *API) send(r *http.Request, st *stanza.Stanza) *Problem {
	safe := make(chan error, 1)
	receipt := router.NewReceipt(func(err error) { safe <- err })
	receipt.Prompt = true // somebody waits for our answer
	turn := turns.Get().(*router.Turn)
	err := a.opts.Router.Send(r.Context(), turn, st, receipt)
	turn.Flush()
	turns.Put(turn)
	receipt.Release(err)
	select {
	case err = <-safe: // the usual case: nobody had to wait
	default:
		timeout := time.NewTimer(a.opts.Timeout)
		defer timeout.Stop()
		select {
		case err = <-safe:
		case <-timeout.C:
			return problem(http.StatusGatewayTimeout, "The message is on its way, but nobody has taken it yet. It may still arrive.")
		case <-r.Context().Done():
			return problem(http.StatusGatewayTimeout, "The request was given up.")
		}
	}
	if err == nil {
		return nil
	}
	p, ours := problemOf(err)
	if ours {
		a.log.Error("message not sent", "from", st.From.String(), "err", err)
	}
	return p
}
