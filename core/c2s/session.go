package c2s

import (
	"context"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// session is one client stream. Its goroutine owns every field but those marked.
type session struct {
	svc        *Service
	opts       *Options    // as they were when the stream began
	conn       stream.Conn // constant; see its own contract
	requireTLS bool
	deadline   time.Time   // constant
	over       func()      // constant; called at the very end; may be nil
	pinged     atomic.Bool // owned by Service.probe
	kicked     atomic.Bool // ended from outside, for good

	host    *virtualHost // named by the first header
	lang    string       // of the peer's header
	login   *login       // nil once bound
	account jid.JID      // zero until authenticated
	peer    *router.Session
	managed *managed // nil without stream management
	turn    router.Turn
	packet  router.Packet
	limit   *rate.Limiter // of octets; nil: none
	pace    *rate.Limiter // of stanzas; nil: none
	idle    func()        // turn.Flush
	event   stream.Event  // what serve is at

	resumeFrom uint32 // the peer's 'h' in <resume/>
}

// state does one step of a stream and names the next; nil ends the stream.
type state func(context.Context, *session) (state, error)

// negotiate takes the stream through its states until it is bound, and starts
// what lives on in a goroutine of its own: negotiation needs a deep stack, and
// waiting for stanzas a shallow one.
func (s *session) negotiate(ctx context.Context) {
	err := s.guarded(ctx, func(ctx context.Context) (err error) {
		for next := state(opening); next != nil && err == nil; {
			next, err = next(ctx, s)
		}
		return err
	})
	if err == errClosed {
		err = nil
	}
	if err != nil || s.peer == nil {
		s.finish(ctx, err)
		return
	}
	go s.live(ctx)
}

// live serves the bound session. Its frames and those of the Read below are on the
// stack of every idle connection: they hold no more than they must.
func (s *session) live(ctx context.Context) { s.finish(ctx, s.guarded(ctx, s.serve)) }

// guarded runs f and turns a panic, which is our bug, into the end of this
// session alone.
func (s *session) guarded(ctx context.Context, f func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.svc.log.Error("a session's handler panicked", "jid", s.name(), "panic", p, "stack", string(debug.Stack()))
			err = &stream.Error{Condition: stream.InternalServerError}
		}
	}()
	return f(ctx)
}

// finish ends the stream and cleans up after it.
func (s *session) finish(ctx context.Context, err error) {
	var end *stream.Error
	switch {
	case errors.As(err, &end):
		s.svc.Stats.StreamFails.Add(1)
		s.svc.log.Debug("stream ended with an error", "jid", s.name(), "condition", string(end.Condition), "cause", end.Cause)
	case err != nil && err != errPeer && !stream.Gone(err):
		s.svc.log.Debug("connection failed", "jid", s.name(), "err", err)
	}
	s.turn.Flush() // others wait for it, also when the session goes on
	ends := s.peer != nil
	if s.managed != nil {
		// XEP-0198 §7: a stream that was not closed is unfinished.
		ends = !s.managed.release(s, end != nil || err == nil || s.kicked.Load())
		s.svc.unwatch(s)
	}
	if ends {
		s.unbind(ctx, end != nil || err == nil)
	}
	s.conn.Close(end)
	for lost := error(nil); lost == nil; { // until the peer has ended its side too
		_, lost = s.conn.Read(nil)
	}
	s.conn.Abort()
	switch {
	case !ends:
	case s.managed != nil:
		s.managed.drop()
	default:
		s.peer.Drop() // what has not left by now never will
	}
	s.svc.forget(s)
	if s.over != nil {
		s.over()
	}
}

// name is how the session is called in logs.
func (s *session) name() string {
	if s.peer != nil {
		return s.peer.JID.String()
	}
	return s.account.String()
}

// kick ends the session from outside.
func (s *session) kick(e *stream.Error) {
	if e == nil {
		s.conn.Abort()
		return
	}
	s.kicked.Store(true)
	s.conn.Close(e)
}

