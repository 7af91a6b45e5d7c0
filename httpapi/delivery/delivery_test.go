package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/event"
)

var (
	bot    = jid.Must("bot@example.org")
	juliet = jid.Must("juliet@example.com")
)

// log collects events.
type log struct {
	mu   sync.Mutex
	list []event.Event
}

func (l *log) Append(e *event.Event, _ *router.Receipt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, *e)
	return nil
}

// take returns the events since, as "id status".
func (l *log) take(t *testing.T) []string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, e := range l.list {
		var s Status
		if err := json.Unmarshal(e.Data, &s); err != nil {
			t.Fatal(err)
		}
		if e.Type != event.Delivery || e.From.String() != s.From || e.To.String() != s.To || e.Host != e.From.Domain() {
			t.Errorf("event %+v of %+v", e, s)
		}
		out = append(out, s.ID+" "+s.State)
	}
	l.list = nil
	return out
}

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time {
	return time.UnixMicro(c.at.Add(1)) // no two events at the same time
}

func newClock() *clock {
	c := new(clock)
	c.at.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro())
	return c
}

func open(t testing.TB, path string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newTracker(t testing.TB, db *store.DB, o Options) *Tracker {
	t.Helper()
	tr, err := New(context.Background(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func msg(from, to jid.JID, id string) *stanza.Stanza {
	return stanza.New(stanza.Message, stanza.Chat, from, to, id, stanza.TextEl(stanza.NSClient, "body", "x"))
}

func parse(t testing.TB, xml string) *stanza.Stanza {
	t.Helper()
	st, err := stanza.ParseDocument([]byte(strings.Replace(xml, "<message ", "<message xmlns='jabber:client' ", 1)))
	if err != nil {
		t.Fatalf("%s: %v", xml, err)
	}
	return st
}

func anyone(jid.JID) bool { return true }

func (t *Tracker) state(tb testing.TB, id string) string {
	tb.Helper()
	s, ok, err := t.Find(context.Background(), id, anyone)
	if err != nil {
		tb.Fatal(err)
	}
	if !ok {
		return "none"
	}
	return s.State
}

const (
	receipt = `<message from='juliet@example.com/balcony' to='bot@example.org'><received xmlns='urn:xmpp:receipts' id='a'/></message>`
	marker  = `<message from='juliet@example.com/balcony' to='bot@example.org'><displayed xmlns='urn:xmpp:chat-markers:0' id='a'/></message>`
	failure = `<message from='juliet@example.com' to='bot@example.org' type='error' id='a'><body>x</body><error type='cancel'>` +
		`<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>Gone fishing</text></error></message>`
)

// What comes back moves a message on, in memory and in the database alike, and
// nothing else does.
func TestStates(t *testing.T) {
	for _, tt := range []struct {
		name  string
		comes []string
		want  string
		told  []string
	}{
		{"nothing", nil, "accepted", nil},
		{"receipt", []string{receipt}, "delivered", []string{"a delivered"}},
		{"receipt of two devices", []string{receipt, strings.Replace(receipt, "balcony", "chamber", 1)}, "delivered", []string{"a delivered"}},
		{"receipt without resource", []string{strings.Replace(receipt, "/balcony", "", 1)}, "delivered", []string{"a delivered"}},
		{"receipt, marker", []string{receipt, marker}, "displayed", []string{"a delivered", "a displayed"}},
		{"marker, receipt", []string{marker, receipt}, "displayed", []string{"a displayed", "a displayed"}},
		{"acknowledged", []string{strings.Replace(marker, "displayed", "acknowledged", 1)}, "displayed", []string{"a displayed"}},
		{"received", []string{strings.Replace(marker, "displayed", "received", 1)}, "delivered", []string{"a delivered"}},
		{"both in one", []string{strings.Replace(marker, "<displayed", "<received xmlns='urn:xmpp:receipts' id='a'/><displayed", 1)}, "displayed", []string{"a delivered", "a displayed"}},
		{"error", []string{failure}, "failed", []string{"a failed"}},
		{"error of the server", []string{strings.Replace(failure, "juliet@", "", 1)}, "failed", []string{"a failed"}},
		{"error, receipt", []string{failure, receipt}, "delivered", []string{"a failed", "a delivered"}},
		{"receipt, error", []string{receipt, failure}, "delivered", []string{"a delivered"}},
		{"receipt of a stranger", []string{strings.Replace(receipt, "juliet", "mallory", 1)}, "accepted", nil},
		{"error of a stranger", []string{strings.Replace(failure, "juliet@example.com", "elsewhere.example", 1)}, "accepted", nil},
		{"receipt of the server", []string{strings.Replace(receipt, "juliet@example.com/balcony", "example.com", 1)}, "accepted", nil},
		{"receipt for another", []string{strings.Replace(receipt, "bot@", "other@", 1)}, "accepted", nil},
		{"receipt of another id", []string{strings.Replace(receipt, "id='a'", "id='b'", 1)}, "accepted", nil},
		{"receipt without id", []string{strings.Replace(receipt, " id='a'", "", 1)}, "accepted", nil},
		{"an error that quotes a receipt", []string{strings.Replace(strings.Replace(receipt, "<message", "<message type='error'", 1), "type=", "id='q' type=", 1)}, "accepted", nil},
		{"plain", []string{strings.Replace(receipt, "<received xmlns='urn:xmpp:receipts' id='a'/>", "<body>a</body>", 1)}, "accepted", nil},
	} {
		for where, keep := range map[string]Keep{"memory": Latest, "changed": Changed, "row": Always, "after a restart": Always} {
			t.Run(tt.name+"/"+where, func(t *testing.T) {
				ctx := context.Background()
				events := new(log)
				db := open(t, "")
				o := Options{Events: events, Now: newClock().now}
				tr := newTracker(t, db, o)
				m := tr.Begin(msg(bot, juliet, "a"), keep)
				if got := tr.state(t, "a"); got != Pending {
					t.Fatal(got)
				}
				m.Settle(nil)
				done := make(chan error, 1)
				m.Save(func(err error) { done <- err })
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if where == "after a restart" {
					tr = newTracker(t, db, o)
				}
				for _, xml := range tt.comes {
					tr.Observe(parse(t, xml))
					if err := db.Sync(ctx); err != nil {
						t.Fatal(err)
					}
				}
				if got := tr.state(t, "a"); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				if told := events.take(t); !slices.Equal(told, tt.told) {
					t.Errorf("told %q, want %q", told, tt.told)
				}
				s, _, _ := tr.Find(ctx, "a", anyone)
				if tt.want == Failed && (s.Condition != "service-unavailable" || s.ErrorType != "cancel" || s.Text != "Gone fishing" || s.Failed == nil) {
					t.Errorf("%+v", s)
				}
				if tt.want != Failed && (s.Condition != "" || s.Failed != nil) || s.From != "bot@example.org" || s.To != "juliet@example.com" || s.Accepted == nil {
					t.Errorf("%+v", s)
				}
				if where == "row" || where == "changed" && tt.want != Accepted { // the table says the same
					again := newTracker(t, db, o)
					if got := again.state(t, "a"); got != tt.want {
						t.Errorf("the table says %s, want %s", got, tt.want)
					}
				}
			})
		}
	}
}

// A marker says "up to here" in its conversation (XEP-0333 §1).
func TestUpTo(t *testing.T) {
	for _, restart := range []bool{false, true} {
		events := new(log)
		db := open(t, "")
		o := Options{Events: events, Now: newClock().now}
		tr := newTracker(t, db, o)
		other := jid.Must("nurse@example.com")
		for _, m := range []struct {
			to  jid.JID
			id  string
			err error
		}{{juliet, "1", nil}, {other, "2", nil}, {jid.Must("juliet@example.com/balcony"), "3", nil}, {juliet, "4", stanza.Err(stanza.Gone, "")}, {juliet, "a", nil}, {juliet, "6", nil}} {
			x := tr.Begin(msg(bot, m.to, m.id), Always)
			x.Settle(m.err)
			x.Save(func(error) {})
		}
		if err := db.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if restart {
			tr = newTracker(t, db, o)
		}
		tr.Observe(parse(t, marker))
		if err := db.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]string{"1": Displayed, "2": Accepted, "3": Displayed, "4": Failed, "a": Displayed, "6": Accepted} {
			if got := tr.state(t, id); got != want {
				t.Errorf("restart %v: %s is %s, want %s", restart, id, got, want)
			}
			if got := newTracker(t, db, o).state(t, id); got != want {
				t.Errorf("restart %v: the table says that %s is %s, want %s", restart, id, got, want)
			}
		}
		if told := events.take(t); !slices.Equal(told, []string{"a displayed", "3 displayed", "1 displayed"}) {
			t.Errorf("told %q", told)
		}
	}
}

// Memory is bounded; what is in the database outlives it.
func TestEviction(t *testing.T) {
	db := open(t, "")
	tr := newTracker(t, db, Options{Memory: 4, Now: newClock().now})
	for i := range 3 {
		m := tr.Begin(msg(bot, juliet, fmt.Sprint(i)), map[bool]Keep{true: Always}[i == 1])
		m.Settle(nil)
		m.Save(func(error) {})
	}
	for i := range 4 { // all with one id, of different senders
		tr.Begin(msg(jid.Must(fmt.Sprintf("bot%d@example.org", i)), juliet, "same"), Latest).Settle(nil)
	}
	if err := db.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"0": "none", "1": Accepted, "2": "none", "same": Accepted} {
		if got := tr.state(t, id); got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}
	if len(tr.byID) != 1 {
		t.Errorf("%d ids are known", len(tr.byID))
	}
	s, ok, err := tr.Find(context.Background(), "same", func(from jid.JID) bool { return from.Local() == "bot1" })
	if !ok || err != nil || s.From != "bot1@example.org" {
		t.Errorf("%+v, %v, %v", s, ok, err)
	}
	if _, ok, _ := tr.Find(context.Background(), "same", func(jid.JID) bool { return false }); ok {
		t.Error("found without permission")
	}
	tr.Observe(parse(t, strings.NewReplacer("id='a'", "id='1'").Replace(receipt)))
	if err := db.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := tr.state(t, "1"); got != Delivered {
		t.Error(got)
	}
}

// A refusal is a failure; that something of ours broke tells nothing.
func TestSettle(t *testing.T) {
	tr := newTracker(t, open(t, ""), Options{})
	tr.Begin(msg(bot, juliet, "a"), Latest).Settle(fmt.Errorf("wrapped: %w", stanza.Err(stanza.Forbidden, "no")))
	tr.Begin(msg(bot, juliet, "b"), Latest).Settle(errors.New("disk"))
	if s, _, _ := tr.Find(context.Background(), "a", anyone); s.State != Failed || s.Condition != "forbidden" || s.ErrorType != "auth" || s.Text != "no" {
		t.Errorf("%+v", s)
	}
	if got := tr.state(t, "b"); got != Pending {
		t.Error(got)
	}
	var none *Tracker
	m := none.Begin(msg(bot, juliet, "a"), Always)
	m.Settle(nil)
	none.Observe(parse(t, receipt))
	if m.Row() != nil || none.state(t, "a") != "none" {
		t.Error("nobody follows something")
	}
}

func TestTrim(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path)
	tr := newTracker(t, db, Options{Now: c.now})
	for i := range trimStep + 10 {
		tr.Begin(msg(bot, juliet, fmt.Sprint(i)), Always).Save(func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	c.at.Add(int64(4 * 24 * time.Hour / time.Microsecond))
	tr.Begin(msg(bot, juliet, "young"), Always).Save(func(error) {})
	c.at.Add(int64(4 * 24 * time.Hour / time.Microsecond))
	if err := tr.Trim(context.Background()); err != nil {
		t.Fatal(err)
	}
	db.Close()
	tr = newTracker(t, open(t, path), Options{Now: c.now})
	if a, b := tr.state(t, "0"), tr.state(t, "young"); a != "none" || b != Pending {
		t.Error(a, b)
	}
}

// Receipts count for accounts without a session too, and go on to where they go.
func TestModule(t *testing.T) {
	db := open(t, "")
	tr := newTracker(t, db, Options{Now: newClock().now})
	s := modtest.New(t, tr)
	tr.Begin(msg(bot, juliet, "a"), Latest).Settle(nil)
	c := s.Connect("juliet@example.com/balcony")
	c.Send(`<message to='bot@example.org'><received xmlns='urn:xmpp:receipts' id='a'/></message>`)
	if got := tr.state(t, "a"); got != Delivered {
		t.Error(got)
	}
	// Nobody is tricked by a false sender: the router has stamped it.
	tr.Begin(msg(bot, juliet, "b"), Latest).Settle(nil)
	mallory := s.Connect("mallory@example.com/x")
	mallory.Send(`<message to='bot@example.org'><received xmlns='urn:xmpp:receipts' id='b'/></message>`)
	if got := tr.state(t, "b"); got != Accepted {
		t.Error(got)
	}
}

// FuzzObserve: whatever comes, the state of a message only goes on.
func FuzzObserve(f *testing.F) {
	for _, xml := range []string{receipt, marker, failure} {
		f.Add(xml)
	}
	db := open(f, "")
	tr := newTracker(f, db, Options{Memory: 64})
	order := []string{Pending, Failed, Delivered, Displayed}
	f.Fuzz(func(t *testing.T, in string) {
		st, err := stanza.ParseDocument([]byte(in))
		if err != nil {
			return
		}
		const id = "a"
		tr.Begin(msg(bot, juliet, id), Latest)
		for _, to := range []jid.JID{st.To, bot} {
			st.To = to
			before := tr.state(t, id)
			tr.Observe(st)
			if after := tr.state(t, id); slices.Index(order, after) < slices.Index(order, before) {
				t.Fatalf("from %s to %s", before, after)
			}
		}
	})
}

// BenchmarkPlain is what following one message costs its sender, and a message that
// is nobody's receipt.
func BenchmarkPlain(b *testing.B) {
	tr := newTracker(b, open(b, ""), Options{})
	st := msg(bot, juliet, "id")
	b.Run("send", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tr.Begin(st, Latest).Settle(nil)
		}
	})
	b.Run("observe", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tr.Observe(st)
		}
	})
}
