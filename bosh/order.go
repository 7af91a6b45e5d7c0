package bosh

import (
	"crypto/sha1"
	"encoding/hex"
	"io"
	"net/http"
	"time"

	"trivium/core/stanza"
	"trivium/core/stream"
)

const (
	// repeatMax is how often one rid may be sent again (XEP-0124 §14.3).
	repeatMax = 10
	// queueMax is how many payloads may wait for the session; more are not
	// answered, so that a client cannot pump faster than the session reads.
	queueMax = 16
	// waitMargin is how much sooner than 'wait' a request is answered at most.
	waitMargin = 250 * time.Millisecond
	// reportAfter is how long a response may be on its way before the client is
	// told that we believe to have sent it (XEP-0124 §9.2).
	reportAfter = 500 * time.Millisecond
)

// request is a client's request that has no answer yet. Conn.mu guards it.
type request struct {
	body    *body
	rid     uint64
	unread  bool // the session has not seen its payload
	prompt  bool // not to be held
	pauses  bool
	expired bool           // its time is over
	ready   chan *response // holds one; nil when no HTTP client waits
	repeats int
	report  uint64 // rid whose response the client seems to miss
	age     time.Duration
	empty   bool
}

// exchange takes one request to its answer.
func (c *Conn) exchange(w http.ResponseWriter, r *http.Request, b *body, problem condition) {
	q, ready, answer := c.receive(b, problem)
	if answer == nil {
		answer = c.await(r, q, ready)
	}
	if answer == nil {
		return // nobody waits any more
	}
	err := c.h.write(w, c.contentType, answer)
	c.mu.Lock()
	if err == nil {
		c.later(answer.dones, nil)
		answer.dones = nil
	}
	c.unlock()
}

// await waits for the answer; nil when the client has gone.
func (c *Conn) await(r *http.Request, q *request, ready chan *response) *response {
	select {
	case answer := <-ready:
		return answer
	default:
	}
	// A little sooner than 'wait' says, for the way back.
	// COMPAT(strophe.js): it sends a request again after 'wait' or a tenth more.
	wait := c.wait - min(c.wait/10, waitMargin)
	if c.hold == 0 {
		wait = c.h.opt.MaxWait // until the session has read it
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		select {
		case answer := <-ready:
			return answer
		case <-limit.C:
			c.timeout(q, ready)
		case <-r.Context().Done():
			c.lose(q, ready)
			return nil
		}
	}
}

// timeout ends the wait of a request (XEP-0124 §8).
func (c *Conn) timeout(q *request, ready chan *response) {
	c.mu.Lock()
	defer c.unlock()
	if q.ready != ready {
		return // answered, or replaced by a repetition
	}
	for i, e := range c.early {
		if e == q {
			// One before it is missing: the client has to send both again (§17.3).
			c.early = append(c.early[:i], c.early[i+1:]...)
			c.reply(q, &response{rid: q.rid, data: recoverable})
			give(q.body.buf)
			return
		}
	}
	for _, e := range c.held {
		e.expired = true
		if e == q {
			break
		}
	}
	c.settle()
}

// lose notes that the HTTP client of a request has gone. The request is answered
// when it is sent again (XEP-0124 §14.3).
func (c *Conn) lose(q *request, ready chan *response) {
	c.mu.Lock()
	defer c.unlock()
	if q.ready != ready {
		return
	}
	q.ready = nil
	c.left()
	c.settle()
}

// left notes that one HTTP client less is waiting.
func (c *Conn) left() {
	if c.live--; c.live == 0 {
		c.quiet = time.Now()
	}
}