// unbind takes the session out of the router and tells the modules. With orderly
// what waits for the peer is still sent.
func (s *session) unbind(ctx context.Context, orderly bool) {
	if s.managed != nil {
		s.svc.registry.lapse(s.managed)
	}
	s.svc.router.Unbind(s.peer)
	if orderly {
		s.turn.Flush()
		s.peer.FlushOut()
	}
	s.svc.modules.SessionUnbound(ctx, &s.turn, s.peer)
	s.turn.Flush()
}

// errClosed says that the peer has closed its stream in order.
var errClosed = errors.New("c2s: the peer has closed its stream")

// next reads one element of a negotiation. The error is errClosed when there will be
// no more, a *stream.Error when the peer opens another stream that is not due (RFC
// 6120 §4.3.3), or the connection's.
func (s *session) next() (stream.Event, error) {
	ev, err := s.conn.Read(nil)
	if err == nil {
		switch ev.Kind {
		case stream.Closed:
			err = errClosed
		case stream.Opened:
			err = stream.Err(stream.NotAuthorized, "no stream restart is due")
		}
	}
	return ev, err
}

// send writes negotiation elements, before the session has an outbox.
func (s *session) send(ps ...stanza.Payload) error {
	var b stream.Batch
	for _, p := range ps {
		b.Data = p.AppendXML(b.Data)
		b.Ends = append(b.Ends, len(b.Data))
	}
	done := make(chan error, 1)
	sent, err := s.conn.Write(b, func(err error) { done <- err })
	if err == nil && !sent {
		err = <-done
	}
	return err
}

// serve takes the stanzas of a bound session, RFC 6120 §8.
func (s *session) serve(ctx context.Context) error {
	for {
		var err error
		s.event = stream.Event{} // nothing is held while waiting
		if s.event, err = s.conn.Read(s.idle); err != nil {
			return err
		}
		switch s.event.Kind {
		case stream.Closed:
			return nil
		case stream.Opened:
			return stream.Err(stream.NotAuthorized, "no stream restart is due") // RFC 6120 §4.3.3
		}
		if err = s.receive(ctx, &s.event); err != nil {
			return err
		}
	}
}

// slowDown makes a flood wait where it comes in: this reader sleeps, others are
// not touched.
func (s *session) slowDown(l *rate.Limiter, amount int) {
	for l != nil && amount > 0 {
		n := min(amount, l.Burst())
		if wait := l.ReserveN(time.Now(), n).Delay(); wait > 0 {
			s.turn.Flush()
			s.svc.pause(wait)
			s.peer.Touch(time.Now()) // it is we who are silent
		}
		amount -= n
	}
}

// errPeer says that the peer has found an error in our stream. We close it, and
// have none of our own to tell (RFC 6120 §4.9.1.1).
var errPeer = errors.New("c2s: the peer sent a stream error")

// receive takes one element. An error ends the stream.
func (s *session) receive(ctx context.Context, ev *stream.Event) error {
	s.peer.Touch(time.Now())
	s.slowDown(s.limit, ev.Index.Len)
	s.slowDown(s.pace, 1)
	kind := stanza.KindOf(ev.Index.Local.Bytes(ev.Raw))
	if space := ev.Space(); kind == 0 || space != stanza.NSClient {
		switch {
		case kind != 0 && space == stanza.NSServer:
			return stream.Err(stream.InvalidNamespace, "") // RFC 6120 §4.9.3.10
		case ev.Is(stream.NSStream, "error"):
			return errPeer
		case space == nsManage:
			return s.manage(ev)
		}
		if f := s.svc.modules.NonzaFor(space, string(ev.Index.Local.Bytes(ev.Raw))); f != nil {
			return f(ctx, s.peer, &s.turn, ev.Tree())
		}
		return stream.Err(stream.UnsupportedStanzaType, "") // RFC 6120 §4.9.3.24
	}
	s.svc.Stats.Stanzas.Add(1)
	st, err := stanza.Parse(kind, ev.Raw, ev.Index)
	// RFC 6120 §8.1.2.1: 'from' is the bare or full JID of the session, or absent.
	if from, given := attr(ev, "from"); given && st.From != s.peer.JID && st.From != s.account {
		return &stream.Error{Condition: stream.InvalidFrom, Cause: errors.New("from " + from)}
	}
	st.From = s.peer.JID
	if st.Lang == "" {
		st.Lang = s.lang // RFC 6120 §8.1.5
	}
	var rc *router.Receipt
	if s.managed != nil && kind == stanza.Message && !s.opts.AckEarly {
		rc = s.managed.arrive()
		defer rc.Release(nil)
	}
	if err == nil {
		err = check(st)
	}
	if err == nil {
		err = s.route(ctx, st, rc)
	}
	if err != nil {
		err = s.answer(st, err)
	}
	if s.managed != nil && rc == nil {
		s.managed.arrived()
	}
	return err
}

