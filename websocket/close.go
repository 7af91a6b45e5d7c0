package websocket

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"time"

	gorilla "github.com/gorilla/websocket"

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
)

// onClose answers the peer's close frame with the status it had (RFC 6455
// §5.5.1).
func (c *Conn) onClose(code int, _ string) error {
	if c.pipe.meter.halfClose {
		return errCloseBody // RFC 6455 §5.5.1: a body begins with a status of two octets
	}
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
