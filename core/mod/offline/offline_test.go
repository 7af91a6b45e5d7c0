package offline_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/blocking"
	"trivium/core/mod/modtest"
	"trivium/core/mod/offline"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

func modules(o offline.Options) []module.Module {
	r := roster.New(roster.Options{})
	p := presence.New(r, presence.Options{})
	r.ShowWith(p)
	return []module.Module{blocking.New(p, blocking.Options{}), offline.New(o), r, p}
}

func start(t testing.TB) *modtest.Server { return modtest.New(t, modules(offline.Options{})...) }

const (
	chamber = "juliet@example.com/chamber"
	garden  = "juliet@example.com/garden"
	orchard = "romeo@example.net/orchard"
)

func sync1(t testing.TB, s *modtest.Server) {
	t.Helper()
	if err := s.Store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func message(n int) string {
	return fmt.Sprintf(`<message to='juliet@example.com' type='chat' id='m%d'><body>%d</body></message>`, n, n)
}

// stored is message(n) as it is delivered later.
func stored(n int) string {
	return fmt.Sprintf(`<message from='romeo@example.net/orchard' to='juliet@example.com' type='chat' id='m%d'><body>%d</body>`+
		`<delay xmlns='urn:xmpp:delay' from='example.com' stamp='*'>Offline Storage</delay></message>`, n, n)
}

// direct sends messages until one comes that was not stored on its way.
func direct(t testing.TB, romeo, juliet *modtest.Client, n int) {
	t.Helper()
	for end := n + 1000; n < end; n++ {
		romeo.Send(message(n))
		if x := juliet.Next(); !strings.Contains(x, fmt.Sprintf("id='m%d'", n)) {
			t.Fatalf("want message %d, got %s", n, x)
		} else if !strings.Contains(x, "delay") {
			return
		}
	}
	t.Fatal("messages still go through the store")
}

func count(t testing.TB, s *modtest.Server) (n int) {
	t.Helper()
	sync1(t, s)
	if err := s.Store.QueryRow(t.Context(), `SELECT count(*) FROM offline`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// waitEmpty returns when everything delivered has been deleted: the drain submits
// the deletion after the octets have left, on its own goroutine.
func waitEmpty(t testing.TB, s *modtest.Server) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); count(t, s) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("messages were not deleted")
		}
	}
}

// available sends presence and takes the echo.
func available(c *modtest.Client, payload string) {
	c.Send(`<presence>` + payload + `</presence>`)
	c.Expect(`<presence from='` + c.JID.String() + `' to='` + c.JID.String() + `'>` + payload + `</presence>`)
}

// XEP-0160 §2, Example 4.
func TestStoreAndDeliver(t *testing.T) {
	s := start(t)
	romeo := s.Connect(orchard)
	const body = `<body>
    O blessed, blessed night! I am afeard.
    Being in night, all this is but a dream,
    Too flattering-sweet to be substantial.
  </body>`
	s.Advance(time.Until(time.Date(2002, 9, 10, 23, 8, 25, 0, time.UTC)))
	before := s.Now().Truncate(time.Millisecond)
	romeo.Send(`<message to='juliet@example.com' xml:lang='en'>` + body + `</message>`)
	romeo.Quiet()
	after := s.Now()
	sync1(t, s)
	s.Advance(time.Hour)
	juliet := s.Connect(chamber)
	available(juliet, `<priority>1</priority>`)
	got := juliet.Next()
	want := `<message from='romeo@example.net/orchard' to='juliet@example.com' xml:lang='en'>` + body +
		`<delay xmlns='urn:xmpp:delay' from='example.com' stamp='*'>Offline Storage</delay></message>`
	if d := modtest.Diff(want, got); d != "" {
		t.Errorf("%s\n got %s\nwant %s", d, got, want)
	}
	_, stamp, _ := strings.Cut(got, "stamp='")
	stamp, _, _ = strings.Cut(stamp, "'")
	if at, err := time.Parse("2006-01-02T15:04:05.000Z", stamp); err != nil || at.Before(before) || at.After(after) {
		t.Errorf("stamp %q is not between %v and %v", stamp, before, after)
	}
	waitEmpty(t, s)
	// Once.
	juliet.Send(`<presence type='unavailable'/>`).Take()
	available(juliet, "")
	direct(t, romeo, juliet, 1)
	juliet.Quiet()
}

