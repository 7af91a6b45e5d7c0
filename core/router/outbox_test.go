package router

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"trivium/core/stanza"
	"trivium/core/stream"
)

// All that several goroutines send arrives, what one sends in its order, and every
// receipt is released once, over a connection that is now and then full.
func TestOutboxLosesNothing(t *testing.T) {
	const senders, each = 8, 400
	w := newWorld(t)
	juliet := w.bind("juliet@example.org/balcony", 0)
	stop := make(chan struct{})
	var pump sync.WaitGroup
	pump.Go(func() {
		for hold := true; ; hold = !hold {
			select {
			case <-stop:
				juliet.conn.set(false, nil)
				juliet.conn.release(nil)
				return
			default:
				juliet.conn.set(hold, nil)
				juliet.conn.release(nil)
			}
		}
	})
	var released atomic.Int64
	var safe, wg sync.WaitGroup
	for n := range senders {
		safe.Add(each)
		wg.Go(func() {
			var turn Turn
			for i := range each {
				rc := NewReceipt(func(err error) {
					if err != nil {
						t.Error(err)
					}
					released.Add(1)
					safe.Done()
				})
				if err := w.Send(t.Context(), &turn, message("chat", "juliet@example.org/balcony", fmt.Sprintf("%d.%d", n, i)), rc); err != nil {
					t.Error(err)
				}
				rc.Release(nil)
				if i%(n+1) == 0 {
					turn.Flush()
				}
			}
			turn.Flush()
		})
	}
	wg.Wait()
	safe.Wait() // while the connection goes on taking and sending
	close(stop)
	pump.Wait()
	if n := released.Load(); n != senders*each {
		t.Errorf("%d receipts were released", n)
	}
	if juliet.conn.over {
		t.Error("a Write began before the one before was over")
	}
	next := map[string]int{}
	for _, id := range strings.Fields(ids(juliet.conn.elements())) {
		sender, i, _ := strings.Cut(id, ".")
		if i != fmt.Sprint(next[sender]) {
			t.Fatalf("%s came when %d was due", id, next[sender])
		}
		next[sender]++
	}
	for sender, n := range next {
		if n != each {
			t.Errorf("%d of sender %s", n, sender)
		}
	}
	if len(next) != senders || len(juliet.kicked()) != 0 {
		t.Errorf("%d senders, kicks %v", len(next), juliet.kicked())
	}
}

