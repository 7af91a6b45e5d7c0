package websocket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	gorilla "github.com/gorilla/websocket"

	"trivium/core/stanza"
	"trivium/core/stream"
	"trivium/core/wire"
)

// prologMax is what a message may hold beside an element of the size limit: an
// XML declaration and white space after the element.
const prologMax = 64

// errNoBinding says that a connection in clear has no channel binding.
var errNoBinding = errors.New("websocket: no channel binding without TLS")

// Conn is one WebSocket connection carrying an XMPP stream. It implements
// stream.Conn and stream.Binder.
type Conn struct {
	ws   *gorilla.Conn
	pipe *pipe
	info stream.Info
	slot int // of the wheel

	// owned by the reader
	scan      wire.Scanner
	limits    wire.Limits
	buf       *[]byte // the message that Read returned last
	idle      func()
	expecting bool // a stream header
	failed    bool // gorilla will not read on
	gone      bool // the peer sent its close frame

	pinged bool // owned by the pinger

	ended  atomic.Bool // the peer sent <close/>; written by the reader
	closed atomic.Bool // our side of the stream ended; written under mu

	mu      sync.Mutex // serialises what we send; nothing waits for the peer under it
	opened  bool       // our header was sent
	content string     // the content namespace
	first   bool       // our side of the stream ended before the peer's
	code    int        // of our close frame
	goodbye bool       // the close frame was sent
	busy    bool       // the Socket holds octets that the kernel did not take
	done    func(error)
	pong    string // the ping to answer when no longer busy
	pongDue bool
	onFlush func(error) // c.flushed
}

func newConn(ws *gorilla.Conn, p *pipe, info stream.Info, limits wire.Limits) *Conn {
	p.upgraded = true
	p.sock.Eager()
	c := &Conn{ws: ws, pipe: p, info: info, content: stanza.NSClient, code: gorilla.CloseNormalClosure}
	if c.info.Remote == nil {
		c.info.Remote = p.Conn.RemoteAddr()
	}
	c.info.Local = p.Conn.LocalAddr()
	c.onFlush = c.flushed
	p.sock.OnIdle(c.onIdle)
	ws.SetPingHandler(c.onPing)
	ws.SetCloseHandler(c.onClose)
	c.Limit(limits)
	c.Restart()
	return c
}

// Info implements stream.Conn.
func (c *Conn) Info() stream.Info { return c.info }

// Restart implements stream.Conn (RFC 7395 §3.7).
func (c *Conn) Restart() {
	c.expecting = true
	c.scan.Reset(wire.Document, c.limits)
	c.mu.Lock()
	c.opened = false
	c.mu.Unlock()
}

// Limit implements stream.Conn.
func (c *Conn) Limit(l wire.Limits) {
	c.limits = l
	c.scan.SetLimits(l)
	size := l.Bytes
	if size <= 0 {
		size = wire.DefaultLimits().Bytes
	}
	c.ws.SetReadLimit(int64(size) + prologMax)
}

// Read implements stream.Conn.
func (c *Conn) Read(idle func()) (stream.Event, error) {
	c.idle = idle
	if c.closed.Load() {
		return stream.Event{}, c.finish()
	}
	if c.ended.Load() {
		return stream.Event{}, io.EOF
	}
	ev, err := c.next()
	if c.closed.Load() {
		return stream.Event{}, c.finish()
	}
	return ev, err
}

// next reads one message.
func (c *Conn) next() (stream.Event, error) {
	data, err := c.message()
	if err != nil {
		return stream.Event{}, err
	}
	ev, err := c.element(data)
	if err != nil {
		if !utf8.Valid(data) {
			c.refuse(gorilla.CloseInvalidFramePayloadData) // RFC 6455 §8.1
		}
		return stream.Event{}, err
	}
	if ev.Space() != NS {
		return c.other(ev)
	}
	switch local := ev.Index.Local.Bytes(ev.Raw); {
	case string(local) == "close": // RFC 7395 §3.6
		c.ended.Store(true)
		return stream.Event{Kind: stream.Closed}, nil
	case string(local) != "open":
		return c.other(ev)
	case !c.expecting:
		return stream.Event{}, stream.Err(stream.BadFormat, "a stream header inside the stream")
	}
	c.expecting = false
	return stream.Event{Kind: stream.Opened, Header: header(ev)}, nil
}

