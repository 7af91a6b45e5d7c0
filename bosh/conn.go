package bosh

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"trivium/core/stanza"
	"trivium/core/stream"
	"trivium/core/wire"
)

// closeTimeout is how long the client has, after our end of the stream, to make
// the request that is told so. The session is told sooner; the client may still
// ask until the inactivity period is over.
const closeTimeout = 3 * time.Second

// Conn is one BOSH session. It implements stream.Conn.
type Conn struct {
	h    *Handler
	info stream.Info
	wake chan struct{} // tells the reader that something has changed; holds one

	// agreed at the start, constant (XEP-0124 §7)
	sid                                 string
	ver                                 version
	wait, inactivity, polling, maxPause time.Duration
	hold, requests                      int
	acks                                bool
	contentType                         []string
	request                             creation

	// owned by the reader
	scan      wire.Scanner
	limits    wire.Limits
	cur       inbound
	ended     bool // the client has terminated the session
	expecting bool // a stream header is due

	mu       sync.Mutex // all below
	in       []inbound  // payloads in the order of their rid, for Read
	next     uint64     // rid of the next request in order
	held     []*request // in order, not answered yet
	early    []*request // out of order
	answered []*response
	live     int       // requests that an HTTP client waits for
	quiet    time.Time // since when there are none
	arrival  time.Time // of the last request in order
	pausing  time.Duration
	release  uint64 // requests up to this rid are not to be held: a pause
	key      string // what the next request's key has to hash to

	out      []byte // elements for the next response
	prefix   bool   // out uses the prefix "stream"
	dones    []func(error)
	ours     stream.Header // given to Open
	opened   bool
	told     told
	ending   bool     // the client has terminated the session (XEP-0124 §13)
	closed   bool     // our side of the stream has ended
	aborted  bool     // and nobody waits for the client to end its own
	farewell farewell // how
	dead     bool     // no request will be answered any more
	err      error    // why, for Read
	calls    []call   // to be made when mu is unlocked
}

// told notes what the client knows.
type told struct {
	created bool // the session creation response was given
	header  bool // and our header
	end     bool // and the end of the session
}

// farewell is how a session is terminated.
type farewell struct {
	condition condition
	content   []byte
	prefix    bool
}

type call struct {
	f   func(error)
	err error
}

// inbound is the payload of one request.
type inbound struct {
	buf      *bytes.Buffer
	elements [][]byte
	header   *stream.Header // of a session creation or restart request
	closes   bool
}

func newConn(h *Handler, b *body, info stream.Info) *Conn {
	k := b.creation
	c := &Conn{
		h: h, info: info, sid: newSID(), wake: make(chan struct{}, 1),
		wait: h.opt.MaxWait, inactivity: h.opt.Inactivity, polling: max(h.opt.Polling, 0), maxPause: h.opt.MaxPause,
		hold: h.opt.MaxHold, acks: b.ack == 1, contentType: xmlType, request: k, next: b.rid, quiet: time.Now(),
	}
	if k.ver != (version{}) {
		c.ver = k.ver.lower(ours)
	}
	if k.wait >= 0 {
		c.wait = min(c.wait, time.Duration(k.wait)*time.Second)
	}
	if k.hold >= 0 {
		c.hold = min(c.hold, k.hold)
	}
	if c.wait == 0 || c.hold == 0 { // XEP-0124 §12: a polling session
		c.hold = 0
		c.inactivity = 2*c.inactivity + c.polling
	}
	c.requests = c.hold + 1 // XEP-0124 §7.2
	if k.content != "" && k.content != xmlType[0] {
		c.contentType = []string{k.content}
	}
	if c.request.version == "" {
		c.request.version = "1.0" // the default in the schema of XEP-0206
	}
	c.limits = h.opt.Limits
	c.Restart()
	return c
}

// Info implements stream.Conn.
func (c *Conn) Info() stream.Info { return c.info }

// Restart implements stream.Conn.
func (c *Conn) Restart() {
	c.scan.Reset(wire.Document, c.limits)
	c.expecting = true
}

// Limit implements stream.Conn.
func (c *Conn) Limit(l wire.Limits) {
	c.limits = l
	c.scan.SetLimits(l)
}

// unlock unlocks mu and then makes the calls that have come up.
func (c *Conn) unlock() {
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	for _, k := range calls {
		k.f(k.err)
	}
}

// stir wakes the reader.
func (c *Conn) stir() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Read implements stream.Conn.
func (c *Conn) Read(idle func()) (stream.Event, error) {
	waited := true
	for {
		c.mu.Lock()
		switch {
		case c.dead:
			err := c.err
			c.unlock()
			return stream.Event{}, err
		case c.closed:
			c.unlock()
			return stream.Event{}, c.finish()
		case c.ended:
			c.unlock()
			return stream.Event{}, io.EOF
		case len(c.cur.elements) == 0 && c.cur.header == nil && !c.cur.closes && len(c.in) > 0:
			give(c.cur.buf)
			c.cur = c.in[0]
			c.in = append(c.in[:0], c.in[1:]...)
		}
		c.unlock()
		switch {
		case c.cur.header != nil:
			h := c.cur.header
			c.cur.header = nil
			if !c.expecting {
				return stream.Event{}, stream.Err(stream.BadFormat, "no stream restart is due")
			}
			c.expecting = false
			return stream.Event{Kind: stream.Opened, Header: h}, nil
		case len(c.cur.elements) > 0:
			raw := c.cur.elements[0]
			c.cur.elements = c.cur.elements[1:]
			return c.element(raw)
		case c.cur.closes:
			c.cur.closes = false
			c.ended = true
			return stream.Event{Kind: stream.Closed}, nil
		}
		if waited {
			waited = false
			if idle != nil {
				idle()
			}
			continue // something may have come meanwhile
		}
		_, _, _ = c.scan.Next(nil) // the scanner's memory goes back to its pool
		give(c.cur.buf)
		c.cur.buf = nil
		c.mu.Lock()
		if len(c.in) == 0 {
			for _, q := range c.held {
				q.unread = false
			}
			c.settle()
		}
		c.unlock()
		<-c.wake
		waited = true
	}
}

