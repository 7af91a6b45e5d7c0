package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"trivium/core/stanza"
)

const (
	maxResponse   = 256 << 10 // octets of an answer that are read
	maxRetryAfter = 24 * time.Hour
	userAgent     = "Trivium-Webhook/1"
)

// newTransport returns a transport that connects to public addresses only, and
// to private ones when the endpoint may be private. The check is made after the
// name was resolved, on the address that is connected to.
func newTransport(c Endpoint) *http.Transport {
	dialer := &net.Dialer{Timeout: c.Timeout, Control: guard(c.AllowPrivate)}
	return &http.Transport{
		DialContext:            dialer.DialContext, // no proxy: it would connect in our place
		TLSHandshakeTimeout:    c.Timeout,
		ResponseHeaderTimeout:  c.Timeout,
		MaxIdleConnsPerHost:    c.Concurrency,
		MaxConnsPerHost:        c.Concurrency,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true, // an answer is as large as it looks
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Event is what is posted: the payload of Standard Webhooks.
type Event struct {
	Type      string    `json:"type" enum:"message" doc:"What has happened."`
	Timestamp time.Time `json:"timestamp" doc:"When the server accepted the message."`
	Data      Data      `json:"data"`
}

// Data is the message of an Event.
type Data struct {
	ID      string     `json:"id,omitempty" doc:"The stanza's id, chosen by its sender."`
	From    string     `json:"from" format:"xmpp-jid" doc:"Who sent it." example:"juliet@example.org/balcony"`
	To      string     `json:"to" format:"xmpp-jid" doc:"To whom." example:"bot@gateway.example.org"`
	Type    string     `json:"type" enum:"chat,normal,headline,groupchat,error" doc:"The type of RFC 6121 section 5.2.2."`
	Body    string     `json:"body,omitempty" doc:"The text."`
	Subject string     `json:"subject,omitempty" doc:"The subject."`
	Thread  string     `json:"thread,omitempty" doc:"The thread."`
	Lang    string     `json:"lang,omitempty" doc:"The language of body and subject."`
	Error   *DataError `json:"error,omitempty" doc:"Why a message of yours was refused, when the type is error."`
	XML     string     `json:"xml" doc:"The whole message."`
}

// DataError is the stanza error of a message of type error.
type DataError struct {
	Type      string `json:"type" doc:"What its sender may do about it (RFC 6120 section 8.3.2)."`
	Condition string `json:"condition" doc:"The condition of RFC 6120 section 8.3.3."`
	Text      string `json:"text,omitempty" doc:"An explanation for people."`
}

// payload makes the octets to post. They are the same for every attempt.
func payload(st *stanza.Stanza, it *item) ([]byte, error) {
	d := Data{
		ID: st.ID, From: st.From.String(), To: st.To.String(), Type: st.Type, Lang: st.Lang,
		Subject: text(st, "subject"), Thread: text(st, "thread"), XML: string(it.doc),
	}
	d.Body, _ = st.Body()
	if d.Type == "" {
		d.Type = stanza.Normal // RFC 6121 §5.2.2
	}
	if c, ok := st.Child(stanza.NSClient, "error"); ok && st.Type == stanza.TypeError {
		el := c.Element()
		d.Error = &DataError{Type: el.Attr("type"), Text: el.ChildText(stanza.NSStanzas, "text")}
		for _, n := range el.Children(stanza.NSStanzas, "") {
			if n.Local != "text" {
				d.Error.Condition = n.Local
				break
			}
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(Event{"message", it.created.UTC(), d}); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func text(st *stanza.Stanza, name string) string {
	c, ok := st.Child(stanza.NSClient, name)
	if !ok {
		return ""
	}
	return c.Element().Text()
}

// post tries to deliver a message and reports the outcome to run, once.
func (e *endpoint) post(ctx context.Context, it *item) {
	st, err := stanza.ParseDocument(it.doc)
	var body []byte
	if err == nil {
		body, err = payload(st, it)
	}
	if err != nil { // the row is damaged
		e.stats.failed.Add(1)
		e.mail.put(outcome{it: it, what: hopeless, why: "unreadable: " + err.Error()})
		return
	}
	answer, o := e.try(ctx, it, body)
	e.stats.lastTry.Store(time.Now().UnixMilli())
	if o.what != taken {
		if ctx.Err() != nil {
			o = outcome{it: it, what: left}
		} else {
			e.stats.failed.Add(1)
		}
		e.mail.put(o)
		return
	}
	e.stats.delivered.Add(1)
	replies := e.replies(st, it, answer)
	e.deliver(replies, func(err error) {
		if err != nil { // a reply is not safe: the message must be posted again
			e.mail.put(outcome{it: it, what: again, why: err.Error()})
			return
		}
		// The lane goes on at once: rows leave in the order in which they are told
		// to, so that a crash brings back the end of a conversation, in order.
		e.service.delivered(e, it, nil)
		e.mail.put(outcome{it: it, what: taken})
	})
}

// response is what an endpoint has answered.
type response struct {
	media string
	body  []byte
}

// try makes one attempt.
func (e *endpoint) try(ctx context.Context, it *item, body []byte) (response, outcome) {
	o := outcome{it: it, what: again, sick: true}
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(body))
	if err != nil {
		o.why = err.Error()
		return response{}, o
	}
	now := time.Now()
	signatures := make([]string, len(e.signers))
	for i, w := range e.signers {
		if signatures[i], err = w.Sign(it.id, now, body); err != nil {
			o.why = err.Error()
			return response{}, o
		}
	}
	rq.Header = http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {userAgent},
		"Webhook-Id":        {it.id},
		"Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)},
		"Webhook-Signature": {strings.Join(signatures, " ")},
	}
	rs, err := e.client.Do(rq)
	if err != nil {
		e.stats.lastCode.Store(0)
		o.why = cause(err)
		return response{}, o
	}
	defer rs.Body.Close()
	e.stats.lastCode.Store(int64(rs.StatusCode))
	answer, err := io.ReadAll(io.LimitReader(rs.Body, maxResponse+1))
	switch code := rs.StatusCode; {
	case code >= 200 && code <= 299:
		if err != nil { // its reply may be lost
			o.why = cause(err)
			return response{}, o
		}
		if len(answer) > maxResponse {
			e.service.log.Warn("the answer of a webhook is too large to be read", "webhook", e.Name, "id", it.id)
			answer = nil
		}
		media, _, _ := mime.ParseMediaType(rs.Header.Get("Content-Type"))
		o.what, o.sick = taken, false
		return response{media, answer}, o
	case code == http.StatusGone:
		o.what, o.sick = gone, false
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		o.sick = code != http.StatusTooManyRequests
		o.notBefore = retryAfter(rs.Header.Get("Retry-After"), time.Now())
	default: // redirects among them
		o.what, o.sick = hopeless, false
	}
	o.why = "status " + strconv.Itoa(rs.StatusCode)
	return response{}, o
}

// cause leaves the URL out of an HTTP client's error: it may hold a secret path.
func cause(err error) string {
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}

// retryAfter reads RFC 9110 §10.2.3, a number of seconds or a date.
func retryAfter(value string, now time.Time) time.Time {
	if value == "" {
		return time.Time{}
	}
	var at time.Time
	if n, err := strconv.Atoi(value); err == nil && n >= 0 {
		at = now.Add(min(time.Duration(n), maxRetryAfter/time.Second) * time.Second)
	} else if at, err = http.ParseTime(value); err != nil {
		return time.Time{}
	}
	if limit := now.Add(maxRetryAfter); at.After(limit) {
		return limit
	}
	return at
}
