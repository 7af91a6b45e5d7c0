package websocket

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	gorilla "github.com/gorilla/websocket"

	"trivium/core/stanza"
	"trivium/core/stream"
	"trivium/core/wire"
)

const (
	// closeTimeout is how long the peer has, after our end of the stream, to end
	// its own and the WebSocket connection.
	closeTimeout = 3 * time.Second
	// flushTimeout is how long our last octets may take after that.
	flushTimeout = time.Second
	// discardMax is how much it may still send meanwhile.
	discardMax = 1 << 20
	// prologMax is what a message may hold beside an element of the size limit: an
	// XML declaration and white space after the element.
	prologMax = 64
)

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
	c.Restart(limits)
	return c
}

// Info implements stream.Conn.
func (c *Conn) Info() stream.Info { return c.info }

// Restart implements stream.Conn (RFC 7395 §3.7).
func (c *Conn) Restart(l wire.Limits) {
	c.limits = l
	c.expecting = true
	c.scan.Reset(wire.Document, l)
	size := l.Bytes
	if size <= 0 {
		size = wire.DefaultLimits().Bytes
	}
	c.ws.SetReadLimit(int64(size) + prologMax)
	c.mu.Lock()
	c.opened = false
	c.mu.Unlock()
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
	h := &stream.Header{Content: stanza.NSClient}
	for i := range ev.Index.Attrs {
		a := &ev.Index.Attrs[i]
		v := wire.UnescapeAttr(string(a.Value.Bytes(ev.Raw)))
		switch string(a.Name.Bytes(ev.Raw)) {
		case "to":
			h.To = v
		case "from":
			h.From = v
		case "id":
			h.ID = v
		case "version":
			h.Version = v
		case "xml:lang":
			h.Lang = v
		}
	}
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
	own, err := c.scan.Canonical(nil, raw)
	if err != nil {
		return stream.Event{}, stream.FromWire(err)
	}
	return stream.Standalone(own, c.limits)
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

// onClose answers the peer's close frame with the status it had (RFC 6455
// §5.5.1).
func (c *Conn) onClose(code int, _ string) error {
	c.refuse(code)
	c.sayGoodbye()
	return nil
}

// sayGoodbye sends our close frame, the last thing we send.
func (c *Conn) sayGoodbye() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goodbye {
		return
	}
	c.goodbye = true
	payload := c.pipe.refusal
	if payload == "" && c.code != gorilla.CloseNoStatusReceived {
		payload = string(binary.BigEndian.AppendUint16(nil, uint16(c.code)))
	}
	_ = c.send(appendControl(nil, gorilla.CloseMessage, payload))
	if t, ok := c.pipe.Conn.(*tls.Conn); ok { // not below the Socket, where it would overtake
		_ = t.CloseWrite() // close_notify, RFC 7590 §3.1
	}
}

// Close implements stream.Conn (RFC 7395 §3.5, §3.6).
func (c *Conn) Close(e *stream.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Swap(true) {
		return
	}
	c.first = !c.ended.Load()
	if c.goodbye {
		return // the peer ended the connection already
	}
	_ = c.pipe.Conn.SetReadDeadline(time.Now().Add(closeTimeout))
	var out []byte
	elsewhere := e != nil && e.Condition == stream.SeeOtherHost && strings.Contains(e.Host, "://")
	if e != nil && !elsewhere {
		if !c.opened {
			// RFC 7395 §3.5: our header comes before the error.
			out = appendOpen(out, stream.Header{Version: "1.0", Lang: "en"})
		}
		out = appendElement(out, e.AppendXML(nil), c.content)
		if c.code == gorilla.CloseNormalClosure {
			c.code = status(e)
		}
	}
	out = appendText(out, 60, func(b []byte) []byte {
		b = append(b, "<close xmlns='"+NS+"'"...)
		if elsewhere { // RFC 7395 §3.6.1
			b = append(b, " see-other-uri='"...)
			b = wire.AppendAttr(b, e.Host)
			b = append(b, '\'')
		}
		return append(b, "/>"...)
	})
	_ = c.send(out)
}

// status is the code of RFC 6455 §7.4.1 that comes near a stream error.
func status(e *stream.Error) int {
	switch e.Condition {
	case stream.PolicyViolation:
		return gorilla.ClosePolicyViolation
	case stream.SystemShutdown, stream.SeeOtherHost:
		return gorilla.CloseGoingAway
	case stream.InternalServerError:
		return gorilla.CloseInternalServerErr
	}
	return gorilla.CloseNormalClosure
}

// finish takes our ended side of the stream to the end of the WebSocket
// connection and returns why it is over. Close has set a deadline.
func (c *Conn) finish() error {
	left := discardMax
	for !c.failed && !c.ended.Load() && left > 0 {
		var refused *stream.Error
		if _, err := c.next(); errors.As(err, &refused) {
			break
		}
		if c.buf != nil {
			left -= len(*c.buf)
		}
	}
	c.mu.Lock()
	first := c.first
	c.mu.Unlock()
	if first || c.failed || left <= 0 {
		// RFC 7395 §3.6: the closing party initiates the WebSocket closing handshake.
		c.sayGoodbye()
	}
	for !c.failed && left > 0 {
		_, r, err := c.ws.NextReader()
		if err != nil {
			_ = c.broken(err)
			break
		}
		n, _ := io.Copy(io.Discard, r)
		left -= int(n) + 1
	}
	c.sayGoodbye()
	give(c.buf)
	c.buf = nil
	// After a breach of the protocol read what is left, so that our last frames are
	// not lost to a reset.
	buf := buffers.Get().(*[]byte)
	defer give(buf)
	for !c.gone && left > 0 && c.pipe.err == nil {
		n, _ := c.pipe.Read((*buf)[:cap(*buf)])
		left -= n
	}
	c.linger()
	return io.EOF
}

// linger waits until our last frames have left, if the kernel did not take them
// at once.
func (c *Conn) linger() {
	c.mu.Lock()
	if !c.busy {
		c.mu.Unlock()
		return
	}
	left := make(chan struct{})
	done := c.done
	c.done = func(err error) {
		close(left)
		if done != nil {
			done(err)
		}
	}
	c.mu.Unlock()
	limit := time.NewTimer(flushTimeout)
	defer limit.Stop()
	select {
	case <-left:
	case <-limit.C:
	}
}

// end drops the connection when the session is over.
func (c *Conn) end() {
	if c.closed.Load() {
		c.sayGoodbye()
	}
	c.Abort()
}

// Abort implements stream.Conn.
func (c *Conn) Abort() { _ = c.pipe.sock.Close() }

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