func TestOutboxCoalesces(t *testing.T) {
	w := newWorld(t)
	juliet := w.bind("juliet@example.org/balcony", 0)
	var turn Turn
	for i := range 100 {
		_ = w.Send(t.Context(), &turn, message("chat", "juliet@example.org/balcony", fmt.Sprint(i)), nil)
	}
	if n := juliet.conn.writes(); n != 0 {
		t.Fatalf("%d writes before the flush", n)
	}
	juliet.conn.set(true, nil)
	turn.Flush()
	turn.Flush()
	if n := juliet.conn.writes(); n != 1 {
		t.Fatalf("%d writes, want 1", n)
	}
	for i := range 100 { // while the first is on its way
		if err := w.send(message("chat", "juliet@example.org/balcony", fmt.Sprint(100+i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	juliet.Write(&turn, stanza.El("urn:x", "not-a-stanza"))
	turn.Flush()
	juliet.conn.set(false, nil)
	juliet.conn.release(nil)
	if n := juliet.conn.writes(); n != 2 {
		t.Errorf("%d writes, want 2", n)
	}
	got := juliet.conn.elements()
	if len(got) != 201 || got[200] != "<not-a-stanza xmlns='urn:x'/>" {
		t.Errorf("%d elements", len(got))
	}
}

// A turn over many outboxes flushes before it has collected too many.
func TestTurnMax(t *testing.T) {
	w := newWorld(t)
	var all []*peer
	for i := range turnMax + 10 {
		all = append(all, w.bind(fmt.Sprintf("user%d@example.org/x", i), 0))
	}
	count := func() (n int) {
		for _, p := range all {
			n += p.conn.writes()
		}
		return n
	}
	var turn Turn
	for i, p := range all {
		p.Deliver(&turn, message("chat", p.JID.String(), "1"), nil)
		p.Deliver(&turn, message("chat", p.JID.String(), "2"), nil)
		if want := (i / turnMax) * turnMax; count() != want {
			t.Fatalf("%d writes behind %d outboxes, want %d", count(), i+1, want)
		}
	}
	turn.Flush()
	if count() != len(all) || len(turn.dirty) != 0 {
		t.Errorf("%d writes, want %d", count(), len(all))
	}
}

func TestOverflow(t *testing.T) {
	w := newWorld(t)
	juliet := &peer{conn: &conn{hold: true}}
	b := w.binding("juliet@example.org/balcony", juliet)
	b.OutboxLimit = 2000
	var err error
	if juliet.Session, err = w.Bind(b); err != nil {
		t.Fatal(err)
	}
	juliet.SetPresence(&Presence{})
	told := 0
	sent := 0
	for sent = 0; len(juliet.kicked()) == 0; sent++ {
		if sent > 100 {
			t.Fatal("the outbox has no limit")
		}
		rc := NewReceipt(func(error) { told++ })
		if err := w.send(message("chat", "juliet@example.org/balcony", fmt.Sprint(sent)), rc); err != nil {
			t.Fatal(err)
		}
		rc.Release(nil)
	}
	if k := juliet.kicked(); len(k) != 1 || k[0].Condition != stream.ResourceConstraint { // RFC 6120 §4.9.3.17
		t.Errorf("kicked with %v", k)
	}
	for range 10 {
		var turn Turn
		if juliet.Deliver(&turn, message("chat", "juliet@example.org", "x"), nil) || juliet.Write(&turn, stanza.El("urn:x", "y")) {
			t.Error("a lost session takes more")
		}
	}
	juliet.conn.release(net.ErrClosed)
	juliet.Drop()
	if k := juliet.kicked(); len(k) != 1 {
		t.Errorf("kicked again: %v", k)
	}
	if len(w.stored) != sent || told != sent {
		t.Errorf("%d sent, %d stored, %d receipts told", sent, len(w.stored), told)
	}
}

// What a lost session did not get goes where it would have gone without it.
func TestRescue(t *testing.T) {
	const full, bare = "juliet@example.org/lost", "juliet@example.org"
	for _, tt := range []struct {
		name       string
		lose       string // how: "write", "done", "drop", "closed"
		typ, to    string
		other      int8 // the priority of another session
		want       string
		stored     string
		told       string // what the sender is answered
		refuse     error
		receiptErr bool
		kicked     bool
	}{
		{name: "another session, failed write", lose: "write", typ: "chat", to: full, other: 0, want: "1", kicked: true},
		{name: "another session, failed later", lose: "done", typ: "chat", to: full, other: 0, want: "1", kicked: true},
		{name: "another session, dropped", lose: "drop", typ: "", to: full, other: 0, want: "1"},
		{name: "ended by us", lose: "closed", typ: "chat", to: full, other: 0, want: "1"},
		{name: "to the account", lose: "drop", typ: "chat", to: bare, other: -1, stored: "1"},
		{name: "nobody else", lose: "done", typ: "chat", to: full, other: off, stored: "1", kicked: true},
		{name: "a headline", lose: "drop", typ: "headline", to: full, other: 0},
		{name: "groupchat", lose: "drop", typ: "groupchat", to: full, other: 0},
		{name: "an error", lose: "drop", typ: "error", to: full, other: 0},
		{name: "the other session has it", lose: "drop", typ: "chat", to: bare, other: 5, want: "1"},
		{
			name: "nobody wants it", lose: "drop", typ: "chat", to: full, other: off, receiptErr: true,
			refuse: &stanza.Error{Condition: stanza.ServiceUnavailable}, told: "<service-unavailable ",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.refuse = tt.refuse
			lost := w.bind(full, 5)
			other := w.bind("juliet@example.org/other", tt.other)
			lost.conn.set(true, nil)
			switch tt.lose {
			case "write":
				lost.conn.set(false, io.ErrClosedPipe)
			case "closed":
				lost.conn.set(false, net.ErrClosed)
			}
			told := make(chan error, 2)
			rc := NewReceipt(func(err error) { told <- err })
			if err := w.send(message(tt.typ, tt.to, "1"), rc); err != nil {
				t.Fatal(err)
			}
			rc.Release(nil)
			switch tt.lose {
			case "done":
				if len(told) != 0 {
					t.Error("the receipt was released before the message had left")
				}
				lost.conn.release(io.ErrClosedPipe)
			case "drop":
				lost.Drop()
			}
			lost.Drop()
			if err := <-told; (err != nil) != tt.receiptErr {
				t.Errorf("the receipt says %v", err)
			}
			if len(told) != 0 {
				t.Error("the receipt was released twice")
			}
			if got := ids(other.conn.elements()); got != tt.want {
				t.Errorf("the other session got %q, want %q", got, tt.want)
			}
			if got := strings.Join(w.stored, " "); got != tt.stored {
				t.Errorf("stored %q, want %q", got, tt.stored)
			}
			if got := strings.Join(w.told, ""); (got == "") != (tt.told == "") || !strings.Contains(got, tt.told) {
				t.Errorf("the sender got %q", got)
			}
			if got := len(lost.kicked()) > 0; got != tt.kicked {
				t.Errorf("kicked: %v", lost.kicked())
			}
		})
	}
}

// A message to an account lies in the outboxes of three sessions. However they
// end, it arrives or is stored, and nobody gets it twice.
func TestRescueOfSharedMessages(t *testing.T) {
	names := []string{"a", "b", "c"}
	for landed := range 1 << len(names) {
		t.Run(fmt.Sprintf("%03b", landed), func(t *testing.T) {
			w := newWorld(t)
			var all []*peer
			for _, n := range names {
				p := w.bind("juliet@example.org/"+n, 1)
				p.conn.set(true, nil)
				all = append(all, p)
			}
			told := make(chan error, 2)
			rc := NewReceipt(func(err error) { told <- err })
			if err := w.send(message("chat", "juliet@example.org", "1"), rc); err != nil {
				t.Fatal(err)
			}
			rc.Release(nil)
			for i, p := range all {
				if landed>>i&1 == 1 {
					p.conn.release(nil)
				} else {
					w.Unbind(p.Session)
					p.conn.mu.Lock()
					p.conn.batches = nil // never left
					p.conn.mu.Unlock()
					p.conn.release(io.ErrClosedPipe)
				}
			}
			if err := <-told; err != nil || len(told) != 0 {
				t.Errorf("the receipt says %v", err)
			}
			for i, p := range all {
				if got := ids(p.conn.elements()); (got == "1") != (landed>>i&1 == 1) || strings.Contains(got, " ") {
					t.Errorf("%s got %q", names[i], got)
				}
			}
			if (len(w.stored) == 1) != (landed == 0) {
				t.Errorf("stored %v", w.stored)
			}
		})
	}
}

// A copy, such as a carbon, is nobody's loss.
func TestCopiesAreNotRescued(t *testing.T) {
	w := newWorld(t)
	lost, other := w.bind("juliet@example.org/lost", 0), w.bind("juliet@example.org/other", 0)
	lost.conn.set(true, nil)
	var turn Turn
	lost.DeliverTo(&turn, message("chat", "juliet@example.org", "copy"), lost.JID, nil)
	turn.Flush()
	if got := lost.conn.elements(); len(got) != 1 || !strings.Contains(got[0], " to='juliet@example.org/lost'") {
		t.Errorf("got %q", got)
	}
	lost.Drop()
	if got := other.conn.elements(); len(got) != 0 || len(w.stored) != 0 {
		t.Errorf("the copy went to %q, %v", got, w.stored)
	}
}

// done may come before Write has returned.
func TestDoneBeforeWriteReturns(t *testing.T) {
	w := newWorld(t)
	q := &quick{}
	p := &peer{}
	b := w.binding("juliet@example.org/balcony", p)
	b.Conn = q
	s, err := w.Bind(b)
	if err != nil {
		t.Fatal(err)
	}
	var safe sync.WaitGroup
	var turn Turn
	for i := range 500 {
		safe.Add(1)
		rc := NewReceipt(func(error) { safe.Done() })
		s.Deliver(&turn, message("chat", s.JID.String(), fmt.Sprint(i)), rc)
		rc.Release(nil)
		turn.Flush()
	}
	safe.Wait()
	q.wg.Wait()
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprint(i))
	}
	if got := strings.Fields(ids(q.elements())); !slices.Equal(got, want) {
		t.Errorf("got %d messages, or in another order", len(got))
	}
}

// quick is a connection that calls done on another goroutine at once.
type quick struct {
	conn
	wg sync.WaitGroup
}

func (q *quick) Write(b stream.Batch, done func(error)) (bool, error) {
	_, _ = q.conn.Write(b, nil)
	q.wg.Go(func() { done(nil) })
	return false, nil
}

// discard is a connection that costs nothing.
type discard struct{ conn }

func (*discard) Write(stream.Batch, func(error)) (bool, error) { return true, nil }

// pair binds two sessions and returns a message between them.
func pair(w *world, n int) *Packet {
	var s [2]*Session
	for i, name := range []string{"romeo", "juliet"} {
		b := w.binding(fmt.Sprintf("%s%d@example.org/x", name, n), &peer{})
		b.Conn = &discard{}
		var err error
		if s[i], err = w.Bind(b); err != nil {
			w.t.Fatal(err)
		}
		s[i].SetPresence(&Presence{})
	}
	st := message("chat", s[1].JID.String(), "1")
	st.From = s[0].JID
	return &Packet{Stanza: st, Session: s[0], Turn: new(Turn)}
}

func TestRoutingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget; make test counts without it too")
	}
	w := newWorld(t)
	p := pair(w, 0)
	st := p.Stanza
	for _, to := range []string{st.To.String(), st.To.Bare().String()} {
		made := message("chat", to, "1")
		if n := testing.AllocsPerRun(1000, func() {
			p.Stanza = made
			if err := w.Route(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			p.Turn.Flush()
			p.Targets = p.Targets[:0]
		}); n != 0 {
			t.Errorf("to %s: %v allocs, want 0", to, n)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	w := newWorld(b)
	p := pair(w, 0)
	st := p.Stanza
	b.ReportAllocs()
	for b.Loop() {
		p.Stanza = st
		_ = w.Route(b.Context(), p)
		p.Turn.Flush()
		p.Targets = p.Targets[:0]
	}
}

func BenchmarkRouteParallel(b *testing.B) {
	w := newWorld(b)
	var n atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		p := pair(w, int(n.Add(1)))
		st := p.Stanza
		for pb.Next() {
			p.Stanza = st
			_ = w.Route(b.Context(), p)
			p.Turn.Flush()
			p.Targets = p.Targets[:0]
		}
	})
}

// Many sessions in one account: a headline to all.
func BenchmarkFanOut(b *testing.B) {
	w := newWorld(b)
	for i := range 20 {
		bd := w.binding(fmt.Sprintf("juliet@example.org/%d", i), &peer{})
		bd.Conn = &discard{}
		s, err := w.Bind(bd)
		if err != nil {
			b.Fatal(err)
		}
		s.SetPresence(&Presence{})
	}
	st := message(stanza.Headline, "juliet@example.org", "1")
	p := &Packet{Turn: new(Turn)}
	b.ReportAllocs()
	for b.Loop() {
		p.Stanza = st
		_ = w.Route(b.Context(), p)
		p.Turn.Flush()
		p.Targets = p.Targets[:0]
	}
}
