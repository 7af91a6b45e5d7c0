package stream

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/stanza"
	"trivium/core/wire"
)

// carryMax is how long an unfinished element may be to wait in a buffer of its
// exact size rather than in one that grows.
const carryMax = readBufferSize / 2

// TCP is the framing of RFC 6120 §4: one XML document in each direction over
// TCP, in clear or under TLS. It implements Conn, Securer and Binder.
type TCP struct {
	sock *Socket
	tls  *tls.Conn // nil in clear
	info Info

	// owned by the reader
	scan    wire.Scanner
	limits  wire.Limits
	buf     *[]byte // a pooled buffer, or nil
	data    []byte  // what is being scanned: part of buf, or of carry
	carry   []byte  // an element's beginning, kept while waiting for the rest
	one     [1]byte
	ended   bool
	content string // the content namespace of the header that we send

	mu      sync.Mutex  // serialises header, elements and the end of our side; guards writes of tls
	opened  bool        // our header of the current stream has been sent
	shaking bool        // a TLS handshake is under way: nothing of ours may come between
	closed  atomic.Bool // written under mu
}

// NewTCP returns the framing of a connection in clear.
func NewTCP(sock *Socket, limits wire.Limits) *TCP {
	c := &TCP{sock: sock, content: stanza.NSClient, info: Info{
		Framing: "tcp", Remote: sock.RemoteAddr(), Local: sock.LocalAddr(),
	}}
	sock.Eager()
	c.limits = limits
	c.Restart()
	return c
}

// NewDirectTLS runs the TLS handshake at once (XEP-0368) and returns the framing.
func NewDirectTLS(sock *Socket, cfg *tls.Config, limits wire.Limits, timeout time.Duration) (*TCP, error) {
	c := NewTCP(sock, limits)
	c.info.Implicit = true
	if err := c.handshake(cfg, timeout); err != nil {
		c.Abort()
		return nil, err
	}
	return c, nil
}

// After our end of the stream the peer has this long, and this many octets, to
// end its own (RFC 6120 §4.4).
const (
	closeTimeout = 3 * time.Second
	discardMax   = 1 << 20
)

// handshakeTimeout bounds the handshake of STARTTLS; the session's own deadline
// for authentication is usually nearer.
const handshakeTimeout = 30 * time.Second

// Secure implements Securer (RFC 6120 §5.4.3.3).
func (c *TCP) Secure(cfg *tls.Config) error {
	// What came before the handshake came in clear: nothing of it may be used.
	c.drop()
	if err := c.handshake(cfg, handshakeTimeout); err != nil {
		return err
	}
	c.Restart()
	return nil
}