// XEP-0160 §3, XEP-0334 §4; RFC 6121 §8.5.2.2.1.
func TestWhatIsStored(t *testing.T) {
	const (
		kept    = "kept"
		dropped = "dropped"
		refused = "refused"
		state   = `<composing xmlns='http://jabber.org/protocol/chatstates'/>`
		hint    = `<%s xmlns='urn:xmpp:hints'/>`
	)
	noStore, always := fmt.Sprintf(hint, "no-store"), fmt.Sprintf(hint, "store")
	for _, tt := range []struct{ typ, payload, want string }{
		{"", `<body>x</body>`, kept},
		{"normal", `<body>x</body>`, kept},
		{"chat", `<body>x</body>`, kept},
		{"unknown", `<body>x</body>`, kept}, // RFC 6121 §5.2.2: as normal
		{"chat", `<body>x</body>` + state, kept},
		{"chat", `<subject>x</subject>`, kept},
		{"chat", `<encrypted xmlns='urn:e'/>` + always, kept},
		{"groupchat", `<body>x</body>`, refused},
		{"headline", `<body>x</body>`, dropped},
		{"error", `<body>x</body><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>`, dropped},
		{"error", always, dropped}, // XEP-0334 §5
		{"chat", state, dropped},
		{"chat", state + `<thread>t</thread>`, dropped},
		{"chat", state + always, kept},
		{"chat", `<body>x</body>` + noStore, refused},
		{"chat", `<received xmlns='urn:xmpp:receipts' id='x'/>` + noStore, dropped},
		{"chat", `<body>x</body>` + fmt.Sprintf(hint, "no-permanent-store"), kept},
		{"chat", `<body>x</body>` + fmt.Sprintf(hint, "no-copy"), kept},
	} {
		s := start(t)
		romeo := s.Connect(orchard)
		romeo.Send(`<message to='juliet@example.com' id='x' type='` + tt.typ + `'>` + tt.payload + `</message>`)
		got := dropped
		if n := count(t, s); n == 1 {
			got = kept
		}
		if answer := romeo.Take(); len(answer) == 1 && strings.Contains(answer[0], "<service-unavailable ") {
			got = refused
		} else if len(answer) > 0 {
			t.Errorf("%+v: answered %s", tt, answer)
		}
		if got != tt.want {
			t.Errorf("type %q, %s: %s, want %s", tt.typ, tt.payload, got, tt.want)
		}
	}
}

