package bosh

import (
	"net/http"
	"strconv"
	"time"

	"trivium/core/wire"
)

// response is the answer to a request. data does not change once it is made.
type response struct {
	rid    uint64
	key    string // of the request
	status int    // 0: 200
	data   []byte
	at     time.Time
	dones  []func(error) // of the elements in data, until it has been written
	idle   bool          // an empty answer to an empty request
}

// xmlType is the default media type (XEP-0124 §7.1).
var xmlType = []string{"text/xml; charset=utf-8"}

// recoverable is XEP-0124 §17.3.
var recoverable = []byte("<body xmlns='" + NS + "' type='error'/>")

// terminal makes the answer that ends a session (XEP-0124 §17.2), for a legacy
// client a status (§17.1).
func (c *Conn) terminal(why condition) *response { return terminal(why, c.ver) }

func terminal(why condition, ver version) *response {
	if ver == (version{}) {
		switch why {
		case badRequest:
			return &response{status: http.StatusBadRequest}
		case policyViolation:
			return &response{status: http.StatusForbidden}
		case itemNotFound:
			return &response{status: http.StatusNotFound}
		}
	}
	return &response{data: []byte("<body xmlns='" + NS + "' type='terminate' condition='" + string(why) + "'/>")}
}

// refuse answers a request that belongs to no session.
func (h *Handler) refuse(w http.ResponseWriter, why condition) {
	_ = h.write(w, xmlType, terminal(why, ours))
}

// refuseLegacy answers a request for a session.
func (h *Handler) refuseLegacy(w http.ResponseWriter, why condition, ver version) {
	_ = h.write(w, xmlType, terminal(why, ver))
}

const (
	// writeTimeout is how long the client may take to read a response that is
	// larger than largeResponse; smaller ones fit into what the kernel keeps.
	writeTimeout  = 2 * time.Minute
	largeResponse = 8 << 10
)

// write sends a response. Without an error all of it has left this process.
func (h *Handler) write(w http.ResponseWriter, contentType []string, answer *response) error {
	header := w.Header()
	header["Content-Type"] = contentType
	header["Content-Length"] = []string{strconv.Itoa(len(answer.data))} // XEP-0124 §5: not chunked
	if &contentType[0] != &xmlType[0] {
		// The client chose the type: whatever it is, a browser shall not run it.
		header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
		header.Set("X-Content-Type-Options", "nosniff")
	}
	rc := http.NewResponseController(w)
	if len(answer.data) > largeResponse {
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		defer rc.SetWriteDeadline(time.Time{})
	}
	if answer.status != 0 {
		w.WriteHeader(answer.status)
	}
	if _, err := w.Write(answer.data); err != nil {
		return err
	}
	return rc.Flush()
}

// settle answers what can be answered, in the order of rid. It is called, under
// mu, after every change.
func (c *Conn) settle() {
	for len(c.held) > 0 {
		q := c.held[0]
		switch {
		case q.ready == nil:
			// Its client is gone. What there is to say goes to one who listens.
			if c.live == 0 || !c.listens() {
				return
			}
			c.answer(q, false)
		case c.closed:
			c.answer(q, !c.told.end)
		case c.ending && !q.expired:
			return
		case len(c.out) > 0 && !q.pauses && len(c.in) < queueMax:
			c.answer(q, true)
		case q.unread && !q.expired:
			return
		case q.pauses: // XEP-0124 §10: no payload
			c.answer(q, false)
		case q.prompt, q.expired, c.hold == 0, len(c.held) > c.hold, q.rid <= c.release:
			c.answer(q, true)
		default:
			return
		}
	}
}

// listens tells whether an HTTP client waits for one of the requests in order.
func (c *Conn) listens() bool {
	for _, q := range c.held {
		if q.ready != nil {
			return true
		}
	}
	return false
}

// answer answers the oldest request, with what there is to say if full.
func (c *Conn) answer(q *request, full bool) {
	c.held = append(c.held[:0], c.held[1:]...)
	answer := &response{rid: q.rid, key: q.body.key, at: time.Now(), idle: q.empty && (!full || len(c.out) == 0)}
	answer.data = c.render(q, full)
	if full {
		answer.dones, c.dones = c.dones, nil
	}
	if len(c.answered) >= c.requests { // XEP-0124 §14.3
		c.forget()
	}
	c.answered = append(c.answered, answer)
	c.reply(q, answer)
}

