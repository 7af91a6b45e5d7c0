package archive_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/archive"
	"trivium/core/mod/carbons"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// XEP-0313 §6.1.1, XEP-0334 §4.
func TestWhatIsKept(t *testing.T) {
	hint := func(name string) string { return `<` + name + ` xmlns='urn:xmpp:hints'/>` }
	const body, composing = `<body>x</body>`, `<composing xmlns='http://jabber.org/protocol/chatstates'/>`
	for _, tt := range []struct {
		name, typ, payload string
		want               bool
	}{
		{"chat", "chat", body, true},
		{"normal", "normal", body, true},
		{"no type", "", body, true},
		{"unknown type", "unknown", body, true}, // RFC 6121 §5.2.2: as normal
		{"groupchat", "groupchat", body, false},
		{"headline", "headline", body, false},
		{"error", "error", body, false},
		{"error with hint", "error", body + hint("store"), false}, // XEP-0334 §5
		{"nothing", "chat", ``, false},
		{"subject", "chat", `<subject>x</subject>`, false},
		{"chat state", "chat", composing, false},
		{"chat state with thread", "chat", composing + `<thread>x</thread>`, false},
		{"chat state with body", "chat", composing + body, true},
		{"chat state to be stored", "chat", composing + hint("store"), true},
		{"no-store", "chat", body + hint("no-store"), false},
		{"no-permanent-store", "chat", body + hint("no-permanent-store"), false},
		{"no-store wins", "chat", body + hint("store") + hint("no-store"), false},
		{"no-copy", "chat", body + hint("no-copy"), true},
		{"body in another namespace", "chat", `<body xmlns='urn:x'>x</body>`, false},
		{"receipt", "chat", `<received xmlns='urn:xmpp:receipts' id='x'/>`, true},
		{"receipt asked for", "chat", `<request xmlns='urn:xmpp:receipts'/>`, false},
		{"marker", "chat", `<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>`, true},
		{"marker asked for", "chat", `<markable xmlns='urn:xmpp:chat-markers:0'/>`, false},
		{"reaction", "chat", `<reactions xmlns='urn:xmpp:reactions:0' id='x'><reaction>x</reaction></reactions>`, true},
		{"retraction", "chat", `<retract xmlns='urn:xmpp:message-retract:1' id='x'/>`, true},
		{"older retraction", "chat", `<apply-to xmlns='urn:xmpp:fasten:0' id='x'><retract xmlns='urn:xmpp:message-retract:0'/></apply-to>`, true},
		{"encrypted", "chat", `<encrypted xmlns='urn:xmpp:omemo:2'><payload>x</payload></encrypted>`, true},
		{"invitation", "normal", `<x xmlns='jabber:x:conference' jid='room@muc.example'/>`, true},
		{"mediated invitation", "normal", `<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@example.org'/></x>`, true},
		{"room's notice", "normal", `<x xmlns='http://jabber.org/protocol/muc#user'><status code='104'/></x>`, false},
		{"call", "chat", `<propose xmlns='urn:xmpp:jingle-message:0' id='x'/>`, true},
		{"event", "normal", `<event xmlns='http://jabber.org/protocol/pubsub#event'/>`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := start(t, archive.Options{})
			romeo, juliet := online(s, orchard), online(s, balcony)
			typ := ""
			if tt.typ != "" {
				typ = ` type='` + tt.typ + `'`
			}
			romeo.Send(`<message to='juliet@example.com/balcony' id='m'` + typ + `>` + tt.payload + `</message>`)
			got := juliet.Next()
			if has := strings.Contains(got, "stanza-id"); has != tt.want {
				t.Errorf("received %s", got)
			}
			var names []string
			if tt.want {
				names = append(names, "m")
			}
			ask(t, juliet, "", "").want(t, true, names...)
			ask(t, romeo, "", "").want(t, true, names...)
		})
	}
}