// receive puts a request in its place. It returns the answer if there is one
// already, or else the request and where its answer will be.
func (c *Conn) receive(b *body, problem condition) (*request, chan *response, *response) {
	c.mu.Lock()
	defer c.unlock()
	if c.dead {
		give(b.buf)
		return nil, nil, c.terminal(itemNotFound)
	}
	if problem != "" {
		return c.violate(b, problem)
	}
	if b.rid < c.next {
		return c.repeat(b)
	}
	for _, e := range c.early {
		if e.rid == b.rid {
			return c.again(e, b)
		}
	}
	extra := 0
	if b.pause >= 0 || b.closes {
		extra = 1 // XEP-0124 §11
	}
	switch {
	case c.told.end:
		give(b.buf)
		return nil, nil, c.terminal(itemNotFound)
	case b.rid-c.next >= uint64(c.requests+extra): // XEP-0124 §14.2
		return c.violate(b, itemNotFound)
	case len(c.held)+len(c.early)+1 > c.requests+extra: // XEP-0124 §11
		return c.violate(b, policyViolation)
	case b.creation.stream && len(b.elements) > 0:
		// XEP-0124 §16.4: there are no named streams here.
		return c.violate(b, itemNotFound)
	}
	q := &request{body: b, rid: b.rid, empty: b.empty(), ready: make(chan *response, 1)}
	ready := q.ready
	c.live++
	c.early = append(c.early, q)
	for c.advance() {
	}
	if !c.dead {
		c.settle()
	}
	return q, ready, nil
}

// advance takes the next request in order out of those that came early.
func (c *Conn) advance() bool {
	for i, q := range c.early {
		if q.rid != c.next {
			continue
		}
		c.early = append(c.early[:i], c.early[i+1:]...)
		c.held = append(c.held, q)
		if why := c.process(q); why != "" {
			give(q.body.buf)
			c.die(why, q, io.EOF)
			return false
		}
		c.next++
		return true
	}
	return false
}

// process does what a request says, in the order of rid. A condition terminates
// the session.
func (c *Conn) process(q *request) condition {
	b := q.body
	now := time.Now()
	first := !b.hasSID
	if !first {
		if why := c.checkKey(b); why != "" {
			return why
		}
		if c.overactive(q, now) {
			return policyViolation
		}
	}
	if b.newkey != "" {
		c.key = b.newkey // XEP-0124 §15.5
	} else if !first && c.key != "" {
		c.key = b.key
	}
	c.arrival = now
	c.pausing = 0 // XEP-0124 §10: back to normal with the next request
	if !first && b.ack > 0 && c.acks {
		c.acknowledge(q, now)
	}
	if pause := time.Duration(b.pause) * time.Second; b.pause >= 0 && pause <= c.maxPause {
		c.pausing, c.release, q.pauses = pause, b.rid, true
	}
	in := inbound{buf: b.buf, elements: b.elements, closes: b.closes}
	if first || b.restart {
		in.header = c.header(&b.creation)
		in.elements = nil // XEP-0206 §5: a payload of a restart request is ignored
		q.prompt = true
	}
	if c.closed || in.header == nil && len(in.elements) == 0 && !in.closes {
		give(b.buf)
	} else {
		q.unread = true
		c.in = append(c.in, in)
		c.stir()
	}
	if b.closes && !c.closed {
		// What is answered from now on waits for Close; nobody else may.
		c.ending = true
		c.later(c.dones, nil)
		c.dones = nil
	}
	b.buf, b.elements, b.sid = nil, nil, nil
	return ""
}

// header is the stream header that a request stands for (XEP-0206 §3, §5). What
// a restart does not say again holds on.
func (c *Conn) header(k *creation) *stream.Header {
	or := func(s, def string) string {
		if s == "" {
			return def
		}
		return s
	}
	return &stream.Header{
		From: or(k.from, c.request.from), To: or(k.to, c.request.to), Lang: or(k.lang, c.request.lang),
		Version: or(k.version, c.request.version), Content: stanza.NSClient,
	}
}

// checkKey verifies the key sequence (XEP-0124 §15.4).
func (c *Conn) checkKey(b *body) condition {
	if c.key == "" {
		return ""
	}
	sum := sha1.Sum([]byte(b.key))
	if b.key == "" || hex.EncodeToString(sum[:]) != c.key {
		return itemNotFound
	}
	return ""
}