// reply gives an answer to the HTTP client that waits, if any.
func (c *Conn) reply(q *request, answer *response) {
	if q.ready != nil {
		q.ready <- answer
		q.ready = nil
		c.left()
	}
}

// forget drops the oldest response: the client has it, or else it could not have
// made its last request.
func (c *Conn) forget() {
	c.later(c.answered[0].dones, nil)
	copy(c.answered, c.answered[1:])
	c.answered[len(c.answered)-1] = nil
	c.answered = c.answered[:len(c.answered)-1]
}

// render writes a <body/> and marks as told what it says.
func (c *Conn) render(q *request, full bool) []byte {
	b := make([]byte, 0, len("<body xmlns='"+NS+"'></body>")+len(c.out)+len(c.farewell.content)+512)
	b = append(b, "<body xmlns='"+NS+"'"...)
	prefix := false
	end := full && c.closed
	if !c.told.created && !end {
		c.told.created = true
		b = c.created(b, q)
	} else if last := c.next - 1; c.acks && last != q.rid {
		b = attr(b, "ack", strconv.FormatUint(last, 10)) // XEP-0124 §9.1
	}
	if full && !c.told.header && c.opened {
		c.told.header = true
		b = c.header206(b)
	}
	if q.report > 0 { // XEP-0124 §9.2
		b = attr(b, "report", strconv.FormatUint(q.report, 10))
		b = attr(b, "time", strconv.FormatInt(q.age.Milliseconds(), 10))
	}
	if end {
		c.told.end = true
		c.stir()
		if !c.told.created {
			c.h.remove(c) // nobody knows its sid
		}
		b = append(b, " type='terminate'"...)
		if c.farewell.condition != "" {
			b = attr(b, "condition", string(c.farewell.condition))
		}
		prefix = c.farewell.prefix
	}
	if full && len(c.out) > 0 && c.prefix || prefix {
		b = append(b, " xmlns:stream='http://etherx.jabber.org/streams'"...)
	}
	if !full || len(c.out) == 0 && !end || end && len(c.out)+len(c.farewell.content) == 0 {
		return append(b, "/>"...)
	}
	b = append(b, '>')
	b = append(b, c.out...)
	if end {
		b = append(b, c.farewell.content...)
	}
	c.out, c.prefix = c.out[:0], false
	if cap(c.out) > bufferMax {
		c.out = nil
	}
	return append(b, "</body>"...)
}

// created appends the attributes of the session creation response (XEP-0124
// §7.2).
func (c *Conn) created(b []byte, q *request) []byte {
	seconds := func(name string, d time.Duration) {
		b = attr(b, name, strconv.Itoa(int((d+time.Second-1)/time.Second)))
	}
	b = attr(b, "sid", c.sid)
	seconds("wait", c.wait)
	b = attr(b, "requests", strconv.Itoa(c.requests))
	b = attr(b, "hold", strconv.Itoa(c.hold))
	seconds("inactivity", c.inactivity)
	seconds("maxpause", c.maxPause)
	if c.polling > 0 {
		seconds("polling", c.polling)
	}
	if c.ver != (version{}) {
		b = attr(b, "ver", strconv.Itoa(c.ver.major)+"."+strconv.Itoa(c.ver.minor))
	}
	if c.acks {
		b = attr(b, "ack", strconv.FormatUint(q.rid, 10))
	}
	return b
}

// header206 appends what our stream header says (XEP-0124 §7.2, XEP-0206 §4).
func (c *Conn) header206(b []byte) []byte {
	if c.ours.From != "" {
		b = attr(b, "from", c.ours.From)
	}
	if c.ours.ID != "" {
		b = attr(b, "authid", c.ours.ID)
	}
	b = append(b, " xmlns:xmpp='"+NSXMPP+"' xmpp:restartlogic='true'"...)
	if c.ours.Version != "" {
		b = attr(b, "xmpp:version", c.ours.Version)
	}
	return b
}

func attr(b []byte, name, value string) []byte {
	b = append(b, ' ')
	b = append(b, name...)
	b = append(b, "='"...)
	b = wire.AppendAttr(b, value)
	return append(b, '\'')
}