// attr returns an attribute of the start tag as written.
func attr(ev *stream.Event, name string) (string, bool) {
	for i := range ev.Index.Attrs {
		if a := &ev.Index.Attrs[i]; string(a.Name.Bytes(ev.Raw)) == name {
			return string(a.Value.Bytes(ev.Raw)), true
		}
	}
	return "", false
}

// check holds a stanza against RFC 6120 §8.2.3 and RFC 6121 §4.7.1.
func check(st *stanza.Stanza) error {
	switch st.Kind {
	case stanza.IQ:
		switch {
		case st.ID == "":
			return stanza.Err(stanza.BadRequest, "an iq has an id")
		case st.Type == stanza.Get || st.Type == stanza.Set:
			if st.Len() != 1 {
				return stanza.Err(stanza.BadRequest, "an iq request has exactly one child element")
			}
		case st.Type != stanza.Result && st.Type != stanza.TypeError:
			return stanza.Err(stanza.BadRequest, "an iq is get, set, result or error")
		}
	case stanza.Presence:
		switch st.Type {
		case "", stanza.Unavailable, stanza.Subscribe, stanza.Subscribed, stanza.Unsubscribe,
			stanza.Unsubscribed, stanza.Probe, stanza.TypeError:
		default:
			return stanza.Err(stanza.BadRequest, "unknown type of presence")
		}
	}
	return nil
}

// route brings a checked stanza on its way.
func (s *session) route(ctx context.Context, st *stanza.Stanza, rc *router.Receipt) error {
	p := &s.packet
	*p = router.Packet{Stanza: st, Session: s.peer, Turn: &s.turn, Receipt: rc, Targets: p.Targets[:0]}
	defer p.Forget()
	if st.To.IsZero() {
		if st.Kind == stanza.Presence {
			if st.Type != "" && st.Type != stanza.Unavailable {
				return stanza.Err(stanza.BadRequest, "this type of presence needs a recipient")
			}
			return handled(s.svc.modules.Announce(ctx, p))
		}
		// RFC 6120 §10.3.1, §10.3.3: without 'to' it is for the account itself.
		st.To = s.account
	}
	if err := s.svc.modules.Out(ctx, p); err != nil {
		return handled(err)
	}
	return s.svc.router.Route(ctx, p)
}

func handled(err error) error {
	if err == module.ErrHandled {
		return nil
	}
	return err
}

// answer turns what went wrong with a stanza into what the peer is told.
func (s *session) answer(st *stanza.Stanza, err error) error {
	var stanzaErr *stanza.Error
	var streamErr *stream.Error
	switch {
	case errors.As(err, &streamErr):
		return streamErr
	case errors.As(err, &stanzaErr):
	case errors.Is(err, context.Canceled):
		return err
	default:
		s.svc.log.Error("handling a stanza failed", "jid", s.name(), "kind", st.Kind.String(), "id", st.ID, "err", err)
		stanzaErr = stanza.Internal()
	}
	if reply := st.ErrorReply(stanzaErr); reply != nil {
		s.peer.Deliver(&s.turn, reply, nil)
	}
	return nil
}
