package c2s

import (
	"context"
	"strconv"
	"sync"
	"time"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// NSManage is the namespace of stream management (XEP-0198 §12).
const NSManage = "urn:xmpp:sm:3"

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
	handled  uint32        // 'h': those of them that are safe, with all before them
	first    *arrival      // the first that is not
	last     *arrival      // the last one
	calm     chan struct{} // closed when there are none; nil while nobody waits for that
	asked    []uint32      // what received was when an <r/> came that has no answer yet
	due      bool          // the service is about to answer
}

// arrival is one stanza of the peer that is not safe yet. However long it takes, and
// whatever the peer sends meanwhile, what is safe behind it is only counted.
type arrival struct {
	rc router.Receipt
	m  *managed
	fn func(error) // done, made once

	// These are guarded by m.mu.
	prev, next *arrival
	behind     uint32 // safe ones between this and next
	stray      bool   // the peer will send it again: it does not count any more
}

var arrivals sync.Pool // of *arrival

// arrive counts a message and returns its receipt, which the caller holds.
func (m *managed) arrive() *router.Receipt {
	a, _ := arrivals.Get().(*arrival)
	if a == nil {
		a = new(arrival)
		a.fn = a.done
	}
	a.m = m
	a.rc.Start(a.fn)
	m.mu.Lock()
	m.received++
	if a.prev = m.last; a.prev == nil {
		m.first = a
	} else {
		a.prev.next = a
	}
	m.last = a
	m.mu.Unlock()
	return &a.rc
}

// arrived counts a stanza that is nobody's loss, when it has been handled.
func (m *managed) arrived() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received++
	if m.last == nil {
		m.handled++
	} else {
		m.last.behind++
	}
}