// overactive tells whether an empty request comes too early (XEP-0124 §11, §12).
func (c *Conn) overactive(q *request, now time.Time) bool {
	if !q.empty || q.body.pause >= 0 || q.body.closes || now.Sub(c.arrival) >= c.polling {
		return false
	}
	if c.hold > 0 {
		// COMPAT(strophe.js): a page that is loaded again leaves a request behind that
		// nobody waits for.
		waiting := 0 // q among them
		for _, h := range c.held {
			if h.ready != nil {
				waiting++
			}
		}
		return waiting >= c.requests
	}
	if n := len(c.answered); n > 0 {
		last := c.answered[n-1]
		return last.rid == q.rid-1 && last.idle
	}
	return false
}

// acknowledge takes the client's word for what it has received (XEP-0124 §9.2).
func (c *Conn) acknowledge(q *request, now time.Time) {
	ack := q.body.ack
	for len(c.answered) > 0 && c.answered[0].rid <= ack {
		c.forget()
	}
	if len(c.answered) == 0 || c.answered[0].rid != ack+1 {
		return
	}
	if age := now.Sub(c.answered[0].at); age >= reportAfter {
		q.report, q.age, q.prompt = ack+1, age, true
	}
}

// repeat serves a rid that was received before (XEP-0124 §14.3).
func (c *Conn) repeat(b *body) (*request, chan *response, *response) {
	for _, q := range c.held {
		if q.rid == b.rid {
			return c.again(q, b)
		}
	}
	for _, answer := range c.answered {
		if answer.rid == b.rid && answer.key == b.key {
			give(b.buf)
			return nil, nil, answer
		}
	}
	return c.violate(b, itemNotFound)
}

// again lets a repetition take the place of a request that has no answer yet.
func (c *Conn) again(q *request, b *body) (*request, chan *response, *response) {
	if q.body.key != b.key {
		return c.violate(b, itemNotFound)
	}
	if q.repeats++; q.repeats > repeatMax {
		return c.violate(b, policyViolation)
	}
	give(b.buf)
	c.reply(q, &response{rid: q.rid, data: recoverable})
	q.ready = make(chan *response, 1)
	ready := q.ready
	c.live++
	c.settle()
	return q, ready, nil
}

// violate ends the session because of b.
func (c *Conn) violate(b *body, why condition) (*request, chan *response, *response) {
	give(b.buf)
	c.die(otherRequest, nil, io.EOF)
	return nil, nil, c.terminal(why)
}

// die ends the session. Requests that wait are told why; when one of them is to
// blame, the others are told that it was another.
func (c *Conn) die(why condition, culprit *request, err error) {
	if c.dead {
		return
	}
	c.dead = true
	c.err = err
	for _, q := range c.held {
		reason := why
		if culprit != nil && q != culprit {
			reason = otherRequest
		}
		c.reply(q, c.terminal(reason))
	}
	for _, q := range c.early {
		give(q.body.buf)
		c.reply(q, c.terminal(otherRequest))
	}
	for _, answer := range c.answered {
		c.later(answer.dones, err)
	}
	c.later(c.dones, err)
	for i := range c.in {
		give(c.in[i].buf)
	}
	c.held, c.early, c.answered, c.dones, c.out, c.in = nil, nil, nil, nil, nil, nil
	c.stir()
	c.h.remove(c)
}

// later has the callbacks of Write called when mu is unlocked.
func (c *Conn) later(dones []func(error), err error) {
	for _, done := range dones {
		c.calls = append(c.calls, call{done, err})
	}
}

// expire ends the session when its client has made no request for too long
// (XEP-0124 §10).
func (c *Conn) expire(now time.Time) {
	c.mu.Lock()
	defer c.unlock()
	limit := c.inactivity
	if c.pausing > 0 {
		limit = c.pausing
	}
	if c.live == 0 && now.Sub(c.quiet) > limit {
		c.die(itemNotFound, nil, io.EOF)
	}
}
