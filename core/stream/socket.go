package stream

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// readBufferSize is what one read takes at most; a batch of that much is routed
// before the outboxes it filled are flushed.
const readBufferSize = 16 << 10

// drainTimeout bounds how long a peer may take none of our octets once its socket
// is full. After that the connection fails. drainPiece is what has to leave in
// that time, so that a peer that reads slowly is not taken for one that does not.
const (
	drainTimeout = 2 * time.Minute
	drainPiece   = 32 << 10
)

var readBuffers = sync.Pool{New: func() any { b := make([]byte, readBufferSize); return &b }}

// Socket is a net.Conn that can be told never to wait for the peer's reading, so
// that whoever has something for a slow peer is not slowed by it. It sits below
// TLS, WebSocket and plain framing alike.
//
// Read may be called by one goroutine and Write by another.
type Socket struct {
	net.Conn
	raw     syscall.RawConn // nil: the connection has no descriptor (net.Pipe)
	eager   bool            // set once by Eager, before concurrent use
	mu      sync.Mutex      // pending, drain, done, quiet, err
	pending []byte          // what the kernel would not take yet
	drain   bool            // a goroutine is writing pending
	done    func(error)     // called when pending is empty or the connection failed
	quiet   chan struct{}   // closed then too; made by who waits for it
	err     error

	// read ahead for the layers above; owned by the reader
	idle           func()
	ahead          *[]byte
	aheadR, aheadW int

	leaf *x509.Certificate // sent in the TLS handshake over this socket

	// one read under way: the callback is made once, so that a read allocates nothing
	readFn  func(uintptr) bool
	readBuf *[]byte
	readN   int
	readErr error

	writeFn  func(uintptr) bool
	writeBuf []byte
	writeN   int
	writeErr error
}

// NewSocket wraps c.
func NewSocket(c net.Conn) *Socket {
	s := &Socket{Conn: c}
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// Eager makes Write return at once from now on: what the kernel does not take is
// kept and written by a goroutine of its own, which lives only that long.
func (s *Socket) Eager() { s.eager = true }

// Write implements net.Conn.
func (s *Socket) Write(p []byte) (int, error) {
	if !s.eager {
		return s.Conn.Write(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	n := 0
	if len(s.pending) == 0 {
		var err error
		if n, err = s.try(p); err != nil {
			s.err = err
			return n, err
		}
	}
	if n < len(p) {
		s.pending = append(s.pending, p[n:]...)
		if !s.drain {
			s.drain = true
			go s.drainPending()
		}
	}
	return len(p), nil
}

// try hands p to the kernel as far as it goes.
func (s *Socket) try(p []byte) (int, error) {
	if s.raw == nil {
		return 0, nil
	}
	if s.writeFn == nil {
		s.writeFn = s.writeOnce
	}
	s.writeBuf, s.writeN, s.writeErr = p, 0, nil
	err := s.raw.Write(s.writeFn)
	s.writeBuf = nil
	if err == nil {
		err = s.writeErr
	}
	return s.writeN, err
}

// writeOnce is called with the descriptor; returning true means: do not wait.
func (s *Socket) writeOnce(fd uintptr) bool {
	for s.writeN < len(s.writeBuf) {
		n, err := syscall.Write(int(fd), s.writeBuf[s.writeN:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			s.writeErr = os.NewSyscallError("write", err)
			return true
		case n == 0:
			s.writeErr = io.ErrUnexpectedEOF
			return true
		}
		s.writeN += n
	}
	return true
}

func (s *Socket) drainPending() {
	for {
		s.mu.Lock()
		chunk := s.pending
		if len(chunk) == 0 || s.err != nil {
			s.drain = false
			s.pending = nil
			done, err := s.done, s.err
			s.done = nil
			if s.quiet != nil {
				close(s.quiet)
				s.quiet = nil
			}
			_ = s.Conn.SetWriteDeadline(time.Time{})
			s.mu.Unlock()
			if done != nil {
				done(err)
			}
			return
		}
		s.mu.Unlock()
		_ = s.Conn.SetWriteDeadline(time.Now().Add(drainTimeout))
		n, err := s.Conn.Write(chunk[:min(len(chunk), drainPiece)])
		s.mu.Lock()
		s.pending = s.pending[n:]
		if err != nil && s.err == nil {
			s.err = err
		}
		s.mu.Unlock()
	}
}

// Flushed tells whether everything written has left this process. If not, done
// is called once when it has, or with the error that ended the connection.
func (s *Socket) Flushed(done func(error)) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false, s.err
	}
	if len(s.pending) == 0 {
		return true, nil
	}
	s.done = done
	return false, nil
}

// Settle waits until what was written has left this process, the connection has
// failed, or the time is over.
func (s *Socket) Settle(timeout time.Duration) {
	s.mu.Lock()
	if !s.drain {
		s.mu.Unlock()
		return
	}
	if s.quiet == nil {
		s.quiet = make(chan struct{})
	}
	quiet := s.quiet
	s.mu.Unlock()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-quiet:
	case <-t.C:
	}
}

// SetWriteDeadline implements net.Conn. After Eager it does nothing: Write never
// waits, and what is pending has a deadline of its own, which tls.Conn.CloseWrite
// would otherwise end at once.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	if s.eager {
		return nil
	}
	return s.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn, with SetWriteDeadline's exception.
