package webhook

import (
	"context"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/event"
)

// What an endpoint gets: what concerns its domains or what it watches, as far as its
// filter takes it.
func TestTakes(t *testing.T) {
	ev := func(typ event.Type, host, from, to string) *event.Event {
		e := &event.Event{Type: typ, Host: host}
		if typ == event.Message || typ == event.IQ {
			e.Stanza = []byte("<message xmlns='jabber:client'/>")
		}
		if from != "" {
			e.From = jid.Must(from)
		}
		if to != "" {
			e.To = jid.Must(to)
		}
		return e
	}
	events := []*event.Event{
		0: ev(event.Message, "sms.example.org", "romeo@example.org/orchard", "+4930@sms.example.org"),
		1: ev(event.Message, "sms.example.org", "romeo@example.org/orchard", "+1555@sms.example.org"),
		2: ev(event.IQ, "sms.example.org", "romeo@example.org/orchard", "sms.example.org"),
		3: ev(event.Message, "example.org", "romeo@example.org/orchard", "juliet@example.org"),
		4: ev(event.Message, "example.org", "juliet@example.org/balcony", "romeo@example.org"),
		5: ev(event.Delivery, "example.org", "juliet@example.org", "romeo@example.org"),
		6: ev(event.Registration, "irc.example.org", "romeo@example.org", "irc.example.org"),
		7: ev(event.Message, "example.org", "room@rooms.example.org/nick", "juliet@example.org"),
		8: ev(event.Test, "", "", ""),
	}
	pattern := func(list ...string) (out []jid.Pattern) {
		for _, p := range list {
			out = append(out, jid.MustPattern(p))
		}
		return out
	}
	for _, tt := range []struct {
		name string
		e    Endpoint
		want string
	}{
		{"everything", Endpoint{}, "0 1 2 3 4 5 6 7"},
		{"domain", Endpoint{Domains: []string{"SMS.example.org"}}, "0 1 2"},
		{"sync", Endpoint{Domains: []string{"sms.example.org"}, Sync: true}, "0 1"},
		{"watch", Endpoint{Watch: pattern("juliet@example.org")}, "3 5 7"},
		{"watch host", Endpoint{Watch: pattern("example.org")}, "3 4 5 6 7"},
		{"domain and watch", Endpoint{Domains: []string{"irc.example.org"}, Watch: pattern("juliet@example.org")}, "3 5 6 7"},
		{"types", Endpoint{Filter: event.Filter{Types: []event.Type{event.IQ, event.Registration}}}, "2 6"},
		{"host", Endpoint{Filter: event.Filter{Hosts: []string{"Example.org"}}}, "3 4 5 7"},
		{"pattern", Endpoint{Filter: event.Filter{JIDs: pattern("+49*@sms.example.org")}}, "0"},
		{"room", Endpoint{Filter: event.Filter{Rooms: []jid.JID{jid.Must("room@rooms.example.org")}}}, "7"},
		{"domain and type", Endpoint{Domains: []string{"sms.example.org"}, Filter: event.Filter{Types: []event.Type{event.IQ}}}, "2"},
	} {
		s := modtest.New(t)
		tt.e.URL = "https://app.example/hook"
		w, stop := start(t, s, tt.e, Options{Transport: &carrier{}, Watcher: watchers{}})
		var got []string
		for i, e := range events {
			if w.find("app").def.Load().takes(e) {
				got = append(got, string(rune('0'+i)))
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: gets %s, want %s", tt.name, s, tt.want)
		}
		stop()
	}
}

// The formats, and the trace of what has caused the event.
func TestFormats(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for format, want := range map[event.Format][2]string{
		event.JSON: {"application/json", `"body":"hi"`},
		event.XML:  {"application/xml", `<message xmlns='jabber:client' from='romeo@example.org/orchard' to='bot@gw.example.org' type='chat' id='m1'><body>hi</body></message>`},
		event.CPIM: {"message/cpim", "From: <im:romeo@example.org>\r\nTo: <im:bot@gw.example.org>\r\n"},
	} {
		c := &carrier{}
		c.answer = func(r *http.Request, _ int) (*http.Response, error) {
			if ct := r.Header.Get("Content-Type"); ct != want[0] {
				t.Errorf("%s: Content-Type %q", format, ct)
			}
			if tp := r.Header.Get("traceparent"); tp != trace {
				t.Errorf("%s: traceparent %q", format, tp)
			}
			verify(t, secret, request{Header: r.Header, Body: []byte(c.bodies[0])})
			return status(200)
		}
		s := modtest.New(t)
		w, stop := start(t, s, Endpoint{URL: "https://app.example/hook", Format: format}, Options{Transport: c})
		ev := asking(t, greet)
		ev.Trace = trace
		if err := w.opts.Log.Append(ev, nil); err != nil {
			t.Fatal(err)
		}
		drained(t, s)
		stop()
		if c.count() != 1 || !strings.Contains(c.bodies[0], want[1]) {
			t.Errorf("%s: posted %q, want %q", format, c.bodies, want[1])
		}
	}
}

// A silent endpoint hears and does not speak.
func TestSilent(t *testing.T) {
	for _, tt := range []struct {
		silent  bool
		domains []string
		want    int
	}{{false, nil, 1}, {true, nil, 0}, {true, []string{"gw.example.org"}, 0}} {
		s := modtest.New(t)
		w, stop := start(t, s, Endpoint{URL: "https://app.example/", Silent: tt.silent, Sync: true, Domains: tt.domains}, Options{Transport: &carrier{}})
		e := w.find("app")
		list, err := e.replies(e.def.Load(), asking(t, greet), response{code: 200, media: "text/plain", body: []byte("hello")})
		if err != nil || len(list) != tt.want {
			t.Errorf("%+v: %d answers, %v", tt, len(list), err)
		}
		if w.Asks("gw.example.org") == tt.silent || e.def.Load().takes(asking(t, version)) != tt.silent {
			t.Errorf("%+v: requests are asked", tt)
		}
		stop()
	}
}

// A full outbox of a watching endpoint drops events and refuses nothing; that of a
// gateway refuses what is sent to it, and no other endpoint has half of it.
func TestFullApart(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(500) }}
	synctest.Test(t, func(t *testing.T) {
		s := modtest.New(t)
		w, _ := start(t, s, Endpoint{URL: "https://app.example/hook", Domains: []string{"gw.example.org"}},
			Options{Transport: c, Resolver: names, MaxPending: 2, Schedule: Schedule()})
		if err := second(w.Put(context.Background(), Endpoint{Name: "all", URL: "https://app.example/all"}, NoVersion)); err != nil {
			t.Fatal(err)
		}
		send := func(host string) error {
			st := modtest.Parse(t, greet)
			return w.opts.Log.Append(event.Of(event.Message, host, st), nil)
		}
		for range 4 {
			if err := send("other.example.org"); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 4 {
			if err := send("gw.example.org"); (err != nil) != (i >= 2) {
				t.Errorf("message %d to the gateway: %v", i, err)
			}
		}
		time.Sleep(time.Second)
		for _, st := range w.Status() {
			switch {
			case st.Name == "all" && (st.Pending != 2 || st.Dropped != 6),
				st.Name == "app" && (st.Pending != 2 || st.Dropped != 0):
				t.Errorf("status %+v", st)
			}
		}
	})
}

