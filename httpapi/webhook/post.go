package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"trivium/core/stanza"
	"trivium/httpapi/event"
	"trivium/httpapi/message"
)

const (
	maxResponse = 256 << 10 // octets of an answer that are read
	userAgent   = "Trivium-Webhook/1"
)

// newTransport returns a transport that connects to public addresses only, and
// to private ones when the endpoint may be private. The check is made after the
// name was resolved, on the address that is connected to.
func newTransport(c Endpoint) *http.Transport {
	dialer := &net.Dialer{Timeout: c.Timeout, Control: guard(c.AllowPrivate)}
	return &http.Transport{
		DialContext:            dialer.DialContext, // no proxy: it would connect in our place
		TLSHandshakeTimeout:    c.Timeout,
		ResponseHeaderTimeout:  0, // the attempt's deadline is enough
		MaxIdleConnsPerHost:    c.Concurrency,
		MaxConnsPerHost:        2 * c.Concurrency, // posts, and as many stanzas asked
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true, // an answer is as large as it looks
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Event is what is posted of a message as JSON: an event.Envelope.
type Event struct {
	ID        string       `json:"id" doc:"The event's id, which is the webhook-id."`
	Type      event.Type   `json:"type" enum:"message" doc:"What has happened."`
	Timestamp time.Time    `json:"timestamp" doc:"When the server accepted the message."`
	Host      string       `json:"host" doc:"The domain of the server that the event is about."`
	Data      message.Data `json:"data"`
}

// response is what an endpoint has answered.
type response struct {
	code  int // 0: nothing
	after string
	media string
	body  []byte
	took  time.Duration
}

var errTimeout = errors.New("no answer in time")

// errTooLarge says that an answer was longer than what is read of it.
var errTooLarge = errors.New("the answer is too large")

// request makes one attempt to post an event. The error tells why there is no
// answer, or not all of it, in words without the URL, which may be a secret.
func (e *endpoint) request(ctx context.Context, d *definition, ev *event.Event) (rs response, err error) {
	media, body, err := e.service.encoder.Encode(ev, d.Format)
	if err != nil {
		return rs, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	now := time.Now()
	id, timestamp := ev.ID(), strconv.FormatInt(now.Unix(), 10)
	rq := &http.Request{
		Method: http.MethodPost, URL: d.url, Host: d.url.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		Header: http.Header{
			"Content-Type":      {media},
			"User-Agent":        {userAgent},
			"Webhook-Id":        {id},
			"Webhook-Timestamp": {timestamp},
			"Webhook-Signature": {sign(d.keys, id, timestamp, body)},
			// Not sent: it tells the transport that the post may be repeated on another
			// connection when the one it took turns out to be closed.
			"Idempotency-Key": {},
		},
	}
	if ev.Trace != "" {
		rq.Header["Traceparent"] = []string{ev.Trace}
	}
	e.stats.lastTry.Store(now.UnixMilli())
	// The transport itself follows no redirect, which would carry the event where
	// nobody has agreed to.
	answer, err := d.transport.RoundTrip(rq.WithContext(ctx))
	if err != nil {
		e.stats.lastCode.Store(0)
		rs.took = time.Since(now)
		return rs, cause(ctx, err)
	}
	defer answer.Body.Close()
	rs.code, rs.after = answer.StatusCode, answer.Header.Get("Retry-After")
	e.stats.lastCode.Store(int64(rs.code))
	if answer.ContentLength != 0 {
		rs.body, err = io.ReadAll(io.LimitReader(answer.Body, maxResponse+1))
	}
	rs.took = time.Since(now)
	if err != nil {
		return rs, cause(ctx, err)
	}
	if len(rs.body) > maxResponse {
		rs.body = nil
		return rs, errTooLarge
	}
	if len(rs.body) > 0 {
		rs.media, _, _ = mime.ParseMediaType(answer.Header.Get("Content-Type"))
	}
	return rs, nil
}

// cause says what has gone wrong in words that name neither the URL, which may be a
// secret, nor an address that its host has, nor anything that was answered: who made
// the endpoint need not know how we look it up, nor what else speaks there.
func cause(ctx context.Context, err error) error {
	var (
		dns    *net.DNSError
		number syscall.Errno
		wait   net.Error
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
		alert  tls.AlertError
	)
	switch {
	case ctx.Err() == context.DeadlineExceeded, errors.As(err, &wait) && wait.Timeout():
		return errTimeout
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ssrf.ErrProhibitedIP):
		return errors.New("the host leads to an address that is not allowed")
	case errors.As(err, &dns):
		return errors.New("the host cannot be looked up")
	case errors.As(err, &number):
		return errors.New(number.Error())
	case errors.As(err, &cert):
		return errors.New("the certificate is not trusted")
	case errors.As(err, &alert), errors.As(err, &record):
		return errors.New("there is no TLS connection to be had")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed")
	}
	return errAnswer
}

// errAnswer says that what came was no answer.
var errAnswer = errors.New("the answer is not HTTP, or its header is too large")

// judge says what an attempt means for the event, and for the endpoint's health.
func judge(ctx context.Context, rs response, err error) (v verdict, reason string, health error) {
	if err == nil || err == errTooLarge {
		reason = "status " + strconv.Itoa(rs.code)
	}
	switch code := rs.code; {
	case ctx.Err() != nil:
		return left, "", errAside
	case code >= 200 && code <= 299:
		if err != nil && err != errTooLarge { // its reply may be lost
			return again, err.Error(), errSick
		}
		return taken, "", nil
	case code == 0:
		return again, err.Error(), errSick
	case code == http.StatusGone: // Standard Webhooks, "Delivery success and failure"
		return gone, reason, nil
	case code == http.StatusTooManyRequests:
		return again, reason, errAside
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		return again, reason, errSick
	}
	// It is there, and has refused this event: redirects are among them.
	return hopeless, reason, nil
}

// post tries to deliver an event and reports the outcome to run, once.
func (e *endpoint) post(ctx context.Context, d *definition, it *item, tell func(error), probe bool) {
	o := outcome{it: it, def: d, probe: probe}
	ev := it.event
	if ev == nil {
		var err error
		if ev, err = e.service.opts.Log.Get(ctx, it.seq); err != nil {
			tell(errAside)
			switch {
			case ctx.Err() != nil:
				o.verdict = left
			case errors.Is(err, event.ErrUnknown):
				o.verdict, o.reason = hopeless, "the event is not in the log any more"
			default:
				o.verdict, o.reason, o.probe = again, "the log cannot be read", false
				e.service.log.Error("an event cannot be read", "webhook", e.name, "err", err)
			}
			e.mail.put(o)
			return
		}
	}
	rs, err := e.request(ctx, d, ev)
	var health error
	o.verdict, o.reason, health = judge(ctx, rs, err)
	o.code, o.latency = rs.code, rs.took
	o.notBefore = retryAfter(rs.after, time.Now())
	tell(health)
	if o.verdict != taken {
		if o.verdict != left {
			e.stats.failed.Add(1)
		}
		e.mail.put(o)
		return
	}
	if err == errTooLarge {
		e.warnings.warn(e, "the answer of a webhook is too large to be read", "id", ev.ID())
	}
	if len(rs.body) == 0 || d.Silent {
		e.mail.put(o)
		return
	}
	replies, err := e.replies(d, ev, rs)
	if err != nil { // it would be the same again
		e.warnings.warn(e, "the answer of a webhook cannot be used", "id", ev.ID(), "err", err)
	}
	e.deliver(replies, func(err error) {
		if err != nil { // a reply is not safe: the event must be posted again
			o.verdict, o.reason = again, err.Error()
		}
		e.mail.put(o)
	})
}

// bounceAll tells the senders of messages to gateway domains that were given up.
// Watched accounts have got theirs.
func (e *endpoint) bounceAll(batch []mark) {
	for i := range batch {
		if batch[i].state != stateDead {
			continue
		}
		ev, err := e.service.opts.Log.Get(e.service.ctx, batch[i].seq)
		if err != nil || ev.Stanza == nil || ev.Type != event.Message || !e.owes(ev.Host) {
			continue
		}
		st, err := stanza.ParseDocument(ev.Stanza)
		if err != nil || st.Type == stanza.TypeError {
			continue
		}
		e.refuse(st, stanza.Err(stanza.RecipientUnavailable, "the gateway could not deliver the message"))
	}
}

// owes tells whether the sender of a message to one of our domains, which is a gateway's,
// relies on the endpoint: it is the only program behind it, or was.
func (e *endpoint) owes(host string) bool {
	d, s := e.def.Load(), e.service
	return d.domains[host] || !s.opts.Router.Hosts(host) && (!d.serves(host) || d.answers(host) && !s.answered(host, e))
}