// element indexes a payload. Its size is checked here, against the limits of the
// moment.
func (c *Conn) element(raw []byte) (stream.Event, error) {
	if c.expecting {
		return stream.Event{}, stream.Err(stream.BadFormat, "a stream restart is due") // XEP-0206 §5
	}
	kind, n, err := c.scan.Next(raw)
	if err != nil {
		return stream.Event{}, stream.FromWire(err)
	}
	if kind != wire.KindElement {
		return stream.Event{}, stream.Err(stream.NotWellFormed, "")
	}
	el := c.scan.Index()
	raw = raw[n-el.Len : n]
	if !el.Foreign {
		return stream.Event{Kind: stream.Element, Raw: raw, Index: el}, nil
	}
	return stream.Canonical(&c.scan, raw, c.limits)
}

// finish waits until the client has been told of the end, and says why Read is
// over.
func (c *Conn) finish() error {
	give(c.cur.buf)
	c.cur = inbound{}
	limit := time.NewTimer(closeTimeout)
	defer limit.Stop()
	for {
		c.mu.Lock()
		over := c.told.end || c.dead || c.aborted
		c.unlock()
		if over {
			return io.EOF
		}
		select {
		case <-c.wake:
		case <-limit.C:
			return io.EOF
		}
	}
}

// Open implements stream.Conn. The header has no octets of its own: its values
// are attributes of the next response (XEP-0124 §7.2, XEP-0206 §4).
func (c *Conn) Open(h stream.Header) error {
	c.mu.Lock()
	defer c.unlock()
	if c.closed || c.dead {
		return net.ErrClosed
	}
	c.ours, c.opened = h, true
	return nil
}

// Write implements stream.Conn.
func (c *Conn) Write(b stream.Batch, done func(error)) (bool, error) {
	c.mu.Lock()
	defer c.unlock()
	if c.closed || c.dead {
		return false, net.ErrClosed
	}
	start := 0
	for _, end := range b.Ends {
		el := b.Data[start:end]
		start = end
		if bytes.HasPrefix(el, streamPrefix) {
			c.prefix = true // XEP-0206 §2: declared on <body/>
			c.out = append(c.out, el...)
		} else {
			c.out = stream.AppendStandalone(c.out, el, stanza.NSClient)
		}
	}
	if c.ending {
		return true, nil // it goes into the last response
	}
	if done != nil {
		c.dones = append(c.dones, done)
	}
	c.settle()
	return false, nil
}

var streamPrefix = []byte("<stream:")

// Close implements stream.Conn (XEP-0124 §13, §17.2).
func (c *Conn) Close(e *stream.Error) {
	c.mu.Lock()
	defer c.unlock()
	if c.closed || c.dead {
		return
	}
	c.closed = true
	if e != nil {
		c.farewell = c.parting(e)
	}
	c.settle()
	c.stir()
}

// parting makes a terminal binding condition of a stream error.
func (c *Conn) parting(e *stream.Error) farewell {
	switch {
	case e.Condition == stream.SeeOtherHost && strings.Contains(e.Host, "://"):
		uri := wire.AppendText([]byte("<uri>"), e.Host)
		return farewell{condition: seeOtherURI, content: append(uri, "</uri>"...)}
	case e.Condition == stream.SystemShutdown:
		return farewell{condition: systemShutdown}
	case c.told.created:
	case e.Condition == stream.HostUnknown && c.request.to == "":
		return farewell{condition: improperAddressing}
	case e.Condition == stream.HostUnknown:
		return farewell{condition: hostUnknown}
	case e.Condition == stream.HostGone:
		return farewell{condition: hostGone}
	case e.Condition == stream.ImproperAddressing:
		return farewell{condition: improperAddressing}
	}
	// XEP-0206 §6
	return farewell{condition: remoteStreamError, content: e.AppendXML(nil), prefix: true}
}

// Abort implements stream.Conn. A client that comes back to a session that was
// closed in order still learns why.
func (c *Conn) Abort() {
	c.mu.Lock()
	orderly := c.closed && !c.dead
	c.aborted = true
	if orderly && !c.told.end { // nobody waits for what the client never fetches
		for i := range c.answered {
			c.later(c.answered[i].dones, net.ErrClosed)
			c.answered[i].dones = nil
		}
		c.later(c.dones, net.ErrClosed)
		c.dones = nil
	}
	c.stir()
	c.unlock()
	if !orderly {
		c.drop(remoteConnectionFailed, net.ErrClosed)
	}
}

// over is called when the session is over. A session that was closed in order
// stays to be asked for until the inactivity period ends.
func (c *Conn) over() { c.Abort() }

// drop ends the session at once: waiting requests are told the condition.
func (c *Conn) drop(why condition, err error) {
	c.mu.Lock()
	c.die(why, nil, err)
	c.unlock()
}