// other checks an element that is neither <open/> nor <close/>.
func (c *Conn) other(ev stream.Event) (stream.Event, error) {
	var wrong *stream.Error
	switch local := string(ev.Index.Local.Bytes(ev.Raw)); {
	case local == "open", local == "close":
		// RFC 7395 §3.3.2: invalid-namespace
		wrong = stream.Err(stream.InvalidNamespace, "the namespace of the stream header is "+NS)
	case c.expecting:
		wrong = stream.Err(stream.BadFormat, "the stream begins with <open/>") // RFC 7395 §3.4
	default:
		return ev, nil
	}
	if c.expecting { // our header comes before the error: RFC 7395 §3.5
		c.expecting = false
		return stream.Event{Kind: stream.Opened, Header: &stream.Header{Content: stanza.NSClient, Err: wrong}}, nil
	}
	return stream.Event{}, wrong
}

// header reads an <open/> (RFC 7395 §3.4).
func header(ev stream.Event) *stream.Header {
	h := stream.ReadHeader(ev.Raw, ev.Index)
	h.Content = stanza.NSClient
	return h
}

// element finds the one element that a message holds.
func (c *Conn) element(data []byte) (stream.Event, error) {
	if len(data) == 0 || data[0] != '<' {
		// RFC 7395 §3.3.3: the first character is '<'; §3.8: no white space keepalives.
		return stream.Event{}, stream.Err(stream.BadFormat, "a message begins with '<'")
	}
	kind, n, err := c.scan.Next(data)
	switch {
	case err != nil:
		return stream.Event{}, stream.FromWire(err)
	case kind != wire.KindElement:
		return stream.Event{}, stream.Err(stream.NotWellFormed, "the message holds no whole element")
	case len(bytes.TrimLeft(data[n:], " \t\r\n")) > 0:
		// RFC 7395 §3.3.3: every element in its own frame.
		return stream.Event{}, stream.Err(stream.NotWellFormed, "the message holds more than one element")
	}
	el := c.scan.Index()
	raw := data[n-el.Len : n]
	if !el.Foreign {
		return stream.Event{Kind: stream.Element, Raw: raw, Index: el}, nil
	}
	return stream.Canonical(&c.scan, raw, c.limits)
}

// message reads a message into a pooled buffer, which stays ours until the next
// call.
func (c *Conn) message() ([]byte, error) {
	give(c.buf)
	c.buf = nil
	typ, r, err := c.ws.NextReader()
	if err != nil {
		return nil, c.broken(err)
	}
	if typ != gorilla.TextMessage { // RFC 7395 §3.2
		c.refuse(gorilla.CloseUnsupportedData)
		return nil, stream.Err(stream.BadFormat, "messages are text")
	}
	c.buf = buffers.Get().(*[]byte)
	data := (*c.buf)[:0]
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			*c.buf = data
			return data, nil
		}
		if err != nil {
			*c.buf = data
			return nil, c.broken(err)
		}
	}
}

// broken says why gorilla stopped reading: a *stream.Error when the peer broke
// the protocol, another error when the connection ended.
func (c *Conn) broken(err error) error {
	c.failed = true
	var end *gorilla.CloseError
	switch {
	case c.pipe.err != nil:
		return c.pipe.err
	case errors.As(err, &end):
		// RFC 7395 §3.6: the stream is implicitly closed, the session may be resumed.
		c.gone = true
		return io.EOF
	case errors.Is(err, gorilla.ErrReadLimit):
		c.refuse(gorilla.CloseMessageTooBig)
		return &stream.Error{Condition: stream.PolicyViolation, Text: "message too large", Cause: err}
	case errors.Is(err, errFragments), errors.Is(err, errControls):
		c.refuse(gorilla.ClosePolicyViolation) // RFC 6455 §7.4.1, §10.4
		return &stream.Error{Condition: stream.PolicyViolation, Text: "too many frames", Cause: err}
	}
	c.refuse(gorilla.CloseProtocolError)
	return &stream.Error{Condition: stream.BadFormat, Text: "not the WebSocket protocol", Cause: err}
}