func (c *TCP) handshake(cfg *tls.Config, timeout time.Duration) error {
	c.mu.Lock()
	ended := c.closed.Load()
	c.shaking = true
	c.mu.Unlock()
	if ended {
		return net.ErrClosed
	}
	conn := tls.Server(c.sock, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// In a goroutine of its own: the handshake needs a deep stack, the reader that
	// lives on does not.
	done := make(chan error, 1)
	go func() { done <- conn.HandshakeContext(ctx) }()
	err := <-done
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shaking = false
	if err != nil {
		return err
	}
	c.tls = conn
	c.info.Secure = true
	return nil
}

// Restart implements Conn.
func (c *TCP) Restart() {
	c.scan.Reset(wire.Stream, c.limits)
	c.mu.Lock()
	c.opened = false // RFC 6120 §4.9.1.2: an error needs our header of the new stream first
	c.mu.Unlock()
}

// Limit implements Conn.
func (c *TCP) Limit(l wire.Limits) {
	c.limits = l
	c.scan.SetLimits(l)
}

// Info implements Conn.
func (c *TCP) Info() Info { return c.info }

// Read implements Conn.
func (c *TCP) Read(idle func()) (Event, error) {
	c.sock.OnIdle(idle)
	for {
		if c.closed.Load() {
			return Event{}, c.discard()
		}
		if c.ended {
			return Event{}, io.EOF
		}
		// Without data Next gives the scanner's working memory back, and tells of the
		// end of a stream whose header was an empty-element tag.
		kind, n, err := c.scan.Next(c.data)
		if err != nil {
			return Event{}, FromWire(err)
		}
		all := c.data[:n]
		c.data = c.data[n:]
		switch kind {
		case wire.KindHeader:
			return c.header(all[n-c.scan.Index().Len:]), nil
		case wire.KindElement:
			el := c.scan.Index()
			raw := all[n-el.Len:]
			if el.Foreign {
				return c.canonical(raw)
			}
			return Event{Kind: Element, Raw: raw, Index: el}, nil
		case wire.KindTrailer:
			c.ended = true
			return Event{Kind: Closed}, nil
		}
		if err := c.fill(idle); err != nil {
			return Event{}, err
		}
	}
}

// drop forgets what has been received.
func (c *TCP) drop() {
	Give(c.buf)
	c.buf, c.data, c.carry = nil, nil, nil
}

// discard reads what the peer still sends after our end, so that its closing and
// our last octets meet, and returns why it stopped. Close has set a deadline.
func (c *TCP) discard() error {
	// The peer's closing tag is the last that it sends (RFC 6120 §4.4). What comes
	// before it is not scanned any more: it may be what was wrong.
	const tag = "</stream:stream>"
	tail := bytes.TrimRight(c.data, " \t\r\n")
	tail = append([]byte(nil), tail[max(0, len(tail)-len(tag)):]...)
	c.drop()
	for total := 0; total < discardMax && !c.ended; {
		if c.ended = string(tail) == tag; c.ended {
			break
		}
		buf, n, err := c.take(0, nil)
		if n > 0 {
			tail = append(tail, bytes.TrimRight((*buf)[:n], " \t\r\n")...)
			tail = tail[max(0, len(tail)-len(tag)):]
		}
		Give(buf)
		if n == 0 {
			return notNil(err)
		}
		total += n
	}
	// RFC 6120 §4.4: both sides are closed, and the connection is ours to end once
	// our last octets have left.
	c.sock.Settle(closeTimeout)
	return io.EOF
}

// fill adds at least one octet to data.
func (c *TCP) fill(idle func()) error {
	rest := c.data
	c.data = nil
	switch {
	case len(rest) == 0:
		c.carry = nil
	case c.buf == nil:
		c.carry = rest // part of carry already
	default:
		c.carry = append([]byte(nil), rest...)
	}
	Give(c.buf)
	c.buf = nil
	if c.tls != nil && len(c.carry) == 0 {
		// Wait with one octet in hand instead of a buffer. It is scanned at once,
		// so that nothing depends on what comes after it.
		n, err := c.tls.Read(c.one[:])
		if n == 0 {
			return notNil(err)
		}
		c.carry = c.one[:1:1]
		c.data = c.carry
		return nil
	}
	skip := len(c.carry)
	if skip > carryMax {
		skip = 0
	}
	buf, end, err := c.take(skip, idle)
	if end == skip {
		Give(buf)
		return notNil(err)
	}
	if skip < len(c.carry) {
		// A large element: gather it in one growing buffer.
		c.carry = append(c.carry, (*buf)[:end]...)
		Give(buf)
		c.data = c.carry
		return nil
	}
	copy(*buf, c.carry)
	c.carry = nil
	c.buf = buf
	c.data = (*buf)[:end]
	return nil
}

func (c *TCP) take(skip int, idle func()) (*[]byte, int, error) {
	if c.tls == nil {
		if idle != nil {
			idle()
		}
		return c.sock.Take(skip)
	}
	buf := readBuffers.Get().(*[]byte)
	n, err := c.tls.Read((*buf)[skip:])
	return buf, skip + n, err
}

func notNil(err error) error {
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// canonical re-encodes an element that uses prefixes declared on the stream
// header, so that its octets can be forwarded.
func (c *TCP) canonical(raw []byte) (Event, error) { return Canonical(&c.scan, raw, c.limits) }

// Canonical re-encodes the element that sc has read last, raw within limits, so that
// it declares all it uses. The error is as FromWire makes it.
func Canonical(sc *wire.Scanner, raw []byte, limits wire.Limits) (Event, error) {
	own, err := sc.Canonical(nil, raw)
	if err != nil {
		return Event{}, FromWire(err)
	}
	return standalone(own, limits)
}

// standalone indexes one element that declares all it uses.
func standalone(raw []byte, limits wire.Limits) (Event, error) {
	// What the peer sent was within its limits; declarations that moved inside do
	// not count against it.
	d := wire.DefaultLimits()
	limits.Bytes = max(limits.Bytes, d.Bytes, len(raw)+1)
	limits.NSDecls = max(limits.NSDecls, d.NSDecls) * 2
	limits.NSName = max(limits.NSName, d.NSName) * len("&quot;") // escaped anew
	var sc wire.Scanner
	sc.Reset(wire.Document, limits)
	kind, n, err := sc.Next(raw)
	if err != nil {
		return Event{}, FromWire(err)
	}
	if kind != wire.KindElement {
		return Event{}, Err(NotWellFormed, "")
	}
	return Event{Kind: Element, Raw: raw[n-sc.Index().Len : n], Index: sc.Index()}, nil
}

// header reads the peer's stream header (RFC 6120 §4.7).
func (c *TCP) header(raw []byte) Event {
	el := c.scan.Index()
	h := ReadHeader(raw, el)
	for _, d := range el.Decls {
		if d.Prefix.Start == d.Prefix.End {
			h.Content = wire.Unescape(string(d.Name.Bytes(raw)))
		}
	}
	switch {
	case string(el.Space.Bytes(raw)) != NSStream:
		h.Err = Err(InvalidNamespace, "the stream namespace is "+NSStream) // RFC 6120 §4.9.3.10
	case string(el.Local.Bytes(raw)) != "stream":
		h.Err = Err(BadFormat, "the root element is stream") // RFC 6120 §4.9.3.1
	case string(el.Prefix.Bytes(raw)) != "stream":
		// RFC 6120 §4.8.5: other prefixes may be refused, and our elements use this one.
		h.Err = Err(BadNamespacePrefix, "the prefix of the stream namespace is stream")
	}
	return Event{Kind: Opened, Header: h}
}

// Open implements Conn.
func (c *TCP) Open(h Header) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open(h)
}

func (c *TCP) open(h Header) error {
	if h.Content == "" {
		h.Content = c.content
	}
	b := make([]byte, 0, 256)
	b = append(b, "<?xml version='1.0'?><stream:stream xmlns='"...)
	b = wire.AppendAttr(b, h.Content)
	b = append(b, "' xmlns:stream='"+NSStream+"'"...)
	for _, a := range [...]struct{ name, value string }{
		{" from='", h.From}, {" to='", h.To}, {" id='", h.ID}, {" version='", h.Version}, {" xml:lang='", h.Lang},
	} {
		if a.value != "" {
			b = append(b, a.name...)
			b = wire.AppendAttr(b, a.value)
			b = append(b, '\'')
		}
	}
	b = append(b, '>')
	c.opened = true
	_, err := c.writer().Write(b)
	return err
}

func (c *TCP) writer() io.Writer {
	if c.tls != nil {
		return c.tls
	}
	return c.sock
}

// Write implements Conn.
func (c *TCP) Write(b Batch, done func(error)) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return false, net.ErrClosed
	}
	if _, err := c.writer().Write(b.Data); err != nil {
		return false, err
	}
	return c.sock.Flushed(done)
}

// Close implements Conn.
func (c *TCP) Close(e *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Swap(true) {
		return
	}
	if c.shaking {
		c.sock.Close() // there is no stream that could be ended in order
		return
	}
	_ = c.sock.SetReadDeadline(time.Now().Add(closeTimeout))
	if !c.opened {
		// RFC 6120 §4.9.1.2: our header comes before the error.
		if c.open(Header{ID: rand.Text(), Version: "1.0", Lang: "en"}) != nil {
			return
		}
	}
	var b []byte
	if e != nil {
		b = e.AppendXML(b)
	}
	b = append(b, "</stream:stream>"...)
	_, _ = c.writer().Write(b)
	if c.tls != nil {
		_ = c.tls.CloseWrite() // close_notify, RFC 7590 §3.1
	}
}

// Abort implements Conn.
func (c *TCP) Abort() { c.sock.Close() }

// ChannelBinding implements Binder.
func (c *TCP) ChannelBinding(typ string) ([]byte, error) {
	if c.tls == nil {
		return nil, errNoBinding
	}
	return TLSBinding(c.tls, typ)
}