// done is told that the message is safe, or that its sender has been told that it
// could not be delivered.
func (a *arrival) done(error) {
	m := a.m
	m.mu.Lock()
	if a.stray {
		m.mu.Unlock()
		return
	}
	if n := a.behind + 1; a.prev == nil {
		m.handled += n
		m.first = a.next
	} else {
		a.prev.behind += n
		a.prev.next = a.next
	}
	if a.next == nil {
		m.last = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.m, a.prev, a.next, a.behind = nil, nil, nil, 0
	arrivals.Put(a)
	if m.first == nil && m.calm != nil {
		close(m.calm)
		m.calm = nil
	}
	answer := len(m.asked) > 0 && int32(m.handled-m.asked[0]) >= 0 && !m.due
	m.due = m.due || answer
	m.mu.Unlock()
	if answer {
		m.svc.owe(m)
	}
}

// askedMax is how many <r/> are remembered; one answer does for the others.
const askedMax = 32

// answer takes <r/> (XEP-0198 §4): the <a/> is due when all that came before is
// safe.
func (m *managed) answer(t *router.Turn) {
	m.mu.Lock()
	if m.handled != m.received {
		switch n := len(m.asked); {
		case n < askedMax:
			m.asked = append(m.asked, m.received)
		default:
			m.asked[n-1] = m.received
		}
		if len(m.asked) == 1 {
			m.since = time.Now()
		}
		m.mu.Unlock()
		return
	}
	h := m.handled
	m.mu.Unlock()
	m.peer.Write(t, ack(h))
}

// pay writes the <a/> that is due.
func (m *managed) pay(t *router.Turn) {
	m.mu.Lock()
	h := m.handled
	n := 0
	for n < len(m.asked) && int32(h-m.asked[n]) >= 0 {
		n++
	}
	m.asked = append(m.asked[:0], m.asked[n:]...)
	m.due = false
	m.mu.Unlock()
	m.peer.Write(t, ack(h))
}

// ack is <a/>.
type ack uint32

func (h ack) AppendXML(dst []byte) []byte {
	dst = append(dst, "<a xmlns='"+NSManage+"' h='"...)
	dst = strconv.AppendUint(dst, uint64(h), 10)
	return append(dst, "'/>"...)
}

// failed is the answer to <enable/> and <resume/> that do not work (XEP-0198 §6).
func failed(condition string) *stanza.Element {
	return stanza.El(NSManage, "failed", stanza.El(stanza.NSStanzas, condition))
}

// manage takes what a client sends of stream management on a bound stream.
func (s *session) manage(ev *stream.Event) error {
	switch local := string(ev.Index.Local.Bytes(ev.Raw)); {
	case local == "enable" && s.managed != nil:
		// XEP-0198 §3: a second attempt ends the stream.
		return stream.Err(stream.PolicyViolation, "stream management is enabled already")
	case local == "enable":
		m := s.newManaged(ev.Tree())
		s.peer.Manage(&s.turn, s.opts.Unacked, m.enabled())
		return nil
	case local == "resume":
		s.peer.Write(&s.turn, failed("unexpected-request")) // XEP-0198 §5: a resource is bound
		return nil
	case s.managed == nil:
		return stream.Err(stream.UnsupportedStanzaType, "stream management is not enabled")
	case local == "r":
		s.managed.answer(&s.turn)
		return nil
	case local == "a":
		h, ok := counter(ev)
		if !ok {
			return stream.Err(stream.BadFormat, "'h' is a number")
		}
		return s.acknowledge(h)
	}
	return stream.Err(stream.UnsupportedStanzaType, "")
}

// acknowledge takes the peer's 'h'.
func (s *session) acknowledge(h uint32) error {
	var sent uint32
	var ok bool
	s.svc.pay(&s.turn, func() { sent, ok = s.peer.Acknowledge(h) })
	if ok {
		return nil
	}
	// XEP-0198 §6
	return &stream.Error{
		Condition: stream.UndefinedCondition,
		Text:      "You acknowledged " + strconv.FormatUint(uint64(h), 10) + " stanzas, but I only sent you " + strconv.FormatUint(uint64(sent), 10) + " so far.",
		App: stanza.El(NSManage, "handled-count-too-high").
			Set("h", strconv.FormatUint(uint64(h), 10)).Set("send-count", strconv.FormatUint(uint64(sent), 10)).String(),
	}
}

// counter reads the attribute 'h'.
func counter(ev *stream.Event) (uint32, bool) {
	text, ok := attr(ev, "h")
	h, err := strconv.ParseUint(text, 10, 32)
	return uint32(h), ok && err == nil
}

// newManaged makes the session one with stream management.
func (s *session) newManaged(enable *stanza.Element) *managed {
	m := &managed{svc: s.svc, peer: s.peer, owner: s, id: newID(16)}
	if r := enable.Attr("resume"); r == "true" || r == "1" {
		m.max = max(s.opts.Resume, 0)
		if wish, err := strconv.ParseUint(enable.Attr("max"), 10, 31); err == nil && wish > 0 {
			m.max = min(m.max, time.Duration(wish)*time.Second)
		}
	}
	s.svc.keep(m)
	s.peer.OnKick(m.kick)
	s.managed = m
	return m
}

// enabled is the answer to <enable/>.
func (m *managed) enabled() stanza.Payload {
	el := stanza.El(NSManage, "enabled")
	if m.max > 0 {
		el.Set("id", m.id).Set("resume", "true").Set("max", strconv.Itoa(int(m.max/time.Second)))
	}
	return el
}

// enable takes <enable/> inside of Bind 2's <bind/> and returns what goes into
// <bound/> (XEP-0198 §8). The session has been bound with Binding.Manage, so that
// all that comes behind <success/> is counted.
func (s *session) enable(el *stanza.Element) stanza.Payload { return s.newManaged(el).enabled() }

// resume takes <resume/> of an authenticated stream that is not bound (XEP-0198
// §5). With ok the stream now belongs to the former session; reply is to be sent
// first, and then resumed is to be called. Otherwise reply is the <failed/> to
// send.
func (s *session) resume(_ context.Context, el *stanza.Element) (reply stanza.Payload, ok bool) {
	id := el.Attr("previd")
	h, err := strconv.ParseUint(el.Attr("h"), 10, 32)
	if err != nil || id == "" {
		return failed("bad-request"), false
	}
	m, last, known := s.svc.resumable(id, s.account)
	if m == nil {
		s.svc.Stats.ResumesBad.Add(1)
		el := failed("item-not-found")
		if known {
			el.Set("h", strconv.FormatUint(uint64(last), 10))
		}
		return el, false
	}
	if !m.claim(s) {
		return failed("item-not-found"), false
	}
	s.svc.Stats.Resumes.Add(1)
	s.peer, s.managed, s.login = m.peer, m, nil
	s.resumeFrom = uint32(h)
	in := m.settle()
	return stanza.El(NSManage, "resumed").Set("previd", id).Set("h", strconv.FormatUint(uint64(in), 10)), true
}

// settle waits until what has been received is safe, so that the peer need not send
// it again, and returns 'h'. What takes too long is left to the peer: it comes
// twice, rather than not at all.
func (m *managed) settle() uint32 {
	m.mu.Lock()
	if m.first == nil {
		defer m.mu.Unlock()
		return m.handled
	}
	calm := make(chan struct{})
	m.calm = calm
	m.mu.Unlock()
	t := time.NewTimer(answerMax)
	defer t.Stop()
	select {
	case <-calm:
	case <-t.C:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for a := m.first; a != nil; a = a.next {
		a.stray = true
	}
	m.first, m.last, m.calm = nil, nil, nil
	m.received = m.handled
	return m.handled
}

// resumed sends what the peer has not acknowledged, and goes on. An error ends the
// stream.
func (s *session) resumed() error {
	s.restrain()
	s.peer.Touch(time.Now())
	s.svc.settle(s)
	if err := s.acknowledge(s.resumeFrom); err != nil {
		return err
	}
	if !s.peer.Attach(s.conn, s.managed.kick) {
		return stream.Err(stream.ResourceConstraint, "the session has ended meanwhile")
	}
	return nil
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
	m.svc.lapse(m)
	m.svc.router.Unbind(m.peer)
	m.svc.modules.SessionUnbound(context.Background(), &t, m.peer)
	t.Flush()
	m.peer.Drop()
}

// registry has the sessions with stream management, and what is left of those that
// can no longer be resumed.
type registry struct {
	mu     sync.Mutex
	live   map[string]*managed // by SM-ID
	lapsed map[string]lapse
}

// lapse is what is remembered of a session that has expired (XEP-0198 §5).
type lapse struct {
	account jid.JID
	handled uint32
	until   time.Time
}

// Bounds of what is remembered.
const (
	lapseMax  = 10_000
	lapseTime = 24 * time.Hour
)

// keep makes a session known.
func (svc *Service) keep(m *managed) {
	r := &svc.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		r.live, r.lapsed = map[string]*managed{}, map[string]lapse{}
	}
	r.live[m.id] = m
}

// lapse makes a session that is over one that was.
func (svc *Service) lapse(m *managed) {
	m.mu.Lock()
	l := lapse{m.peer.Account.Bare, m.handled, time.Now().Add(lapseTime)}
	m.mu.Unlock()
	r := &svc.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, m.id)
	if m.max > 0 && len(r.lapsed) < lapseMax {
		r.lapsed[m.id] = l
	}
}