// refuse sets the status of our close frame (RFC 6455 §7.4.1).
func (c *Conn) refuse(code int) {
	c.mu.Lock()
	c.code = code
	c.mu.Unlock()
}

// onIdle is called by the Socket, on the reader's goroutine, before it waits.
func (c *Conn) onIdle() {
	_, _, _ = c.scan.Next(nil) // the scanner's memory goes back to its pool
	if c.idle != nil {
		c.idle()
	}
}

// Open implements stream.Conn (RFC 7395 §3.4).
func (c *Conn) Open(h stream.Header) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() || c.goodbye {
		return net.ErrClosed
	}
	if h.Content != "" {
		c.content = h.Content
	}
	c.opened = true
	return c.send(appendOpen(nil, h))
}

func appendOpen(dst []byte, h stream.Header) []byte {
	return appendText(dst, 200, func(b []byte) []byte {
		b = append(b, "<open xmlns='"+NS+"'"...)
		for _, a := range [...]struct{ name, value string }{
			{" from='", h.From}, {" to='", h.To}, {" id='", h.ID}, {" version='", h.Version}, {" xml:lang='", h.Lang},
		} {
			if a.value != "" {
				b = append(b, a.name...)
				b = wire.AppendAttr(b, a.value)
				b = append(b, '\'')
			}
		}
		return append(b, "/>"...)
	})
}

// send writes frames; c.mu is held.
func (c *Conn) send(frames []byte) error {
	if _, err := c.pipe.Conn.Write(frames); err != nil {
		return err
	}
	sent, err := c.pipe.sock.Flushed(c.onFlush)
	c.busy = !sent && err == nil
	return err
}

// Write implements stream.Conn.
func (c *Conn) Write(b stream.Batch, done func(error)) (bool, error) {
	out := buffers.Get().(*[]byte)
	defer give(out)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() || c.goodbye {
		return false, net.ErrClosed
	}
	start := 0
	for _, end := range b.Ends {
		*out = appendElement(*out, b.Data[start:end], c.content)
		start = end
	}
	if err := c.send(*out); err != nil {
		return false, err
	}
	if c.busy {
		c.done = done
		return false, nil
	}
	return true, nil
}

// flushed is called by the Socket, from a goroutine of its own, when it holds
// nothing any more or has failed.
func (c *Conn) flushed(error) {
	c.mu.Lock()
	sent, err := c.pipe.sock.Flushed(c.onFlush)
	if !sent && err == nil {
		c.mu.Unlock()
		return // more was written meanwhile
	}
	done := c.done
	c.busy, c.done = false, nil
	if c.pongDue && err == nil {
		c.pongDue = false
		_ = c.send(appendControl(nil, gorilla.PongMessage, c.pong))
	}
	c.mu.Unlock()
	if done != nil {
		done(err)
	}
}

// onPing answers a ping. While the peer does not read, only its last ping is
// remembered (RFC 6455 §5.5.3).
func (c *Conn) onPing(payload string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.goodbye:
	case c.busy:
		c.pong, c.pongDue = payload, true
	default:
		_ = c.send(appendControl(nil, gorilla.PongMessage, payload))
	}
	return nil
}

// ChannelBinding implements stream.Binder.
func (c *Conn) ChannelBinding(typ string) ([]byte, error) {
	if c.pipe.tls == nil {
		return nil, errNoBinding
	}
	return stream.TLSBinding(c.pipe.tls, typ)
}

var (
	_ stream.Conn   = (*Conn)(nil)
	_ stream.Binder = (*Conn)(nil)
)
