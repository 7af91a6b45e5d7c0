package offline_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/mod/offline"
	"trivium/core/mod/presence"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
)

var juliets = jid.Must("juliet@example.com")

// parking starts a server whose offline module the test parks messages with.
func parking(t testing.TB, o offline.Options) (*modtest.Server, *offline.Module) {
	m := offline.New(o)
	return modtest.New(t, m, presence.New(nobody{}, presence.Options{})), m
}

func outgoing(t testing.TB, n int) *stanza.Stanza {
	st := modtest.Parse(t, message(n))
	st.From = jid.Must(orchard)
	return st
}

// verdict is what a parked message's origin has been told.
type verdict struct {
	mu    sync.Mutex
	calls int
	err   error
}

func (v *verdict) safe(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls++
	v.err = err
}

func (v *verdict) told() (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls, v.err
}

// block keeps the store's writer busy until the returned function is called.
func block(t testing.TB, s *modtest.Server) (release func()) {
	t.Helper()
	began, gate := make(chan struct{}), make(chan struct{})
	if err := s.Store.Submit(func(*store.Tx) error { close(began); <-gate; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	<-began
	return sync.OnceFunc(func() { close(gate) })
}

// A message that its session gets before the write has begun is never written;
// one that it gets later is deleted.
func TestParkAndDrop(t *testing.T) {
	s, m := parking(t, offline.Options{Messages: 2})
	for range 3 { // and makes room each time
		release := block(t, s)
		var early, late verdict
		p := m.Park(juliets, outgoing(t, 0), early.safe)
		q := m.Park(juliets, outgoing(t, 1), late.safe)
		if p == nil || q == nil {
			t.Fatal("not parked")
		}
		m.Park(juliets, outgoing(t, 2), early.safe).Drop() // there is no room: nothing is promised
		p.Drop()
		release()
		if n := count(t, s); n != 1 {
			t.Fatalf("%d rows, want the second message", n)
		}
		if n, _ := early.told(); n != 0 {
			t.Error("a message was called safe that was never written")
		}
		if n, err := late.told(); n != 1 || err != nil {
			t.Errorf("told %d times, %v", n, err)
		}
		q.Drop()
		if n := count(t, s); n != 0 {
			t.Fatalf("%d rows are left", n)
		}
	}
	if m.Stats.Parked.Load() != 3 || m.Stats.Delivered.Load() != 0 {
		t.Errorf("%d parked", m.Stats.Parked.Load())
	}
}

// A message whose write has begun when its session gets it is deleted behind it.
func TestDropDuringWrite(t *testing.T) {
	s, m := parking(t, offline.Options{})
	release := block(t, s)
	list := make([]module.Parked, 6)
	for i := range list {
		list[i] = m.Park(juliets, outgoing(t, i), func(error) {})
	}
	// The writer takes the six together with an operation that holds it.
	began, gate := make(chan struct{}), make(chan struct{})
	if err := s.Store.Submit(func(*store.Tx) error { close(began); <-gate; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	release()
	<-began
	for _, i := range []int{0, 1, 3, 5} {
		list[i].Drop()
	}
	close(gate)
	if n := count(t, s); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	list[2].Return()
	list[4].Return()
	juliet := s.Connect(chamber)
	available(juliet, "")
	juliet.Expect(stored(2), stored(4))
	waitEmpty(t, s)
	juliet.Quiet()
}

// XEP-0160 §3: what would not be stored is not parked.
func TestWhatIsParked(t *testing.T) {
	s, m := parking(t, offline.Options{})
	for _, tt := range []struct {
		xml  string
		want bool
	}{
		{`<message to='juliet@example.com'><body>x</body></message>`, true},
		{`<message to='juliet@example.com/chamber' type='chat'><body>x</body></message>`, true},
		{`<message to='juliet@example.com' type='headline'><body>x</body></message>`, false},
		{`<message to='juliet@example.com/chamber' type='groupchat'><body>x</body></message>`, false},
		{`<message to='juliet@example.com' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>`, false},
		{`<message to='juliet@example.com'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>`, false},
		{`<message to='room@example.com'><body>x</body></message>`, false}, // another account's
	} {
		p := m.Park(juliets, modtest.Parse(t, tt.xml), func(error) {})
		if (p != nil) != tt.want {
			t.Errorf("%s: parked %v, want %v", tt.xml, p != nil, tt.want)
		}
		if p != nil {
			p.Drop()
		}
	}
	// A chat state stays one when the archive has given it an id.
	st := modtest.Parse(t, `<message to='juliet@example.com' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>`).
		Append(stanza.Raw(`<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.com' id='1'/>`))
	if m.Park(juliets, st, func(error) {}) != nil {
		t.Error("a chat state is parked")
	}
	sync1(t, s)
}

// What another session is about to have is not for this one, until it is lost.
func TestReturn(t *testing.T) {
	s, m := parking(t, offline.Options{Batch: 2})
	stamp := s.Now().UTC()
	var list []module.Parked
	for i := range 6 {
		list = append(list, m.Park(juliets, outgoing(t, i), func(error) {}))
	}
	sync1(t, s)
	s.Advance(26 * time.Hour)
	juliet := s.Connect(chamber)
	available(juliet, "")
	m.Wait()
	juliet.Quiet()
	list[0].Drop()
	list[5].Drop()
	sync1(t, s)
	for _, p := range list[1:5] { // she is here, and gets them now
		p.Return()
	}
	for i := range 4 {
		x := juliet.Next()
		if d := modtest.Diff(stored(i+1), x); d != "" {
			t.Fatalf("message %d: %s in %s", i+1, d, x)
		}
		if !strings.Contains(x, "stamp='"+stamp.Format("2006-01-02T15")) {
			t.Errorf("not the stamp of when it was parked: %s", x)
		}
	}
	waitEmpty(t, s)
	juliet.Quiet()
}

// The router hands back what no other session may get: the row becomes mail, and
// there is no second one.
func TestReturnByRouter(t *testing.T) {
	s, m := parking(t, offline.Options{})
	p := m.Park(juliets, outgoing(t, 0), func(error) {})
	s.Connect(orchard).Send(message(1)) // newer, and must not overtake
	var turn router.Turn
	err := s.Router.Route(t.Context(), &router.Packet{Stanza: outgoing(t, 0), Turn: &turn, Parked: p})
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, s); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	juliet := s.Connect(chamber)
	available(juliet, "")
	juliet.Expect(stored(0), stored(1))
	waitEmpty(t, s)
}

// Messages that become mail behind the place that a drain has reached are brought
// by it, too.
func TestReturnDuringDrain(t *testing.T) {
	s, m := parking(t, offline.Options{Batch: 2})
	romeo, juliet := s.Connect(orchard), s.Connect(chamber)
	var list []module.Parked
	for i := range 4 {
		list = append(list, m.Park(juliets, outgoing(t, i), func(error) {}))
	}
	for i := 4; i < 8; i++ {
		romeo.Send(message(i))
	}
	sync1(t, s)
	juliet.Stall()
	juliet.Send(`<presence/>`)
	for _, p := range list {
		p.Return()
	}
	juliet.Resume()
	seen := map[string]int{}
	for n := 0; n < 8; {
		if st := modtest.Parse(t, juliet.Next()); st.Kind == stanza.Message {
			seen[st.ID]++
			n++
		}
	}
	for i := range 8 {
		if n := seen[fmt.Sprintf("m%d", i)]; n != 1 {
			t.Errorf("message %d came %d times", i, n)
		}
	}
	waitEmpty(t, s)
	juliet.Quiet()
}

// After the process has ended, whatever was parked is mail.
func TestParkedThenRestart(t *testing.T) {
	s, m := parking(t, offline.Options{})
	for i := range 3 {
		m.Park(juliets, outgoing(t, i), func(error) {})
	}
	sync1(t, s)
	s = s.Restart(offline.New(offline.Options{}), presence.New(nobody{}, presence.Options{}))
	s.Connect(orchard).Send(message(3))
	juliet := s.Connect(chamber)
	available(juliet, "")
	juliet.Expect(stored(0), stored(1), stored(2), stored(3))
	waitEmpty(t, s)
}

// A message that could not be written is not promised; when its session is lost,
// it is tried again.
func TestParkFails(t *testing.T) {
	s, m := parking(t, offline.Options{})
	obstacle := func(how string) {
		t.Helper()
		err := s.Store.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(how)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	obstacle(`CREATE TRIGGER refuse BEFORE INSERT ON offline BEGIN SELECT RAISE(ABORT, 'refused'); END`)
	var v verdict
	p, q := m.Park(juliets, outgoing(t, 0), v.safe), m.Park(juliets, outgoing(t, 1), func(error) {})
	sync1(t, s)
	if n, err := v.told(); n != 1 || err == nil {
		t.Errorf("told %d times, %v", n, err)
	}
	obstacle(`DROP TRIGGER refuse`)
	q.Drop()
	p.Return()
	if n := count(t, s); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	juliet := s.Connect(chamber)
	available(juliet, "")
	juliet.Expect(stored(0))
	waitEmpty(t, s)
	if n, _ := v.told(); n != 1 {
		t.Errorf("told %d times", n)
	}

	obstacle(`CREATE TRIGGER refuse BEFORE INSERT ON offline BEGIN SELECT RAISE(ABORT, 'refused'); END`)
	romeo := s.Connect(orchard)
	m.Park(juliets, outgoing(t, 2), func(error) {}).Return() // once more, and then back
	romeo.Expect(`<message from='juliet@example.com' to='romeo@example.net/orchard' type='error' id='m2'><error type='wait'>` +
		`<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`)
}

// A full queue of the store promises nothing, and keeps no row that is not needed.
func TestParkWithBusyStore(t *testing.T) {
	m := offline.New(offline.Options{})
	s := modtest.NewWith(t, modtest.Options{Store: store.Options{QueueMax: 1}}, m, presence.New(nobody{}, presence.Options{}))
	written := m.Park(juliets, outgoing(t, 0), func(error) {})
	sync1(t, s)
	release := block(t, s)
	p := m.Park(juliets, outgoing(t, 1), func(error) {}) // fills the queue
	var v verdict
	q := m.Park(juliets, outgoing(t, 2), v.safe)
	written.Drop()
	release()
	p.Drop()
	waitEmpty(t, s)
	q.Return() // now there is room
	if n, _ := v.told(); count(t, s) != 1 || n != 0 {
		t.Errorf("%d rows, told %d times", count(t, s), n)
	}
	juliet := s.Connect(chamber)
	available(juliet, "")
	juliet.Expect(stored(2))
	waitEmpty(t, s)
}

// A message whose session is lost while there is no room for it goes back.
func TestReturnWithoutRoom(t *testing.T) {
	s, m := parking(t, offline.Options{Messages: 1})
	romeo := s.Connect(orchard)
	romeo.Send(message(0))
	for _, byRouter := range []bool{false, true} {
		p := m.Park(juliets, outgoing(t, 1), func(error) { t.Error("told of a message that is not kept") })
		if byRouter {
			var turn router.Turn
			err := s.Router.Route(t.Context(), &router.Packet{Stanza: outgoing(t, 1), Turn: &turn, Parked: p})
			s.Router.Bounce(t.Context(), &turn, outgoing(t, 1), err)
			turn.Flush()
		} else {
			p.Return()
		}
		romeo.Expect(`<message from='juliet@example.com' to='romeo@example.net/orchard' type='error' id='m1'><error type='cancel'>` +
			`<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// What the router hands back before its row is committed is not safe before.
func TestReturnHoldsReceipt(t *testing.T) {
	s, m := parking(t, offline.Options{})
	release := block(t, s)
	p := m.Park(juliets, outgoing(t, 0), func(error) {})
	var v verdict
	rc := module.NewReceipt(v.safe)
	var turn router.Turn
	err := s.Router.Route(t.Context(), &router.Packet{Stanza: outgoing(t, 0), Turn: &turn, Parked: p, Receipt: rc})
	rc.Release(nil)
	if n, _ := v.told(); err != nil || n != 0 {
		t.Errorf("%v, told %d times before the commit", err, n)
	}
	release()
	if n := count(t, s); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	if n, err := v.told(); n != 1 || err != nil {
		t.Errorf("told %d times, %v", n, err)
	}
}

// XEP-0386 §3.2, XEP-0313 §6.1.1: what a session gets from the archive is not brought
// to it once more, and what only lies here is.
func TestCovered(t *testing.T) {
	const id = `<stanza-id xmlns='urn:xmpp:sid:0' by='%s' id='1'/>`
	for _, covered := range []bool{false, true} {
		s, m := parking(t, offline.Options{Covered: func(s *module.Session) bool { return covered && s.JID.String() == chamber }})
		var turn router.Turn
		send := func(n int, archive int64, payload string) {
			st := outgoing(t, n)
			if payload != "" {
				st = st.Append(stanza.Raw(payload))
			}
			err := s.Host.Router.Route(t.Context(), &router.Packet{Stanza: st, Turn: &turn, ArchiveID: archive})
			if err != nil {
				t.Fatal(err)
			}
		}
		send(0, 0, "")
		send(1, 7, "")
		send(2, 0, fmt.Sprintf(id, "juliet@example.com"))
		send(3, 0, fmt.Sprintf(id, "room@example.net")) // another's archive
		p := m.Park(juliets, outgoing(t, 4).Append(stanza.Raw(fmt.Sprintf(id, "juliet@example.com"))), func(error) {})
		sync1(t, s)
		p.Return()
		juliet := s.Connect(chamber)
		juliet.Send(`<presence/>`)
		waitEmpty(t, s)
		var got []string
		for _, x := range juliet.Take() {
			if st := modtest.Parse(t, x); st.Kind == stanza.Message {
				got = append(got, st.ID)
			}
		}
		want := "[m0 m1 m2 m3 m4]"
		if covered {
			want = "[m0 m3]"
		}
		if fmt.Sprint(got) != want {
			t.Errorf("covered %v: got %v, want %s", covered, got, want)
		}
	}
}

// Many sessions' worth of messages are parked, dropped and handed back while
// others come and go. Nothing is lost, nothing that a session had comes again.
func TestParkingStorm(t *testing.T) {
	const origins, each = 4, 300
	s, m := parking(t, offline.Options{Batch: 7, Messages: origins * each})
	var wg, readers sync.WaitGroup
	stop := make(chan struct{})
	got := map[string]int{}
	readers.Go(func() {
		for n := 0; ; n++ {
			c := s.Connect(fmt.Sprintf("juliet@example.com/r%d", n))
			c.Send(`<presence/>`)
			m.Wait() // what is being written when a session is dropped may come again
			c.Close()
			for _, x := range c.Take() {
				if st := modtest.Parse(t, x); st.Kind == stanza.Message {
					got[st.ID]++
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	had := make([]map[string]bool, origins)
	for n := range origins {
		had[n] = map[string]bool{}
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(n)))
			var window []module.Parked
			var ids []string
			end := func(all bool) {
				for len(window) > 0 && (all || rnd.IntN(3) > 0) {
					if rnd.IntN(2) == 0 {
						window[0].Return()
					} else {
						had[n][ids[0]] = true
						window[0].Drop()
					}
					window, ids = window[1:], ids[1:]
				}
			}
			for i := range each {
				st := outgoing(t, 0).Copy()
				st.ID = fmt.Sprintf("%d-%d", n, i)
				p := m.Park(juliets, st, func(error) {})
				if p == nil {
					t.Error("no room")
					return
				}
				window, ids = append(window, p), append(ids, st.ID)
				if rnd.IntN(4) == 0 {
					sync1(t, s)
				}
				end(false)
			}
			end(true)
		})
	}
	wg.Wait()
	close(stop)
	readers.Wait()
	last := s.Connect("juliet@example.com/last")
	last.Send(`<presence/>`)
	waitEmpty(t, s)
	for _, x := range last.Take() {
		if st := modtest.Parse(t, x); st.Kind == stanza.Message {
			got[st.ID]++
		}
	}
	for n := range origins {
		for i := range each {
			id := fmt.Sprintf("%d-%d", n, i)
			want := 1
			if had[n][id] {
				want = 0
			}
			if got[id] != want {
				t.Errorf("%s came %d times, want %d", id, got[id], want)
			}
		}
	}
	// The numbers are right at the end: there is room for exactly as many.
	for i := range origins*each + 1 {
		m.Park(juliets, outgoing(t, i), func(error) {})
	}
	if n := count(t, s); n != origins*each {
		t.Errorf("there was room for %d, want %d", n, origins*each)
	}
}

// A drain does not wait for messages that are none of its own.
func TestDrainIgnoresParking(t *testing.T) {
	s, m := parking(t, offline.Options{})
	romeo, juliet := s.Connect(orchard), s.Connect(chamber)
	romeo.Send(message(0))
	sync1(t, s)
	release := block(t, s)
	defer release()
	p := m.Park(juliets, outgoing(t, 1), func(error) {})
	available(juliet, "")
	juliet.Expect(stored(0))
	m.Wait() // though the store stands still
	release()
	p.Drop()
	waitEmpty(t, s)
}

// A row whose deletion fails is not lost sight of: its message comes once more.
func TestDeletionFails(t *testing.T) {
	s, m := parking(t, offline.Options{})
	p := m.Park(juliets, outgoing(t, 0), func(error) {})
	sync1(t, s)
	err := s.Store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`CREATE TRIGGER refuse BEFORE DELETE ON offline BEGIN SELECT RAISE(ABORT, 'refused'); END`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Drop()
	if n := count(t, s); n != 1 {
		t.Fatalf("%d rows, want 1", n)
	}
	err = s.Store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`DROP TRIGGER refuse`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	juliet := s.Connect(chamber)
	available(juliet, "")
	juliet.Expect(stored(0))
	waitEmpty(t, s)
}

// The whole way: a session with stream management loses its connection and never
// comes back. What it has not acknowledged comes to the next one in its order, with
// the stamps, in front of what came later; each once.
func TestManagedSessionIsLost(t *testing.T) {
	for _, detach := range []bool{false, true} {
		s, m := parking(t, offline.Options{})
		romeo, juliet := s.Connect(orchard), s.Connect(chamber)
		available(juliet, "")
		var turn router.Turn
		if !juliet.Session.Manage(&turn, 100, stanza.El("urn:xmpp:sm:3", "enabled")) {
			t.Fatal("no stream management")
		}
		turn.Flush()
		juliet.Next() // <enabled/>
		send := func(n int) *verdict {
			v := new(verdict)
			rc := module.NewReceipt(v.safe)
			rc.Prompt = true
			romeo.SendStanza(modtest.Parse(t, message(n)), rc)
			rc.Release(nil)
			return v
		}
		safe := func(v *verdict, n int) {
			t.Helper()
			sync1(t, s)
			if calls, err := v.told(); calls != 1 || err != nil {
				t.Errorf("message %d: told %d times, %v", n, calls, err)
			}
		}
		for i := range 6 {
			safe(send(i), i)
		}
		if _, ok := juliet.Session.Acknowledge(2); !ok {
			t.Fatal("not acknowledged")
		}
		if n := count(t, s); n != 4 {
			t.Errorf("%d rows, want what is not acknowledged", n)
		}
		if detach && !juliet.Session.Detach() {
			t.Fatal("not detached")
		}
		safe(send(6), 6)
		juliet.Close() // as the end of its time to resume does
		safe(send(7), 7)
		if n := count(t, s); n != 6 {
			t.Errorf("%d rows, want 6", n)
		}
		next := s.Connect(garden)
		available(next, "")
		for i := 2; i < 8; i++ {
			next.Expect(stored(i))
		}
		waitEmpty(t, s)
		next.Quiet()
		if n := m.Stats.Returned.Load(); n != 5 {
			t.Errorf("%d were returned, want 5", n)
		}
	}
}

// Messages out of the store that a managed session does not acknowledge stay there.
func TestManagedSessionIsLostWhileDraining(t *testing.T) {
	s, m := parking(t, offline.Options{})
	romeo, juliet := s.Connect(orchard), s.Connect(chamber)
	for i := range 3 {
		romeo.Send(message(i))
	}
	sync1(t, s)
	var turn router.Turn
	if !juliet.Session.Manage(&turn, 100, stanza.El("urn:xmpp:sm:3", "enabled")) {
		t.Fatal("no stream management")
	}
	turn.Flush()
	juliet.Send(`<presence/>`)
	for {
		if x := juliet.Next(); strings.Contains(x, "id='m2'") {
			break
		}
	}
	if n := count(t, s); n != 3 {
		t.Errorf("%d rows, though nothing is acknowledged", n)
	}
	if !juliet.Session.Detach() {
		t.Fatal("not detached")
	}
	if n := count(t, s); n != 3 {
		t.Errorf("%d rows, though nothing is acknowledged", n)
	}
	juliet.Close() // as the end of its time to resume does
	m.Wait()
	next := s.Connect(garden)
	available(next, "")
	next.Expect(stored(0), stored(1), stored(2))
	waitEmpty(t, s)
	next.Quiet()
}