// resumable finds a session of the account, or what its 'h' was at the end.
func (svc *Service) resumable(id string, account jid.JID) (m *managed, handled uint32, known bool) {
	r := &svc.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.live[id]; m != nil && m.max > 0 && m.peer.Account.Bare == account {
		return m, 0, true
	}
	l, ok := r.lapsed[id]
	return nil, l.handled, ok && l.account == account
}

// answerMax is how long an <r/> may go without an answer: then it is told what is
// safe so far.
const answerMax = 5 * time.Second

// sweep ends sessions that have waited too long for their peers, and answers
// those that have.
func (svc *Service) sweep(now time.Time) {
	r := &svc.registry
	var late, slow []*managed
	r.mu.Lock()
	for _, m := range r.live {
		m.mu.Lock()
		switch {
		case m.owner == nil && now.Sub(m.since) > m.max:
			late = append(late, m)
		case m.owner != nil && len(m.asked) > 0 && !m.due && now.Sub(m.since) > answerMax:
			m.asked, m.due = m.asked[:0], true
			slow = append(slow, m)
		}
		m.mu.Unlock()
	}
	for id, l := range r.lapsed {
		if now.After(l.until) {
			delete(r.lapsed, id)
		}
	}
	r.mu.Unlock()
	for _, m := range late {
		m.expire()
	}
	for _, m := range slow {
		svc.owe(m)
	}
}

// expireAll ends every session that waits for its peer.
func (svc *Service) expireAll() {
	r := &svc.registry
	r.mu.Lock()
	all := make([]*managed, 0, len(r.live))
	for _, m := range r.live {
		all = append(all, m)
	}
	r.mu.Unlock()
	for _, m := range all {
		m.expire()
	}
}

// debts are the sessions whose peers are owed an <a/>.
type debts struct {
	mu     sync.Mutex
	list   []*managed
	payers int // goroutines that will look at list
}

// owe has an <a/> written soon. Whoever makes a message safe does not write to
// others, unless it is a session's goroutine, which says so with pay.
func (svc *Service) owe(m *managed) {
	d := &svc.debts
	d.mu.Lock()
	d.list = append(d.list, m)
	start := d.payers == 0
	if start {
		d.payers++
	}
	d.mu.Unlock()
	if start {
		go svc.payAll()
	}
}

// payAll writes what is owed until nothing is.
func (svc *Service) payAll() {
	var t router.Turn
	for svc.payDebts(&t) {
		t.Flush()
	}
}

// pay runs f, which may make messages of others safe, and appends what their peers
// are then owed to the caller's turn: it goes out with what else there is for them.
func (svc *Service) pay(t *router.Turn, f func()) {
	d := &svc.debts
	d.mu.Lock()
	d.payers++
	d.mu.Unlock()
	f()
	for svc.payDebts(t) {
	}
}

// payDebts pays those who are owed now. It reports false when there was nobody; the
// caller is then no payer any more.
func (svc *Service) payDebts(t *router.Turn) bool {
	d := &svc.debts
	d.mu.Lock()
	list := d.list
	d.list = nil
	if len(list) == 0 {
		d.payers--
	}
	d.mu.Unlock()
	for _, m := range list {
		m.pay(t)
	}
	return len(list) > 0
}
