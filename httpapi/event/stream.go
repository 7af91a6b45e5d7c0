package event

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"trivium/core/store"
)

// Stream serves the log as server-sent events (WHATWG HTML §9.2). Log and Encoder
// are required; zero values of the rest are defaults.
type Stream struct {
	Log     *Log
	Encoder *Encoder
	// Stop ends all streams when it is closed, since an http.Server that shuts down
	// waits for them. Their readers come back when the server is there again.
	Stop <-chan struct{}
	// Heartbeat is after how long something is sent when there is nothing to say: 15 s.
	Heartbeat time.Duration
	// WriteTimeout is how long a reader may be behind before it is cut off: 20 s.
	WriteTimeout time.Duration
	// Retry is after how long readers should come back when a stream has ended: 2 s.
	Retry time.Duration
	// Pace is the least time between two writes on a stream: what happens meanwhile
	// goes together, and what comes after a pause goes at once. 10 ms; negative: none.
	Pace time.Duration
	// Allowed is asked at every heartbeat whether the reader may still see the events:
	// who was let in an hour ago need not be now. Nil: yes. What is asked is set on the
	// copy that Serve is called on.
	Allowed func(context.Context) bool
	// Serving are the hosts for which the reader counts as a follower (Log.Followers);
	// those of the filter if nil.
	Serving []string
}

const (
	writeAt = 64 << 10 // octets that are not added to
	idName  = "Last-Event-ID"
)

func (s *Stream) setDefaults() {
	if s.Heartbeat <= 0 {
		s.Heartbeat = 15 * time.Second
	}
	if s.WriteTimeout <= 0 {
		s.WriteTimeout = 20 * time.Second
	}
	if s.Retry <= 0 {
		s.Retry = 2 * time.Second
	}
	if s.Pace == 0 {
		s.Pace = 10 * time.Millisecond
	}
}

// FromNow, as the after of Serve, leaves out what has happened before.
const FromNow = -1

// Serve answers a request with the events that f takes, and returns when the
// reader has gone, cannot keep up or is not Allowed any more, or the stream is
// stopped. It begins after the id in the request's header Last-Event-ID, otherwise
// after the given number: 0 for all that are kept. An id that is not known any more, or is none, is answered
// with an event "gap" whose data are a Gap.
//
// Each event has its id, its type and its data. Data in a format that the event
// has no form in are JSON; only these begin with "{". Lines of the data end in LF,
// whatever they ended in before.
//
// Besides comments, the stream has events without data now and then, which move
// the reader's id on over events that the filter has left out.
func (s Stream) Serve(w http.ResponseWriter, r *http.Request, f Filter, format Format, after int64) {
	s.setDefaults()
	c := &connection{Stream: s, w: w, rc: http.NewResponseController(w), format: format}
	after, unknown := c.begin(r, after)
	c.reader = s.Log.Follow(&f, after)
	defer c.reader.Close()
	c.reader.gap = c.reader.gap || unknown
	c.id = c.reader.after
	s.Log.streams.Add(1)
	defer s.Log.streams.Add(-1)
	if s.Serving == nil {
		s.Serving = f.Hosts
	}
	me := &follower{types: f.Types}
	s.Log.follow(me, s.Serving, true)
	defer s.Log.follow(me, s.Serving, false)
	c.Serving, c.types, c.settled = s.Serving, f.Types, c.id
	defer c.settle(context.WithoutCancel(r.Context()))
	if err := c.run(r.Context()); err != nil && r.Context().Err() == nil {
		s.Log.log.Debug("an event stream ended", "remote", r.RemoteAddr, "err", err)
	}
}

// Gap is the data of an event "gap": events after one and up to the other may
// be missing. JSON.
type Gap struct {
	After string `json:"after" doc:"The id that the reader came back with, or the last it got."`
	Until string `json:"until" doc:"The id from which on nothing is missing."`
}

// connection is one stream. It is owned by one goroutine.
type connection struct {
	Stream
	w      http.ResponseWriter
	rc     *http.ResponseController
	reader *Reader
	format Format
	buf    []byte
	from   string // the id that the reader came with
	id     int64  // the number that the reader knows of
	types  []Type // of the filter
	sent   int64  // the number of the last event that was written
	// settled is up to where what was sent waits no more.
	settled int64
	wrote   time.Time // the last write
	asked   time.Time // the last time that Allowed was asked
}