// XEP-0359 §3: whoever gives ids in a name takes out those that others gave in it.
func TestForgedIDs(t *testing.T) {
	by := func(who string) string {
		return `<stanza-id xmlns='urn:xmpp:sid:0' by='` + who + `' id='forged'/>`
	}
	const origin = `<origin-id xmlns='urn:xmpp:sid:0' id='de305d54-75b4-431b-adb2-eb6b9e546013'/>`
	for _, tt := range []struct{ payload, want string }{
		{by("juliet@example.com"), ""},
		{by("JULIET@example.com"), ""},
		{by("example.com"), ""},
		{by("juliet@example.com") + by("juliet@example.com"), ""},
		{`<stanza-id xmlns='urn:xmpp:sid:0' id='x'/>`, ""},
		{by("@"), ""},
		{by("room@muc.example"), by("room@muc.example")}, // a room's, which has passed it on
		{by("romeo@remote.example"), by("romeo@remote.example")},
		{origin, origin},
		{by("example.com") + origin, origin},
		{`<stanza-id xmlns='urn:x' by='juliet@example.com' id='x'/>`, `<stanza-id xmlns='urn:x' by='juliet@example.com' id='x'/>`},
	} {
		for _, kept := range []bool{true, false} {
			s, _ := start(t, archive.Options{})
			juliet := online(s, balcony)
			body, own := `<body>x</body>`, `<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.com' id='*'/>`
			if !kept { // also what is not archived
				body, own = `<subject>x</subject>`, ""
			}
			const head = `<message from='romeo@remote.example/x' to='juliet@example.com' type='chat' id='m'>`
			s.Peer("remote.example").Send(head + body + tt.payload + `</message>`)
			got := juliet.Next()
			if d := modtest.Diff(head+body+tt.want+own+`</message>`, got); d != "" {
				t.Errorf("%s: %s", got, d)
			}
			if strings.Contains(got, "forged") && !strings.Contains(tt.want, "forged") {
				t.Errorf("the forged id is still in %s", got)
			}
			if kept { // and in the archive
				ask(t, juliet, "", "").want(t, true, "m")
			}
		}
	}
}

// An account cannot forge its own ids either.
func TestForgedIDsOfTheSender(t *testing.T) {
	s, _ := start(t, archive.Options{})
	romeo, juliet := online(s, orchard), online(s, balcony)
	romeo.Send(`<message to='juliet@example.com' type='chat'><body>x</body><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@example.net' id='forged'/></message>`)
	if got := juliet.Next(); strings.Contains(got, "forged") {
		t.Error(got)
	}
}

// XEP-0313 §3.5: the id is the same in what a session gets, in carbons and in the
// archive; the other side never learns it.
func TestOneIDEverywhere(t *testing.T) {
	m := archive.New(archive.Options{})
	s := modtest.New(t, append(modules(m), carbons.New())...)
	enable := func(c *modtest.Client) *modtest.Client {
		c.Send(`<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>`)
		c.Next()
		return c
	}
	one, two := online(s, orchard), enable(s.Connect(garden))
	inbox, other := online(s, balcony), enable(s.Connect(chamber))
	one.Send(message(balcony, "m"))
	got, sent, received := inbox.Next(), two.Next(), other.Next()
	a, b := ask(t, one, "", ""), ask(t, inbox, "", "")
	a.want(t, true, "m")
	b.want(t, true, "m")
	for _, tt := range []struct{ what, xml, owner, id string }{
		{"the message", got, "juliet@example.com", b.ids[0]},
		{"the carbon of the recipient", received, "juliet@example.com", b.ids[0]},
		{"the carbon of the sender", sent, "romeo@example.net", a.ids[0]},
	} {
		if id := idOf(t, tt.xml, tt.owner); id != tt.id {
			t.Errorf("%s has the id %s, the archive has %s", tt.what, id, tt.id)
		}
		if strings.Count(tt.xml, "stanza-id") != 1 {
			t.Errorf("%s has more than one id: %s", tt.what, tt.xml)
		}
	}
}

