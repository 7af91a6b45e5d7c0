package websocket

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	gorilla "github.com/gorilla/websocket"

	"trivium/core/stream"
)

// maxHeader is the longest header of a frame that is not masked (RFC 6455 §5.2).
const maxHeader = 10

// appendHeader appends the header of a frame that is a whole message.
func appendHeader(dst []byte, opcode byte, size int) []byte {
	const fin = 0x80
	dst = append(dst, fin|opcode)
	switch { // RFC 6455 §5.2: the shortest form
	case size < 126:
		return append(dst, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(size))
}

// appendControl appends a control frame; payload has at most 125 octets.
func appendControl(dst []byte, opcode byte, payload string) []byte {
	return append(appendHeader(dst, opcode, len(payload)), payload...)
}

// appendText appends a text message with what content appends.
func appendText(dst []byte, guess int, content func([]byte) []byte) []byte {
	start := len(dst)
	var header [maxHeader]byte
	room := len(appendHeader(header[:0], gorilla.TextMessage, guess))
	dst = append(dst, header[:room]...)
	dst = content(dst)
	size := len(dst) - start - room
	h := appendHeader(header[:0], gorilla.TextMessage, size)
	if len(h) != room { // the guess was wrong
		dst = append(dst, header[:]...)
		copy(dst[start+len(h):], dst[start+room:start+room+size])
		dst = dst[:start+len(h)+size]
	}
	copy(dst[start:], h)
	return dst
}

// appendElement appends a text message with one element of a batch (RFC 7395
// §3.3.3).
func appendElement(dst, element []byte, content string) []byte {
	return appendText(dst, len(element)+len(content)+len(" xmlns=''"), func(dst []byte) []byte {
		return stream.AppendStandalone(dst, element, content)
	})
}

// buffers holds buffers for messages that come and batches that go.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// bufferMax is the largest buffer that is kept.
const bufferMax = 64 << 10

func give(b *[]byte) {
	if b != nil && cap(*b) <= bufferMax {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// pipe is the net.Conn that gorilla sees. Reading goes through. Writing goes
// through during the handshake; after it gorilla writes nothing but the close
// frame of a peer that breaks the protocol, which is kept until the XMPP stream
// has been closed.
type pipe struct {
	net.Conn // a *tls.Conn above sock, or sock
	sock     *stream.Socket
	tls      *tls.Conn // nil in clear

	upgraded bool
	refusal  string // payload of gorilla's close frame; owned by the reader
	err      error  // why reading ended; owned by the reader
	meter    meter  // owned by the reader
	excess   bool   // the meter's error is still to be returned; owned by the reader
	heard    atomic.Bool
}

// Read implements net.Conn. It fails once with the meter's error, in place of the
// frame that exceeds a limit; gorilla does not read on after that, and what
// comes then is only thrown away.
func (p *pipe) Read(b []byte) (int, error) {
	if p.upgraded && p.meter.err == nil {
		return p.metered(b)
	}
	if p.excess {
		p.excess = false
		return 0, p.meter.err
	}
	return p.read(b)
}

// metered reads up to the frame that exceeds a limit.
func (p *pipe) metered(b []byte) (int, error) {
	n, err := p.read(b)
	if n = p.meter.scan(b[:n]); p.meter.err == nil {
		return n, err
	}
	if n == 0 {
		return 0, p.meter.err
	}
	p.excess = true // the frames in front of it count
	return n, nil
}

func (p *pipe) read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if n > 0 {
		if !p.heard.Load() {
			p.heard.Store(true)
		}
	} else if err != nil {
		p.err = err
	}
	return n, err
}

// Write implements net.Conn. After the handshake it is called by the reader only.
func (p *pipe) Write(b []byte) (int, error) {
	if !p.upgraded {
		return p.Conn.Write(b)
	}
	if len(b) > 2 && p.refusal == "" {
		p.refusal = string(b[2:])
	}
	return len(b), nil
}

// SetWriteDeadline implements net.Conn. The Socket has deadlines of its own.
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
