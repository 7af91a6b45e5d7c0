package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// shelf is what keeps messages for sessions.
type shelf struct {
	mu   sync.Mutex
	rows map[string]*row
	auto bool // rows are safe at once
	none bool // nothing is to be kept
}

type row struct {
	shelf *shelf
	id    string
	safe  func(error)
	fate  string
}

func (s *shelf) park(_ jid.JID, st *stanza.Stanza, safe func(error)) Parked {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.none {
		return nil
	}
	r := &row{shelf: s, id: st.ID, safe: safe}
	if s.rows == nil {
		s.rows = map[string]*row{}
	}
	s.rows[st.ID] = r
	if s.auto {
		safe(nil)
	}
	return r
}

func (r *row) end(fate string) {
	r.shelf.mu.Lock()
	defer r.shelf.mu.Unlock()
	if r.fate != "" {
		panic("a parked message has two fates")
	}
	r.fate = fate
}

func (r *row) Drop()   { r.end("dropped") }
func (r *row) Return() { r.end("returned") }

// state tells what became of the rows, in the order of their ids.
func (s *shelf) state() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for id, r := range s.rows {
		out = append(out, strings.TrimSuffix(id+":"+r.fate, ":"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

type element string

func (e element) AppendXML(dst []byte) []byte { return append(dst, e...) }

// manage begins stream management for a session.
func manage(s *Session) {
	var t Turn
	s.Manage(&t, 100, element("<enabled/>"))
	t.Flush()
}

func withShelf(w *world, s *shelf) {
	h := w.hooks
	h.Park = s.park
	w.SetHooks(h)
}

func deliver(s *Session, rc *Receipt, ids ...string) {
	var t Turn
	for _, id := range ids {
		s.Deliver(&t, message("chat", s.JID.String(), id), rc)
	}
	t.Flush()
}

// XEP-0198 §4: what is sent behind <enabled/> is counted, and kept until the peer
// says that it has handled it.
func TestAcknowledge(t *testing.T) {
	w := newWorld(t)
	juliet := w.bind("juliet@example.org/balcony", 0)
	deliver(juliet.Session, nil, "before")
	manage(juliet.Session)
	var safe []string
	for i := range 5 {
		id := fmt.Sprint(i)
		rc := NewReceipt(func(error) { safe = append(safe, id) })
		deliver(juliet.Session, rc, id)
		rc.Release(nil)
	}
	var turn Turn
	juliet.Write(&turn, element("<r/>"))
	for _, c := range []struct {
		h    uint32
		ok   bool
		safe string
		left int
	}{
		{0, true, "", 5}, {2, true, "0 1", 3}, {2, true, "0 1", 3}, {6, false, "0 1", 3}, {1, false, "0 1", 3}, {5, true, "0 1 2 3 4", 0},
	} {
		sent, ok := juliet.Acknowledge(c.h)
		if ok != c.ok || sent != 5 {
			t.Errorf("Acknowledge(%d) = %d, %v", c.h, sent, ok)
		}
		if got := strings.Join(safe, " "); got != c.safe {
			t.Errorf("after %d safe are %q, want %q", c.h, got, c.safe)
		}
		if st := juliet.State(); st.Unacked != c.left || !st.Managed {
			t.Errorf("after %d: %+v", c.h, st)
		}
	}
	turn.Flush()
}

// The count goes on from 2^32-1 with 0 (XEP-0198 §4).
func TestCountWraps(t *testing.T) {
	w := newWorld(t)
	juliet := w.bind("juliet@example.org/balcony", 0)
	manage(juliet.Session)
	juliet.out.ledger.first = 1<<32 - 2
	deliver(juliet.Session, nil, "1", "2", "3", "4")
	if sent, ok := juliet.Acknowledge(1); !ok || sent != 2 {
		t.Errorf("%d, %v", sent, ok)
	}
	if n := juliet.State().Unacked; n != 1 {
		t.Errorf("%d wait", n)
	}
}

// XEP-0198 §5: over another connection exactly what was not acknowledged is sent
// again, in order, and what came meanwhile behind it, with the time (XEP-0203).
func TestAttach(t *testing.T) {
	w := newWorld(t)
	s := &shelf{auto: true}
	withShelf(w, s)
	juliet := w.bind("juliet@example.org/balcony", 0)
	manage(juliet.Session)
	deliver(juliet.Session, nil, "1", "2", "3")
	juliet.Acknowledge(1)
	if !juliet.Detach() || !juliet.State().Away {
		t.Fatal("not detached")
	}
	deliver(juliet.Session, nil, "4")
	w.send(message("chat", "juliet@example.org/balcony", "5"), nil)
	juliet.conn.release(errors.New("broken")) // of the old connection: too late to matter
	if got := s.state(); got != "2 3 4 5" {
		t.Errorf("parked %q", got)
	}
	juliet.Acknowledge(2)
	second := &conn{}
	if !juliet.Attach(second, func(*stream.Error) {}) {
		t.Fatal("not attached")
	}
	deliver(juliet.Session, nil, "6")
	got := second.elements()
	if ids(got) != "3 4 5 6" {
		t.Fatalf("sent %q", got)
	}
	for i, want := range []bool{true, true, true, false} {
		var el string
		for _, e := range got {
			if strings.Contains(e, fmt.Sprintf("id='%d'", i+3)) {
				el = e
			}
		}
		if strings.Contains(el, "<delay xmlns='urn:xmpp:delay' from='example.org' stamp='") != want {
			t.Errorf("delay: %s", el)
		}
	}
	if got := s.state(); got != "2:dropped 3 4 5" {
		t.Errorf("parked %q", got)
	}
	juliet.Acknowledge(6)
	if got := s.state(); got != "2:dropped 3:dropped 4:dropped 5:dropped" {
		t.Errorf("parked %q", got)
	}
}

// A session that is not resumed hands back what it was to get, in order: the
// messages wait for others, and an iq is answered as if the resource were gone
// (XEP-0198 §4).
func TestExpiry(t *testing.T) {
	w := newWorld(t)
	s := &shelf{auto: true}
	withShelf(w, s)
	juliet := w.bind("juliet@example.org/balcony", 0)
	manage(juliet.Session)
	deliver(juliet.Session, nil, "1")
	var turn Turn
	iq := stanza.New(stanza.IQ, stanza.Get, jid.Must("romeo@example.net/x"), juliet.JID, "q", stanza.El("urn:x", "q"))
	juliet.Deliver(&turn, iq, nil)
	juliet.Deliver(&turn, stanza.New(stanza.Presence, "", jid.Must("romeo@example.net/x"), juliet.JID, "p"), nil)
	turn.Flush()
	juliet.Detach()
	deliver(juliet.Session, nil, "2")
	w.Unbind(juliet.Session)
	juliet.Drop()
	if juliet.Attach(&conn{}, nil) {
		t.Error("a session that was dropped has come back")
	}
	if len(w.stored) != 2 || len(w.told) != 1 || !strings.Contains(w.told[0], "service-unavailable") {
		t.Errorf("stored %v, told %v", w.stored, w.told)
	}
}

// A message whose origin waits, and which the recipient does not acknowledge at
// once, is parked; one that is acknowledged in time is never written.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := &shelf{auto: true}
		withShelf(w, s)
		juliet := w.bind("juliet@example.org/balcony", 0)
		manage(juliet.Session)
		safe := map[string]bool{}
		var mu sync.Mutex
		send := func(id string, prompt bool) {
			rc := NewReceipt(func(error) { mu.Lock(); safe[id] = true; mu.Unlock() })
			rc.Prompt = prompt
			deliver(juliet.Session, rc, id)
			rc.Release(nil)
		}
		isSafe := func(id string) bool { mu.Lock(); defer mu.Unlock(); return safe[id] }
		send("quick", false)
		juliet.Acknowledge(1)
		time.Sleep(4 * lookEvery)
		if got := s.state(); got != "" || !isSafe("quick") {
			t.Errorf("parked %q", got)
		}
		send("prompt", true)
		synctest.Wait()
		if got := s.state(); got != "prompt" || !isSafe("prompt") {
			t.Errorf("parked %q", got)
		}
		send("slow", false)
		deliver(juliet.Session, nil, "nobody waits")
		time.Sleep(4 * lookEvery)
		synctest.Wait()
		if got := s.state(); got != "prompt slow" || !isSafe("slow") {
			t.Errorf("parked %q", got)
		}
		asks := 0
		for _, e := range juliet.conn.elements() {
			if e == ask {
				asks++
			}
		}
		if asks != 1 {
			t.Errorf("asked %d times without an answer", asks)
		}
		juliet.Acknowledge(4)
		if got := s.state(); got != "prompt:dropped slow:dropped" {
			t.Errorf("parked %q", got)
		}
		if w.watcher.armed {
			t.Error("the watch goes on without anything to see")
		}
	})
}