// XEP-0313 §6.1.1: a message is in an archive once.
func TestToOneself(t *testing.T) {
	s, m := start(t, archive.Options{})
	romeo := online(s, orchard)
	romeo.Send(message("romeo@example.net", "bare"))
	id := idOf(t, romeo.Next(), "romeo@example.net")
	romeo.Send(message(orchard, "full"))
	romeo.Next()
	a := ask(t, romeo, "", "")
	a.want(t, true, "bare", "full")
	if a.ids[0] != id {
		t.Errorf("the archive has %s, the session got %s", a.ids[0], id)
	}
	if n := m.Stats.Stored.Load(); n != 2 {
		t.Errorf("%d rows", n)
	}
}

// Offline messages keep their id and are not archived again when they are
// delivered, nor are those of a session that was lost.
func TestRedelivered(t *testing.T) {
	s, m := start(t, archive.Options{})
	romeo := s.Connect(orchard)
	romeo.Send(message("juliet@example.com", "a"))
	lost := online(s, balcony)
	a := idOf(t, lost.Next(), "juliet@example.com")
	lost.Stall()
	romeo.Send(message("juliet@example.com", "b"))
	lost.Close()
	settle(t, s)
	juliet := online2(s, chamber)
	for {
		x := juliet.Next()
		if strings.Contains(x, "id='b'") {
			b := idOf(t, x, "juliet@example.com")
			got := ask(t, juliet, "", "")
			got.want(t, true, "a", "b")
			if got.ids[0] != a || got.ids[1] != b {
				t.Errorf("the archive has %q, delivered were %s and %s", got.ids, a, b)
			}
			break
		}
	}
	if n := m.Stats.Stored.Load(); n != 4 {
		t.Errorf("%d rows in both archives, want 4", n)
	}
}

// online2 connects a client that may be sent other things than its presence.
func online2(s *modtest.Server, full string) *modtest.Client {
	c := s.Connect(full)
	c.Send(`<presence/>`)
	return c
}

// refuser refuses messages for want of a session, when the row is on its way or
// when it is there.
type refuser struct{ late bool }

func (r refuser) Register(h *module.Host) error {
	h.NoSession(func(ctx context.Context, p *module.Packet) error {
		if p.ArchiveID == 0 {
			return errors.New("not archived")
		}
		if r.late {
			if err := h.Store.Sync(ctx); err != nil {
				return err
			}
		}
		return &stanza.Error{Condition: stanza.ServiceUnavailable}
	})
	return nil
}