// begin sends the header and says where to begin; unknown: the id was none.
func (c *connection) begin(r *http.Request, after int64) (_ int64, unknown bool) {
	now := after < 0
	if now {
		after = c.Log.Last()
	} else if after > 0 {
		c.from = FormatID(after)
	}
	if id := r.Header.Get(idName); id != "" {
		c.from, now = id, false
		if seq, ok := ParseID(id); ok {
			after = seq
		} else {
			unknown = true
		}
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that collect answers
	if r.ProtoMajor == 1 {
		h.Set("Connection", "close") // the deadlines below are the connection's
	}
	_ = c.rc.SetReadDeadline(time.Time{}) // one for the request would end the stream
	c.w.WriteHeader(http.StatusOK)
	c.buf = append(c.buf, "retry: "...)
	c.buf = strconv.AppendInt(c.buf, c.Retry.Milliseconds(), 10)
	if now { // to come back with if the stream ends before there is an event
		c.buf = append(append(c.buf, "\nid: "...), FormatID(after)...)
	}
	c.buf = append(c.buf, "\n\n"...)
	return after, unknown
}

// run sends until the reader has gone, the stream is stopped or something fails.
func (c *connection) run(ctx context.Context) error {
	timer := time.NewTimer(c.Heartbeat)
	defer timer.Stop()
	c.asked = time.Now()
	for {
		select {
		case <-c.Stop:
			return nil
		default:
		}
		polled := time.Now()
		if !c.allowed(ctx, polled) {
			return errNotAllowed
		}
		batch, wake, err := c.reader.poll(ctx)
		if err != nil {
			return err
		}
		c.add(batch)
		if len(c.buf) >= writeAt || len(c.buf) > 0 && (wake != nil || time.Since(c.wrote) >= c.Heartbeat) {
			if err := c.write(); err != nil {
				return err
			}
		}
		if wake != nil {
			c.settle(ctx)
		}
		if wake == nil {
			if time.Since(c.wrote) >= c.Heartbeat { // much that the filter leaves out
				c.beat()
			}
			continue
		}
		timer.Reset(c.Heartbeat - time.Since(c.wrote))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.Stop:
			return nil
		case <-timer.C:
			c.beat()
			continue
		case <-wake:
		}
		// What comes shortly after the last look waits for more.
		if wait := c.Pace - time.Since(polled); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

var errNotAllowed = errors.New("event: the reader may not see events any more")

// allowed tells whether the reader may go on. There is something to do in every
// heartbeat, so that it is asked in time.
func (c *connection) allowed(ctx context.Context, now time.Time) bool {
	if c.Allowed == nil || now.Sub(c.asked) < c.Heartbeat {
		return true
	}
	c.asked = now
	return c.Allowed(ctx)
}

// add puts events into the buffer.
func (c *connection) add(batch []*entry) {
	if c.reader.Gap() {
		c.buf = c.gap(c.buf)
	}
	for _, e := range batch {
		octets, err := e.frame(c.Encoder, c.format)
		if err != nil {
			c.Log.log.Error("an event cannot be shown", "id", e.ID(), "err", err)
			continue
		}
		c.buf = append(c.buf, octets...)
		c.id, c.from = e.Seq, ""
	}
}

func (c *connection) gap(dst []byte) []byte {
	from := c.from
	if from == "" {
		from = FormatID(c.id)
	}
	until := max(c.Log.trimmed.Load(), min(c.id, c.Log.Last()))
	data, err := json.Marshal(Gap{After: from, Until: FormatID(until)})
	if err != nil {
		return dst // two strings
	}
	return appendFrame(dst, "", "gap", data)
}

// beat says that the stream is alive, and how far it is.
func (c *connection) beat() {
	c.buf = append(c.buf, ":\n"...)
	if at := c.reader.after; at > c.id {
		// An id without data changes the reader's id and is no event.
		c.id = at
		c.buf = append(append(append(c.buf, "id: "...), FormatID(at)...), '\n')
	}
	c.buf = append(c.buf, '\n')
}

// settle notes that what was sent to who serves its host waits no more.
func (c *connection) settle(ctx context.Context) {
	if c.sent <= c.settled {
		return
	}
	for _, host := range c.Serving {
		if err := c.Log.settle(ctx, host, c.types, c.settled, c.sent); err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
				c.Log.log.Error("events that a stream has taken still wait", "host", host, "err", err)
			}
			return
		}
	}
	c.settled = c.sent
}

// write sends what is in the buffer. A reader that does not take it in time is cut off.
func (c *connection) write() error {
	c.wrote = time.Now()
	err := c.rc.SetWriteDeadline(c.wrote.Add(c.WriteTimeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := c.w.Write(c.buf); err != nil {
		return err
	}
	if cap(c.buf) > 4*writeAt {
		c.buf = nil // after a flood
	} else {
		c.buf = c.buf[:0]
	}
	if err := c.rc.Flush(); err != nil {
		return err
	}
	c.sent = c.id
	return nil
}