// What is none to be kept is not waited for either.
func TestNothingToKeep(t *testing.T) {
	w := newWorld(t)
	s := &shelf{none: true}
	withShelf(w, s)
	juliet := w.bind("juliet@example.org/balcony", 0)
	manage(juliet.Session)
	juliet.Detach()
	safe := false
	rc := NewReceipt(func(error) { safe = true })
	deliver(juliet.Session, rc, "typing")
	rc.Release(nil)
	if !safe {
		t.Error("the origin waits for the peer to come back")
	}
}

// A peer is asked after twenty stanzas, and not again before it has answered.
func TestAsk(t *testing.T) {
	w := newWorld(t)
	juliet := w.bind("juliet@example.org/balcony", 0)
	manage(juliet.Session)
	for i := range 90 {
		deliver(juliet.Session, nil, fmt.Sprint(i))
		if i == 30 {
			juliet.Acknowledge(31)
		}
	}
	var at []int
	for i, e := range juliet.conn.elements() {
		if e == ask {
			at = append(at, i)
		}
	}
	if len(at) != 2 {
		t.Errorf("asked at %v", at)
	}
}

// The queue is bounded in stanzas and octets, with a connection and without.
func TestUnacknowledgedBound(t *testing.T) {
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			withShelf(w, &shelf{})
			juliet := w.bind("juliet@example.org/balcony", 0)
			manage(juliet.Session)
			if away {
				juliet.Detach()
			}
			var turn Turn
			n := 0
			for juliet.Deliver(&turn, message(stanza.Headline, juliet.JID.String(), "x"), nil) {
				n++
			}
			turn.Flush()
			synctest.Wait()
			if n != 100 || len(juliet.kicked()) != 1 {
				t.Errorf("away %v: %d were taken, kicks %v", away, n, juliet.kicked())
			}
		})
	}
}