// Messages in the tables of the version before there was a log are posted, in order,
// and their dead letters, and what was gone, are there.
func TestOlderTables(t *testing.T) {
	s := modtest.New(t)
	ctx := context.Background()
	first, err := fs.ReadFile(migrations, "migrations/00001_webhook.sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store.Migrate(ctx, "webhook", fstest.MapFS{"00001_webhook.sql": {Data: first}}); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	doc := func(id string) []byte {
		return modtest.Parse(t, `<message from='romeo@example.org/orchard' to='bot@gw.example.org/x' id='`+id+`'><body>hi</body></message>`).AppendDocument(nil)
	}
	err = s.Store.Write(ctx, func(tx *store.Tx) error {
		for i, id := range []string{"a", "b", "c"} {
			_, err := tx.Exec(`INSERT INTO webhook_outbox (seq, endpoint, id, sender, recipient, stanza, created, attempts, next_try)
				VALUES (?, 'app', ?, 'romeo@example.org', 'bot@gw.example.org', ?, ?, ?, 0)`, old.UnixMicro()+int64(i), "msg_"+id, doc(id), old.UnixMicro(), i)
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec(`INSERT INTO webhook_outbox (seq, endpoint, id, sender, recipient, stanza, created, attempts, next_try)
			VALUES (?, 'left', 'msg_l', 'romeo@example.org', 'bot@gw.example.org', ?, ?, 0, 0)`, old.UnixMicro()+8, doc("l"), old.UnixMicro())
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO webhook_dead (seq, endpoint, id, stanza, created, died, attempts, reason)
			VALUES (?, 'app', 'msg_d', ?, ?, ?, 7, 'status 404')`, old.UnixMicro()-5, doc("d"), old.UnixMicro(), old.UnixMicro()+9)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO webhook_gone (endpoint, url, since) VALUES ('gone', 'https://app.example/gone', 1)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []request
	a := newApp(t, nil)
	w, stop := start(t, s, Endpoint{URL: a.URL, Domains: []string{"gw.example.org"}}, Options{})
	for range 3 {
		got = append(got, a.next(t))
	}
	for i, id := range []string{"a", "b", "c"} {
		d := got[i].Event
		if d.Data.ID != id || d.Data.To != "bot@gw.example.org/x" || d.Host != "gw.example.org" || !d.Timestamp.Equal(old) ||
			d.ID != event.FormatID(old.UnixMicro()+int64(i)) {
			t.Errorf("posted %+v", d)
		}
	}
	graves, err := w.Dead(ctx, "app", Page{})
	if err != nil || len(graves) != 1 || graves[0].Attempts != 7 || graves[0].Reason != "status 404" || !graves[0].Ended.Equal(old.Add(9*time.Microsecond)) {
		t.Fatalf("dead letters %+v, %v", graves, err)
	}
	if n, err := w.Replay(ctx, "app", graves[0].ID); n != 1 || err != nil {
		t.Errorf("replayed %d, %v", n, err)
	}
	if r := a.next(t); r.Event.Data.ID != "d" {
		t.Errorf("posted %+v", r.Event)
	}
	for deadline := time.Now().Add(20 * time.Second); rows(t, s.Store, waiting+" AND endpoint = (SELECT id FROM webhook_endpoint WHERE name = 'app')") > 0; {
		if time.Now().After(deadline) {
			t.Fatal("not drained")
		}
	}
	for _, table := range []string{"webhook_outbox", "webhook_dead", "webhook_gone"} {
		if n := rows(t, s.Store, table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
	stop()
	// Endpoints that come back have what was theirs.
	b := newApp(t, nil)
	_, stop = start(t, s, Endpoint{Name: "left", URL: b.URL}, Options{})
	if r := b.next(t); r.Event.Data.ID != "l" {
		t.Errorf("posted %+v", r.Event)
	}
	stop()
	w, _ = start(t, s, Endpoint{Name: "gone", URL: "https://app.example/gone"}, Options{Transport: &carrier{}})
	if st := w.Status()[0]; st.State != "gone" {
		t.Errorf("status %+v", st)
	}
}

// FuzzAnswer: whatever an endpoint answers, what is sent on comes from an address that
// is the endpoint's to use, and is a stanza that can be read again.
func FuzzAnswer(f *testing.F) {
	for _, seed := range [][2]string{
		{"application/json", `{"reply":{"body":"x"},"messages":[{"from":"a@gw.example.org","extensions":"<a xmlns='u'/>"}]}`},
		{"application/json", `{"result":"<a xmlns='u'/>"}`},
		{"application/json", `{"error":{"condition":"gone"}}`},
		{"application/xml", `<message from='juliet@example.org'><body>x</body></message>`},
		{"text/xml", `<iq type='result'/>`},
		{"text/plain", "hello"},
		{"message/cpim", "From: <im:juliet@example.org>\r\n\r\nContent-Type: text/plain\r\n\r\nx"},
	} {
		f.Add(seed[0], []byte(seed[1]), true)
		f.Add(seed[0], []byte(seed[1]), false)
	}
	s := modtest.New(f)
	w, _ := start(f, s, Endpoint{URL: "https://app.example/", Domains: []string{"gw.example.org"}}, Options{Transport: &carrier{}})
	e := w.find("app")
	f.Fuzz(func(t *testing.T, media string, body []byte, iq bool) {
		xml := greet
		if iq {
			xml = version
		}
		ev := asking(t, xml)
		list, _ := e.replies(e.def.Load(), ev, response{code: 200, media: media, body: body})
		if len(list) > maxReplies {
			t.Errorf("%d stanzas", len(list))
		}
		for _, st := range list {
			if st.From.Domain() != "gw.example.org" {
				t.Errorf("%s is from somebody else", st)
			}
			if _, err := stanza.ParseDocument(st.AppendDocument(nil)); err != nil {
				t.Errorf("%s: %v", st, err)
			}
			if st.Kind == stanza.IQ && (!iq || st.ID != "v1" || st.To.String() != "romeo@example.org/orchard") {
				t.Errorf("%s answers nothing", st)
			}
		}
	})
}