// XEP-0313 §6.1: what was refused has not been received.
func TestRefused(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%v", late), func(t *testing.T) {
			m := archive.New(archive.Options{})
			s := modtest.New(t, m, refuser{late})
			romeo, released := s.Connect(orchard), make(chan error, 1)
			rc := module.NewReceipt(func(err error) { released <- err })
			romeo.SendStanza(modtest.Parse(t, message("juliet@example.com", "m")), rc)
			romeo.Expect(`<message type='error' from='juliet@example.com' to='` + orchard + `' id='m'>` +
				`<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`)
			rc.Release(nil)
			if err := <-released; err != nil {
				t.Error(err)
			}
			juliet := s.Connect(chamber)
			a := ask(t, juliet, "", "")
			a.want(t, true)
			var n int
			if err := s.Store.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM archive_message) + (SELECT count(*) FROM archive_entry)`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if n != 2 { // the sender has sent it
				t.Errorf("%d rows are left", n)
			}
			if m.Stats.Undone.Load() != 1 {
				t.Error("not undone")
			}
		})
	}
}

// hold stops the store until the returned function is called.
func hold(t testing.TB, s *modtest.Server) (release func()) {
	t.Helper()
	begun, end := make(chan struct{}), make(chan struct{})
	if err := s.Store.Submit(func(*store.Tx) error { close(begun); <-end; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	<-begun
	var once sync.Once
	f := func() { once.Do(func() { close(end) }) }
	t.Cleanup(f)
	return f
}

// A message that cannot be kept is not delivered: its sender is told to wait.
func TestStoreIsBusy(t *testing.T) {
	s, m := start(t, archive.Options{Waiting: 3, Pause: time.Nanosecond})
	romeo, juliet := online(s, orchard), online(s, balcony)
	settle(t, s)
	release := hold(t, s)
	romeo.Send(message("juliet@example.com", "a"))
	juliet.Next()
	refused := func(id string) {
		t.Helper()
		romeo.Expect(`<message type='error' from='juliet@example.com' to='` + orchard + `' id='` + id + `'>` +
			`<error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`)
		juliet.Quiet()
	}
	romeo.Send(message("juliet@example.com", "b")) // room for one side
	refused("b")
	romeo.Send(message("juliet@example.com", "c"))
	refused("c")
	romeo.Send(`<message to='juliet@example.com' type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>`)
	juliet.Next() // needs no room
	release()
	settle(t, s)
	romeo.Send(message("juliet@example.com", "d"))
	juliet.Next()
	ask(t, juliet, "", "").want(t, true, "a", "d")
	if n := m.Stats.Refused.Load(); n != 2 {
		t.Errorf("%d refused", n)
	}
}

// Who sends faster than the store writes is held up before anything is refused, and
// nobody else is.
func TestFlood(t *testing.T) {
	const n = 200
	s, m := start(t, archive.Options{Waiting: 100, Pause: time.Minute})
	romeo, juliet := s.Connect(orchard), online(s, balcony)
	settle(t, s)
	release := hold(t, s)
	done := make(chan struct{})
	go func() {
		for i := range n {
			romeo.Send(message(balcony, strconv.Itoa(i)))
		}
		close(done)
	}()
	for range 13 { // 25 rows and one that crowds
		juliet.Next()
	}
	juliet.Send(`<message to='` + orchard + `' type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>`)
	romeo.Next()
	select {
	case <-done:
		t.Error("nothing held the flood up")
	default:
	}
	release()
	<-done
	for i := 13; i < n; i++ {
		juliet.Next()
	}
	settle(t, s)
	if stored, refused := m.Stats.Stored.Load(), m.Stats.Refused.Load(); stored != 2*n || refused != 0 {
		t.Errorf("%d rows, %d refused", stored, refused)
	}
}

// The receipt is complete when both rows are committed, and says so when they
// cannot be.
func TestReceipt(t *testing.T) {
	s, m := start(t, archive.Options{})
	romeo, juliet := online(s, orchard), online(s, balcony)
	settle(t, s)
	send := func(id string) chan error {
		released := make(chan error, 1)
		rc := module.NewReceipt(func(err error) { released <- err })
		romeo.SendStanza(modtest.Parse(t, message("juliet@example.com", id)), rc)
		rc.Release(nil)
		juliet.Next()
		return released
	}
	release := hold(t, s)
	released := send("a")
	select {
	case err := <-released:
		t.Fatalf("released before the commit: %v", err)
	default:
	}
	release()
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	// A disk that refuses.
	if err := s.Store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`CREATE TRIGGER full BEFORE INSERT ON archive_message BEGIN SELECT RAISE(ABORT, 'no room'); END`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-send("b"); !errors.Is(err, store.ErrConstraint) {
		t.Errorf("got %v", err)
	}
	if n := m.Stats.Failed.Load(); n != 2 {
		t.Errorf("%d rows failed", n)
	}
	if err := s.Store.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(`DROP TRIGGER full`); return err }); err != nil {
		t.Fatal(err)
	}
	if err := <-send("c"); err != nil {
		t.Fatal(err)
	}
	ask(t, juliet, "", "").want(t, true, "a", "c")
}

// A query sees what its session has been told of, however busy the store is, and
// ids ascend whoever sends.
func TestQueriesSeeWhatWasDelivered(t *testing.T) {
	s, _ := start(t, archive.Options{PageMax: 1000})
	juliet := online(s, balcony)
	var clients []*modtest.Client
	for i := range 4 {
		clients = append(clients, s.Connect(fmt.Sprintf("romeo%d@example.net/x", i)))
	}
	const each = 800
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			for i := range each {
				c.Send(message("juliet@example.com", strconv.Itoa(i)))
			}
		})
	}
	seen := ""
	for range 30 {
		var live []string
		for len(live) < 5 {
			if x := juliet.Next(); strings.Contains(x, "<body>") {
				live = append(live, idOf(t, x, "juliet@example.com"))
			}
		}
		id := live[rand.IntN(len(live))]
		// In a session of its own, so that answers do not mix with messages.
		reader := s.Connect("juliet@example.com/reader")
		a := ask(t, reader, field("ids", id), "")
		if a.err != "" || len(a.ids) != 1 {
			t.Fatalf("a message that was delivered is not in the archive: %s", a.err)
		}
		// What a query has passed by is never filled in: a later one finds the same.
		last := ask(t, reader, "", set(`<before/><max>3</max>`))
		if seen != "" {
			again := ask(t, reader, field("before-id", last.first()), set(`<before/><max>2</max>`))
			if again.err != "" || len(again.ids) != 2 || less(last.first(), again.last()) {
				t.Fatalf("%v is not in front of %v", again, last)
			}
		}
		seen = last.last()
		reader.Close()
	}
	wg.Wait()
	reader := s.Connect("juliet@example.com/reader")
	total, after := 0, ""
	for complete := false; !complete; {
		a := ask(t, reader, "", set(`<max>1000</max><after>`+after+`</after>`))
		for i := 1; i < len(a.ids); i++ {
			if !less(a.ids[i-1], a.ids[i]) {
				t.Fatalf("%s is behind %s", a.ids[i-1], a.ids[i])
			}
		}
		total, after, complete = total+len(a.ids), a.last(), a.complete
	}
	if total != len(clients)*each {
		t.Errorf("%d messages", total)
	}
}

func less(a, b string) bool {
	x, _ := strconv.ParseInt(a, 10, 64)
	y, _ := strconv.ParseInt(b, 10, 64)
	return x < y
}

// Ids go on ascending over restarts, also when the clock was set back.
func TestRestart(t *testing.T) {
	s, _ := start(t, archive.Options{})
	send(s.Connect(orchard), "juliet@example.com", "a")
	for _, name := range []string{"b", "c"} {
		settle(t, s)
		s.Advance(-time.Hour)
		s = s.Restart(modules(archive.New(archive.Options{}))...)
		send(s.Connect(orchard), "juliet@example.com", name)
	}
	a := ask(t, s.Connect(chamber), "", "")
	a.want(t, true, "a", "b", "c")
	if !less(a.ids[0], a.ids[1]) || !less(a.ids[1], a.ids[2]) {
		t.Errorf("ids %q", a.ids)
	}
}

// Sessions without an account leave nothing behind.
func TestPassingAccounts(t *testing.T) {
	m := archive.New(archive.Options{Exists: func(_ context.Context, j jid.JID) (bool, error) { return j != jid.Must("romeo@example.net"), nil }})
	s := modtest.New(t, modules(m)...)
	romeo := online(s, orchard)
	send(romeo, "juliet@example.com", "m")
	ask(t, romeo, "", "").want(t, true)
	ask(t, s.Connect(chamber), "", "").want(t, true, "m")
	romeo.Send(`<iq type='set' id='p'><prefs xmlns='urn:xmpp:mam:2' default='always'/></iq>`)
	if x := romeo.Next(); !strings.Contains(x, "not-allowed") {
		t.Error(x)
	}
}