// Nobody but an existing account has messages waiting.
func TestNoSuchAccount(t *testing.T) {
	s := start(t)
	s.Missing("juliet@example.com")
	romeo := s.Connect(orchard)
	romeo.Send(message(1))
	if got := romeo.Next(); !strings.Contains(got, "<service-unavailable ") {
		t.Errorf("got %s", got)
	}
	if n := count(t, s); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// XEP-0160 §2 step 3, and that delivery makes room.
func TestFull(t *testing.T) {
	for _, o := range []offline.Options{{Messages: 3}, {Bytes: 1100}} {
		s := modtest.New(t, modules(o)...)
		romeo := s.Connect(orchard)
		big := func(n int) string { return strings.Replace(message(n), "<body>", "<body>"+strings.Repeat(" ", 120), 1) }
		for range 2 {
			for i := range 3 {
				romeo.Send(big(i))
			}
			romeo.Quiet()
			romeo.Send(big(3))
			if got := romeo.Next(); !strings.Contains(got, "type='error'") || !strings.Contains(got, "<error type='cancel'><service-unavailable ") {
				t.Fatalf("%+v: %s", o, got)
			}
			juliet := s.Connect(chamber)
			available(juliet, "")
			for i := range 3 {
				juliet.Expect(stored(i))
			}
			waitEmpty(t, s)
			juliet.Close()
		}
	}
}

// RFC 6121 §8.5.2.1.1: a negative priority gets nothing, until it is raised.
func TestNegativePriority(t *testing.T) {
	s := start(t)
	romeo, juliet := s.Connect(orchard), s.Connect(chamber)
	available(juliet, "<priority>-1</priority>")
	romeo.Send(message(1))
	sync1(t, s)
	juliet.Quiet()
	available(juliet, "")
	juliet.Expect(stored(1))
	waitEmpty(t, s)
	available(juliet, "<priority>-1</priority>")
	romeo.Send(message(2))
	sync1(t, s)
	available(juliet, "<priority>3</priority>")
	juliet.Expect(stored(2))
}

// The receipt is released when the row is durable, and not before.
func TestReceipt(t *testing.T) {
	s := start(t)
	romeo := s.Connect(orchard)
	block := make(chan struct{})
	if err := s.Store.Submit(func(*store.Tx) error { <-block; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	released := make(chan error, 1)
	rc := module.NewReceipt(func(err error) { released <- err })
	romeo.SendStanza(modtest.Parse(t, message(1)), rc)
	rc.Release(nil)
	select {
	case err := <-released:
		t.Fatalf("released before the commit: %v", err)
	default:
	}
	close(block)
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// What cannot be stored comes back: at once when the store is busy, later when
// the commit fails.
func TestStoreFails(t *testing.T) {
	s := modtest.NewWith(t, modtest.Options{Store: store.Options{QueueMax: 1}}, modules(offline.Options{})...)
	romeo := s.Connect(orchard)
	started, block := make(chan struct{}), make(chan struct{})
	busy := func(*store.Tx) error { close(started); <-block; return nil }
	if err := s.Store.Submit(busy, nil); err != nil {
		t.Fatal(err)
	}
	<-started
	romeo.Send(message(1)) // fills the queue
	romeo.Send(message(2))
	if got := romeo.Next(); !strings.Contains(got, "id='m2'") || !strings.Contains(got, "<error type='wait'><resource-constraint ") {
		t.Errorf("got %s", got)
	}
	close(block)
	sync1(t, s)
	// A row in the way makes the insert fail.
	err := s.Store.Write(t.Context(), func(tx *store.Tx) error {
		for id := range 10 {
			if _, err := tx.Exec(`INSERT INTO offline (account, id, stanza) VALUES ('nurse@example.com', ?, x'00')`, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan error, 1)
	rc := module.NewReceipt(func(err error) { released <- err })
	romeo.SendStanza(modtest.Parse(t, `<message to='nurse@example.com' id='n'><body>x</body></message>`), rc)
	rc.Release(nil)
	if err := <-released; err == nil {
		t.Error("the receipt promises what was not stored")
	}
	romeo.Expect(`<message from='nurse@example.com' to='romeo@example.net/orchard' id='n' type='error'><error type='wait'>` +
		`<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`)
}

// Newer messages stay behind the older ones while those are on their way.
func TestOrderDuringDelivery(t *testing.T) {
	s := modtest.New(t, modules(offline.Options{Batch: 4})...)
	romeo, juliet := s.Connect(orchard), s.Connect(chamber)
	for i := range 10 {
		romeo.Send(message(i))
	}
	sync1(t, s)
	juliet.Stall()
	juliet.Send(`<presence/>`)
	for i := 10; i < 20; i++ {
		romeo.Send(message(i))
	}
	romeo.Send(strings.Replace(message(20), "juliet@example.com", chamber, 1))
	// What is not to be stored need not wait.
	romeo.Send(`<message to='juliet@example.com' type='headline'/>`)
	juliet.Resume()
	juliet.Next() // presence
	var got []string
	for len(got) < 21 {
		x := juliet.Next()
		if !strings.Contains(x, "headline") {
			got = append(got, x)
		}
	}
	for i, x := range got {
		if !strings.Contains(x, fmt.Sprintf("id='m%d'", i)) {
			t.Fatalf("message %d: %s", i, x)
		}
	}
	waitEmpty(t, s)
	// And afterwards the way is direct again.
	direct(t, romeo, juliet, 21)
}

// A session that does not read does not hold up the account's others for ever.
func TestStalledSession(t *testing.T) {
	s := start(t)
	romeo, stalled, juliet := s.Connect(orchard), s.Connect(chamber), s.Connect(garden)
	romeo.Send(message(1))
	sync1(t, s)
	stalled.Stall()
	stalled.Send(`<presence/>`)
	juliet.Send(`<presence/>`).Take()
	waitFlight(t, s, juliet, romeo)
	stalled.Close()
}

func waitFlight(t *testing.T, s *modtest.Server, juliet, romeo *modtest.Client) {
	t.Helper()
	for i := 2; i < 5000; i++ {
		s.Advance(time.Second)
		romeo.Send(message(i))
		if got := juliet.Take(); len(got) > 0 {
			return
		}
	}
	t.Fatal("the other resource gets nothing")
}

// Two resources that come at once do not both get the messages.
func TestTwoResources(t *testing.T) {
	s := start(t)
	romeo := s.Connect(orchard)
	for i := range 50 {
		romeo.Send(message(i))
	}
	sync1(t, s)
	one, two := s.Connect(chamber), s.Connect(garden)
	var wg sync.WaitGroup
	for _, c := range []*modtest.Client{one, two} {
		wg.Go(func() { c.Send(`<presence/>`) })
	}
	wg.Wait()
	waitEmpty(t, s)
	n := 0
	for _, x := range append(one.Take(), two.Take()...) {
		if strings.HasPrefix(x, "<message") {
			n++
		}
	}
	if n != 50 {
		t.Errorf("%d messages were delivered, want 50", n)
	}
}

// A session that is lost before the octets have left costs no message, and the
// next one gets them with the stamps they had, in order, once.
func TestLostSession(t *testing.T) {
	s := modtest.New(t, modules(offline.Options{Batch: 4})...)
	romeo := s.Connect(orchard)
	stamp := s.Now().UTC()
	for i := range 10 {
		romeo.Send(message(i))
	}
	sync1(t, s)
	s.Advance(24 * time.Hour)
	for range 3 {
		juliet := s.Connect(chamber)
		juliet.Stall()
		juliet.Send(`<presence/>`)
		juliet.Close()
		juliet.Quiet()
	}
	juliet := s.Connect(chamber)
	juliet.Send(`<presence/>`)
	for i := range 10 {
		x := juliet.Next()
		for strings.HasPrefix(x, "<presence") {
			x = juliet.Next()
		}
		if d := modtest.Diff(stored(i), x); d != "" {
			t.Fatalf("message %d: %s in %s", i, d, x)
		}
		if !strings.Contains(x, "stamp='"+stamp.Format("2006-01-02T15")) {
			t.Errorf("another stamp: %s", x)
		}
	}
	waitEmpty(t, s)
	juliet.Quiet()
}

// The rest goes to another resource when the first is lost.
func TestHandOver(t *testing.T) {
	s := modtest.New(t, modules(offline.Options{Batch: 4})...)
	romeo, one, two := s.Connect(orchard), s.Connect(chamber), s.Connect(garden)
	for i := range 10 {
		romeo.Send(message(i))
	}
	sync1(t, s)
	one.Stall()
	one.Send(`<presence/>`)
	two.Send(`<presence/>`)
	one.Close()
	for i := range 10 {
		x := two.Next()
		for strings.HasPrefix(x, "<presence") {
			x = two.Next()
		}
		if d := modtest.Diff(stored(i), x); d != "" {
			t.Fatalf("message %d: %s in %s", i, d, x)
		}
	}
	waitEmpty(t, s)
}

// Messages outlive the process; what is damaged or blocked meanwhile is left out.
func TestRestart(t *testing.T) {
	s := start(t)
	romeo := s.Connect(orchard)
	for i := range 3 {
		romeo.Send(message(i))
	}
	nurse := s.Connect("nurse@example.org/x")
	nurse.Send(`<message to='juliet@example.com'><body>blocked</body></message>`)
	sync1(t, s)
	romeo.Close()
	err := s.Store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE offline SET stanza = ? WHERE id = 2`, []byte("<message xmlns='jabber:client'><body></message>"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s = s.Restart(modules(offline.Options{})...)
	s.Connect(orchard).Send(message(3))
	juliet := s.Connect(chamber)
	juliet.Send(`<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='nurse@example.org'/></block></iq>`).Take()
	available(juliet, "")
	juliet.Expect(stored(0), stored(2), stored(3))
	waitEmpty(t, s)
	juliet.Quiet()
}

func TestPurge(t *testing.T) {
	s := start(t)
	s.Connect(orchard).Send(message(1))
	sync1(t, s)
	s.Remove("juliet@example.com")
	if n := count(t, s); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// Every message arrives, whatever the recipient's sessions do meanwhile. One that
// was being written when its session was dropped may come again, since nobody
// knows whether it arrived: then the copies can be told by their stamps.
func TestStorm(t *testing.T) {
	const senders, each = 4, 150
	s := modtest.New(t, modules(offline.Options{Batch: 7, Messages: senders * each})...)
	var senderGroup, recipients sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	var got []string
	recipients.Go(func() {
		for i := 0; ; i++ {
			c := s.Connect(fmt.Sprintf("juliet@example.com/r%d", i))
			c.Send(`<presence/>`)
			if i%3 == 1 {
				c.Stall()
			}
			c.Send(`<presence><show>away</show></presence>`)
			c.Close()
			mu.Lock()
			got = append(got, c.Take()...)
			mu.Unlock()
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for n := range senders {
		senderGroup.Go(func() {
			c := s.Connect(fmt.Sprintf("romeo%d@example.net/x", n))
			for i := range each {
				c.Send(fmt.Sprintf(`<message to='juliet@example.com' id='%d-%d'><body>x</body></message>`, n, i))
			}
			c.Quiet()
		})
	}
	senderGroup.Wait()
	close(stop)
	recipients.Wait()
	last := s.Connect("juliet@example.com/last")
	last.Send(`<presence/>`)
	waitEmpty(t, s)
	got = append(got, last.Take()...)
	seen := map[string][]string{}
	for _, x := range got {
		if st := modtest.Parse(t, x); st.Kind == stanza.Message {
			seen[st.ID] = append(seen[st.ID], x)
		}
	}
	for n := range senders {
		for i := range each {
			copies := seen[fmt.Sprintf("%d-%d", n, i)]
			if len(copies) == 0 {
				t.Errorf("message %d-%d is lost", n, i)
			}
			stamped := 0
			for _, x := range copies {
				if strings.Contains(x, "<delay") {
					stamped++
				}
			}
			if stamped < len(copies)-1 {
				t.Errorf("message %d-%d cannot be recognised: %s", n, i, copies)
			}
		}
	}
}

// nobody is a roster service without contacts.
type nobody struct{}

func (nobody) Subscribers(context.Context, jid.JID) ([]jid.JID, error)   { return nil, nil }
func (nobody) Subscriptions(context.Context, jid.JID) ([]jid.JID, error) { return nil, nil }
func (nobody) Subscribed(context.Context, jid.JID, jid.JID) (bool, error) {
	return false, nil
}
