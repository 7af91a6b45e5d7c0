package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// road names a way into a server.
type road string

const (
	roadTCP       road = "tcp"      // RFC 6120, no TLS
	roadSTARTTLS  road = "starttls" // RFC 6120 §5
	roadDirectTLS road = "direct"   // XEP-0368
	roadWebSocket road = "ws"       // RFC 7395, no TLS
	roadBOSH      road = "bosh"     // XEP-0206, no TLS
)

// link carries stanzas over one road. open, recv and startTLS belong to one
// goroutine; send may be called by another at the same time.
type link interface {
	// open starts the stream, or restarts it after SASL.
	open(domain string, restart bool) error
	// pack appends one stanza in the road's own unit. Units may be concatenated.
	pack(dst, stanza []byte) []byte
	// send writes whole units.
	send(units []byte) error
	// recv reads XML of the stream, without the road's framing.
	recv(buf []byte) (int, error)
	setDeadline(t time.Time) error
	// close ends the stream and the connection without waiting for the server.
	close() error
}

// tcpLink is RFC 6120's own framing; it is also a pipe through the byte relay.
type tcpLink struct {
	conn net.Conn
}

func (l *tcpLink) open(domain string, _ bool) error {
	// RFC 6120 §4.7, §4.8
	return l.send([]byte("<?xml version='1.0'?><stream:stream to='" + domain +
		"' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"))
}

func (l *tcpLink) pack(dst, stanza []byte) []byte { return append(dst, stanza...) }

func (l *tcpLink) send(units []byte) error {
	_, err := l.conn.Write(units)
	return err
}

func (l *tcpLink) recv(buf []byte) (int, error)  { return l.conn.Read(buf) }
func (l *tcpLink) setDeadline(t time.Time) error { return l.conn.SetDeadline(t) }

// startTLS takes the connection over after <proceed/> (RFC 6120 §5.4.3.3).
func (l *tcpLink) startTLS(cfg *tls.Config) error {
	conn := tls.Client(l.conn, cfg)
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	l.conn = conn
	return nil
}

func (l *tcpLink) close() error {
	_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = l.send([]byte("</stream:stream>")) // RFC 6120 §4.4
	return l.conn.Close()
}

// wsLink is RFC 7395: one stanza per text frame (§3.3.3). Frames are built and
// read here, to cost the client as little as TCP does. The mask is zero: legal on
// the wire, the server does the same work, and units stay comparable.
type wsLink struct {
	conn net.Conn
	in   []byte // received bytes not yet decoded
	buf  []byte
	left int  // payload bytes of the current frame still to come
	drop bool // the current frame is a control frame

	mu sync.Mutex // keeps a pong from splitting a batch
}

func dialWebSocket(conn net.Conn, host, path string) (*wsLink, error) {
	// RFC 6455 §4.1; the sub-protocol is RFC 7395 §3.1's.
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n" +
		"Origin: http://" + host + "\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return nil, err
	}
	br := bufio.NewReader(conn)
	resp, err := readHTTPHeader(br)
	if err != nil {
		return nil, err
	}
	if resp.status != 101 {
		return nil, fmt.Errorf("websocket upgrade refused with status %d", resp.status)
	}
	l := &wsLink{conn: conn, buf: make([]byte, 16<<10)}
	if n := br.Buffered(); n > 0 {
		p, _ := br.Peek(n)
		l.in = append(l.buf[:0], p...)
	}
	return l, nil
}

func (l *wsLink) open(domain string, _ bool) error {
	// RFC 7395 §3.4
	return l.send(l.pack(nil, []byte("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='"+domain+"' version='1.0'/>")))
}

// Frame opcodes of RFC 6455 §5.2.
const (
	wsText  = 0x1
	wsClose = 0x8
	wsPing  = 0x9
	wsPong  = 0xA
)

func (l *wsLink) pack(dst, stanza []byte) []byte { return appendFrame(dst, wsText, stanza) }

func appendFrame(dst []byte, opcode byte, payload []byte) []byte {
	dst = append(dst, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	default: // no stanza here reaches 64 KiB
		dst = append(dst, 0x80|126, byte(n>>8), byte(n))
	}
	dst = append(dst, 0, 0, 0, 0) // masking key
	return append(dst, payload...)
}

func (l *wsLink) send(units []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.conn.Write(units)
	return err
}

func (l *wsLink) recv(buf []byte) (int, error) {
	for {
		if n, err := l.decode(buf); n > 0 || err != nil {
			return n, err
		}
		kept := copy(l.buf, l.in)
		n, err := l.conn.Read(l.buf[kept:])
		if err != nil {
			return 0, err
		}
		l.in = l.buf[:kept+n]
	}
}

// decode moves payload bytes of complete or partial frames into buf.
func (l *wsLink) decode(buf []byte) (int, error) {
	total := 0
	for len(l.in) > 0 {
		if l.left == 0 {
			header, size, ok := frameHeader(l.in)
			if !ok {
				return total, nil
			}
			opcode := l.in[0] & 0x0f
			l.drop = opcode >= wsClose
			switch opcode {
			case wsClose:
				return total, errStreamClosed
			case wsPing:
				if len(l.in) < header+size {
					return total, nil
				}
				if err := l.send(appendFrame(nil, wsPong, l.in[header:header+size])); err != nil {
					return total, err
				}
			}
			l.in, l.left = l.in[header:], size
		}
		n := min(l.left, len(l.in))
		if !l.drop {
			n = copy(buf[total:], l.in[:n])
			total += n
		}
		l.in, l.left = l.in[n:], l.left-n
		if total == len(buf) {
			break
		}
	}
	return total, nil
}

// frameHeader returns the length of an unmasked frame's header and payload.
func frameHeader(p []byte) (header, size int, ok bool) {
	if len(p) < 2 {
		return 0, 0, false
	}
	switch size = int(p[1] & 0x7f); {
	case size < 126:
		return 2, size, true
	case size == 126 && len(p) >= 4:
		return 4, int(p[2])<<8 | int(p[3]), true
	case size == 127 && len(p) >= 10:
		for _, b := range p[2:10] {
			header = header<<8 | int(b)
		}
		return 10, header, true
	}
	return 0, 0, false
}

func (l *wsLink) setDeadline(t time.Time) error { return l.conn.SetDeadline(t) }

func (l *wsLink) close() error {
	_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = l.send(l.pack(nil, []byte("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"))) // RFC 7395 §3.6
	return l.conn.Close()
}

var errNotTCP = errors.New("STARTTLS needs the TCP road")