func (s *Socket) SetDeadline(t time.Time) error {
	if s.eager {
		return s.Conn.SetReadDeadline(t)
	}
	return s.Conn.SetDeadline(t)
}

// Close closes the connection; what is still pending is lost.
func (s *Socket) Close() error {
	s.mu.Lock()
	if s.err == nil {
		s.err = net.ErrClosed
	}
	s.mu.Unlock()
	return s.Conn.Close()
}

// Read implements net.Conn, for the layers that bring a buffer of their own. After
// Eager it reads ahead into a pooled buffer that it holds only while it is not
// drained, so that many small records cost one system call.
func (s *Socket) Read(p []byte) (int, error) {
	if !s.eager {
		return s.Conn.Read(p)
	}
	if s.aheadR == s.aheadW {
		if s.idle != nil {
			s.idle()
		}
		buf, n, err := s.Take(0)
		if n == 0 {
			Give(buf)
			return 0, err
		}
		s.ahead, s.aheadR, s.aheadW = buf, 0, n
	}
	n := copy(p, (*s.ahead)[s.aheadR:s.aheadW])
	if s.aheadR += n; s.aheadR == s.aheadW {
		Give(s.ahead)
		s.ahead, s.aheadR, s.aheadW = nil, 0, 0
	}
	return n, nil
}

// OnIdle names what Read calls, on the reader's goroutine, whenever it is about
// to ask the kernel. It belongs to the reader.
func (s *Socket) OnIdle(idle func()) { s.idle = idle }

// Take reads once into a buffer from the pool, beginning at offset skip, and
// returns where the octets end: skip when err says why there are none. The buffer
// is taken only when there is something to read, so that a waiting reader holds
// none, unless the connection has no descriptor. The caller gives it back with
// Give, which takes nil too.
func (s *Socket) Take(skip int) (buf *[]byte, end int, err error) {
	if s.raw == nil {
		b := readBuffers.Get().(*[]byte)
		n, err := s.Conn.Read((*b)[skip:])
		return b, skip + n, err
	}
	if s.readFn == nil {
		s.readFn = s.readOnce
	}
	s.readBuf, s.readN, s.readErr = nil, skip, nil
	err = s.raw.Read(s.readFn)
	if err == nil {
		err = s.readErr
	}
	buf, s.readBuf = s.readBuf, nil
	return buf, s.readN, err
}

func (s *Socket) readOnce(fd uintptr) bool {
	b := readBuffers.Get().(*[]byte)
	for {
		n, err := syscall.Read(int(fd), (*b)[s.readN:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			readBuffers.Put(b)
			return false // wait without a buffer
		case err != nil:
			s.readErr = os.NewSyscallError("read", err)
		case n == 0:
			s.readErr = io.EOF
		}
		s.readBuf = b
		s.readN += max(n, 0)
		return true
	}
}

// Give returns a buffer that Take gave out; nil is none.
func Give(buf *[]byte) {
	if buf != nil && cap(*buf) == readBufferSize {
		*buf = (*buf)[:readBufferSize]
		readBuffers.Put(buf)
	}
}

// Gone tells whether err only says that the connection ended, which is nothing
// to log.
func Gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded)
}