// A message to several sessions is safe, and off the shelf, when one has it; it is
// lost when all are.
func TestSharedTransit(t *testing.T) {
	for _, lost := range []string{"none", "one", "both"} {
		t.Run(lost, func(t *testing.T) {
			w := newWorld(t)
			s := &shelf{auto: true}
			withShelf(w, s)
			a, b := w.bind("juliet@example.org/a", 0), w.bind("juliet@example.org/b", 0)
			for _, p := range []*peer{a, b} {
				p.SetPresence(&Presence{})
				manage(p.Session)
			}
			done := 0
			rc := NewReceipt(func(error) { done++ })
			rc.Prompt = true
			w.send(message("chat", "juliet@example.org", "1"), rc)
			rc.Release(nil)
			switch lost {
			case "none":
				a.Acknowledge(1)
				b.Acknowledge(1)
			case "one":
				w.Unbind(a.Session)
				a.Drop()
				b.Acknowledge(1)
			case "both":
				for _, p := range []*peer{a, b} {
					w.Unbind(p.Session)
					p.Drop()
				}
			}
			want := "1:dropped"
			if lost == "both" {
				want = "1"
				if len(w.stored) != 1 {
					t.Errorf("stored %v", w.stored)
				}
			} else if len(w.stored) != 0 {
				t.Errorf("stored %v", w.stored)
			}
			if got := s.state(); got != want || done != 1 {
				t.Errorf("parked %q, %d receipts", got, done)
			}
		})
	}
}

// XEP-0352 §5: what can wait does, until something urgent comes, and then goes
// first; of presence only the last of each resource is left.
func TestQuiet(t *testing.T) {
	w := newWorld(t)
	juliet := w.bind("juliet@example.org/balcony", 0)
	juliet.Quiet(func(st *stanza.Stanza) Urgency {
		switch {
		case st.Kind == stanza.Presence:
			return Latest
		case st.Type == stanza.Headline:
			return Later
		}
		return Now
	})
	presence := func(from, id string) {
		var turn Turn
		juliet.Deliver(&turn, stanza.New(stanza.Presence, "", jid.Must(from), juliet.JID, id), nil)
		turn.Flush()
	}
	var turn Turn
	presence("romeo@example.net/a", "p1")
	presence("romeo@example.net/b", "p2")
	juliet.Deliver(&turn, message(stanza.Headline, juliet.JID.String(), "h"), nil)
	presence("romeo@example.net/a", "p3")
	if got := juliet.conn.elements(); len(got) != 0 || !juliet.State().Quiet {
		t.Fatalf("sent %q", got)
	}
	deliver(juliet.Session, nil, "m")
	if got := ids(juliet.conn.elements()); got != "p2 h p3 m" {
		t.Errorf("sent %q", got)
	}
	presence("romeo@example.net/a", "p4")
	juliet.Quiet(nil)
	presence("romeo@example.net/a", "p5")
	if got := ids(juliet.conn.elements()); got != "p2 h p3 m p4 p5" {
		t.Errorf("sent %q", got)
	}
	turn.Flush()
}

// What was under way before stream management began has arrived if the peer can
// resume, and is nobody's yet if it does not.
func TestUnderWayWhenEnabled(t *testing.T) {
	for _, resumed := range []bool{true, false} {
		w := newWorld(t)
		juliet := w.bind("juliet@example.org/balcony", 0)
		juliet.conn.set(true, nil)
		safe := 0
		rc := NewReceipt(func(error) { safe++ })
		deliver(juliet.Session, rc, "before")
		rc.Release(nil)
		manage(juliet.Session)
		deliver(juliet.Session, nil, "behind")
		juliet.Detach()
		second := &conn{}
		if resumed {
			juliet.Attach(second, func(*stream.Error) {})
			if got := ids(second.elements()); got != "behind" || safe != 1 || len(w.stored) != 0 {
				t.Errorf("resent %q, %d safe, stored %v", got, safe, w.stored)
			}
			continue
		}
		w.Unbind(juliet.Session)
		juliet.Drop()
		if got := strings.Join(w.stored, " "); got != "before behind" {
			t.Errorf("stored %q", got)
		}
	}
}
