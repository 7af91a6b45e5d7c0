package c2s

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/router"
	"trivium/core/stream"
)

// managed is a session with stream management (XEP-0198). It outlives the streams
// that carry it, one after the other.
//
// What the peer sends is acknowledged in order, and not before it is safe: the
// answer to <r/> waits for the group commit, or for the recipients, that hold the
// messages before it. The reader never does.
type managed struct {
	svc  *Service
	peer *router.Session
	id   string        // the SM-ID
	max  time.Duration // that it waits for its peer; 0: it cannot be resumed

	handing sync.Mutex // held while what waits for the peer is handed back

	mu       sync.Mutex
	owner    *session      // the stream that carries it; nil while there is none
	free     chan struct{} // closed when owner has let it go; nil while nobody waits for that
	since    time.Time     // when the last stream was lost, or the first of asked came
	ended    bool          // it is to end, whatever comes
	over     bool          // it has ended
	received uint32        // stanzas that came, modulo 2^32
	handled  atomic.Uint32 // 'h': those of them that are safe, with all before them; changed with mu only
	first    *arrival      // the first that is not
	last     *arrival      // the last one
	unused   *arrival      // arrivals to be used again, by next
	spare    int           // how many
	calm     chan struct{} // closed when there are none; nil while nobody waits for that
	asked    []uint32      // what received was when an <r/> came that has no answer yet
	due      bool          // the service is about to answer
}

// handOver is how long a stream may take to let go of its session.
const handOver = 10 * time.Second

// claim makes s the stream of m. One that still carries it is ended.
func (m *managed) claim(s *session) bool {
	for {
		m.mu.Lock()
		if m.over || m.ended {
			m.mu.Unlock()
			return false
		}
		old := m.owner
		if old == nil {
			m.owner = s
			m.mu.Unlock()
			m.svc.Stats.Hibernated.Add(-1)
			return true
		}
		if m.free == nil {
			m.free = make(chan struct{})
		}
		free := m.free
		m.mu.Unlock()
		old.conn.Close(stream.Err(stream.Conflict, "resumed by another stream")) // XEP-0198 §5
		old.conn.Abort()
		t := time.NewTimer(handOver)
		select {
		case <-free:
			t.Stop()
		case <-t.C:
			return false
		}
	}
}

// release is called by a stream that is over. It reports true when the session
// waits for another.
func (m *managed) release(s *session, final bool) bool {
	m.mu.Lock()
	// A stream that is ended for another one may end with whatever error.
	stays := m.max > 0 && !m.ended && (!final || m.free != nil)
	m.mu.Unlock()
	stays = stays && m.peer.Detach()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return false
	}
	stays = stays && !m.ended
	m.unused, m.spare = nil, 0
	m.owner, m.since = nil, time.Now()
	m.asked = m.asked[:0]
	m.over = !stays
	if stays {
		m.svc.Stats.Hibernated.Add(1)
	}
	if m.free != nil {
		close(m.free)
		m.free = nil
	}
	return stays
}

// kick ends the session from outside, with or without a stream: nobody resumes it
// from here on. What waits for its peer is handed back before kick returns, so that
// it comes before what is sent next. Without an error only the stream is over.
func (m *managed) kick(e *stream.Error) {
	m.mu.Lock()
	owner := m.owner
	m.ended = m.ended || e != nil
	m.mu.Unlock()
	switch {
	case owner != nil:
		owner.kick(e)
		if e != nil {
			m.drop()
		}
	case e != nil:
		m.expire()
	}
}

// drop hands back what waits for the peer, and returns when that has been done.
func (m *managed) drop() {
	m.handing.Lock()
	defer m.handing.Unlock()
	m.peer.Drop()
}

// expire ends a session that has no stream: what waits for its peer goes where it
// would have gone without the session, in order (XEP-0198 §4).
func (m *managed) expire() {
	m.handing.Lock()
	defer m.handing.Unlock()
	m.mu.Lock()
	if m.over || m.owner != nil {
		m.mu.Unlock()
		return
	}
	m.over = true
	m.mu.Unlock()
	m.svc.Stats.Hibernated.Add(-1)
	var t router.Turn
	m.svc.registry.lapse(m)
	m.svc.router.Unbind(m.peer)
	m.svc.modules.SessionUnbound(context.Background(), &t, m.peer)
	t.Flush()
	m.peer.Drop()
}
