package webhook

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/event"
	"trivium/httpapi/message"
)

var (
	secret    = "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdefghijklmn"))
	oldSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("nmlkjihgfedcba9876543210"))
)

// request is one post that an application has got.
type request struct {
	Header http.Header
	Body   []byte
	Event  Event
}

// table names the rows of webhook_delivery in one state.
const (
	waiting = "webhook_delivery WHERE state = 0"
	dead    = "webhook_delivery WHERE state = 2"
)

// app is an HTTP server that keeps what it is posted, and answers with handle.
type app struct {
	*httptest.Server
	got chan request
}

func newApp(t testing.TB, handle func(w http.ResponseWriter, r request)) *app {
	a := &app{got: make(chan request, 10000)}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		rq := request{Header: r.Header, Body: body}
		if err := json.Unmarshal(body, &rq.Event); err != nil {
			t.Errorf("posted %q: %v", body, err)
		}
		if handle != nil {
			handle(w, rq)
		}
		a.got <- rq
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *app) next(t testing.TB) request {
	t.Helper()
	select {
	case r := <-a.got:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was posted")
		panic("unreachable")
	}
}

// start runs a Service with one endpoint on s; stop ends it.
func start(t testing.TB, s *modtest.Server, e Endpoint, o Options) (w *Service, stop func()) {
	t.Helper()
	if e.Name == "" {
		e.Name = "app"
	}
	if e.Keys == nil {
		e.Keys = []string{secret}
	}
	if o.Transport == nil {
		e.AllowPrivate = true
	}
	if o.Schedule == nil {
		o.Schedule = []time.Duration{time.Millisecond, 10 * time.Millisecond}
	}
	if o.Probe == 0 && o.Transport == nil {
		o.Probe = 10 * time.Millisecond
	}
	o.Router, o.Store, o.Logger = s.Router, s.Store, s.Host.Log
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Store.Sync(ctx); err != nil { // in earnest New comes before all traffic
		t.Fatal(err)
	}
	if o.Log == nil {
		log, err := event.NewLog(ctx, event.Options{Store: s.Store, Logger: s.Host.Log})
		if err != nil {
			t.Fatal(err)
		}
		o.Log = log
	}
	w, err := New(ctx, []Endpoint{e}, o)
	if err != nil {
		t.Fatal(err)
	}
	serve(s.Router, w)
	over := make(chan struct{})
	go func() { defer close(over); w.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-over })
	t.Cleanup(stop)
	return w, stop
}

// watching builds a Service when modules register, as the wiring does.
type watching struct {
	t    testing.TB
	e    Endpoint
	o    Options
	w    *Service
	stop func()
}

func (m *watching) Register(h *module.Host) error {
	s := &modtest.Server{Host: h, Router: h.Router, Store: h.Store}
	log, err := event.NewLog(context.Background(), event.Options{Store: h.Store})
	if err != nil {
		return err
	}
	recorder := event.NewRecorder(log)
	m.o.Log, m.o.Watcher = log, recorder
	m.w, m.stop = start(m.t, s, m.e, m.o)
	return recorder.Register(h)
}

// shelf keeps messages for accounts that are offline.
type shelf struct{ kept chan string }

func (s shelf) Register(h *module.Host) error {
	h.NoSession(func(_ context.Context, p *module.Packet) error {
		s.kept <- p.Stanza.String()
		return module.ErrHandled
	})
	return nil
}

func online(t testing.TB, s *modtest.Server, full string) *modtest.Client {
	c := s.Connect(full)
	c.Session.SetPresence(&module.Presence{Stanza: modtest.Parse(t, "<presence/>")})
	return c
}

func rows(t testing.TB, db *store.DB, table string) int {
	t.Helper()
	if err := db.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow(context.Background(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// drained waits until the outbox is empty.
func drained(t testing.TB, s *modtest.Server) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); rows(t, s.Store, waiting) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the outbox is not drained")
		}
	}
	rows(t, s.Store, waiting) // who is told of the write has been told now
}

// verify checks a signature with the standard's own library.
func verify(t testing.TB, secret string, r request) {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Verify(r.Body, r.Header); err != nil {
		t.Errorf("signature: %v in %v", err, r.Header)
	}
}

func TestPost(t *testing.T) {
	s := modtest.New(t)
	a := newApp(t, nil)
	start(t, s, Endpoint{URL: a.URL + "/hook", Domains: []string{"gw.example.org"}, Keys: []string{secret, oldSecret}}, Options{})
	romeo := s.Connect("romeo@example.org/orchard")
	romeo.Send(`<message to='bot@gw.example.org/x' type='chat' id='m1' xml:lang='en'><body>a &lt; b 🌹</body><subject>s</subject><thread>t1</thread><e xmlns='u'/></message>`)
	r := a.next(t)
	verify(t, secret, r)
	verify(t, oldSecret, r)
	other, _ := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString([]byte("somebody else's secret..")))
	if other.Verify(r.Body, r.Header) == nil {
		t.Error("a foreign secret verifies")
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type %q", ct)
	}
	if id := r.Header.Get("webhook-id"); id != r.Event.ID || !strings.HasPrefix(id, "evt_") {
		t.Errorf("webhook-id %q, event %q", id, r.Event.ID)
	}
	d := r.Event.Data
	xml := d.XML
	d.XML = ""
	want := message.Data{ID: "m1", From: "romeo@example.org/orchard", To: "bot@gw.example.org/x", Type: "chat", Body: "a < b 🌹", Subject: "s", Thread: "t1", Lang: "en"}
	if !reflect.DeepEqual(d, want) || r.Event.Type != event.Message || r.Event.Host != "gw.example.org" || time.Since(r.Event.Timestamp).Abs() > time.Minute {
		t.Errorf("got %+v, want %+v", r.Event, want)
	}
	if diff := modtest.Diff(`<message xmlns='jabber:client' from='romeo@example.org/orchard' to='bot@gw.example.org/x' type='chat' id='m1' xml:lang='en'>
		<body>a &lt; b 🌹</body><subject>s</subject><thread>t1</thread><e xmlns='u'/></message>`, xml); diff != "" {
		t.Errorf("%s: %s", diff, xml)
	}
	drained(t, s)
	romeo.Quiet()
}

// What an endpoint answers is delivered as the addressed user's reply.
func TestReplies(t *testing.T) {
	for _, tt := range []struct {
		name, media, answer string
		want                []string // to romeo
	}{
		{
			"reply", "application/json", `{"reply":{"body":"hello"},"extra":1}`,
			[]string{`<message from='bot@gw.example.org' to='romeo@example.org/orchard' type='chat' id='*'><body>hello</body><thread>t1</thread></message>`},
		},
		{
			"text", "text/plain; charset=utf-8", "hello\nthere\n",
			[]string{`<message from='bot@gw.example.org' to='romeo@example.org/orchard' type='chat' id='*'><body>hello
there</body><thread>t1</thread></message>`},
		},
		{
			"several", "application/json",
			`{"reply":{"body":"1"},"messages":[{"body":"2","from":"other@gw.example.org","thread":"t2","id":"mine"},{"to":"romeo@example.org","type":"normal","subject":"3","extensions":"<e xmlns='u'/>"}]}`,
			[]string{
				`<message from='bot@gw.example.org' to='romeo@example.org/orchard' type='chat' id='*'><body>1</body><thread>t1</thread></message>`,
				`<message from='other@gw.example.org' to='romeo@example.org/orchard' type='chat' id='mine'><body>2</body><thread>t2</thread></message>`,
				`<message from='bot@gw.example.org' to='romeo@example.org' type='normal' id='*'><subject>3</subject><e xmlns='u'/></message>`,
			},
		},
		{"nothing", "application/json", `{}`, nil},
		{"empty", "text/plain", "\n", nil},
		{"no JSON", "application/json", `{"reply":{"body":"x"`, nil},
		{"a page", "text/html", `<html/>`, nil},
		{"not ours", "application/json", `{"reply":{"from":"juliet@example.org","body":"forged"}}`, nil},
		{"control", "application/json", `{"reply":{"body":"\u0001"}}`, nil},
		{"way out", "application/json", `{"reply":{"extensions":"</message><message from='juliet@example.org'>"}}`, nil},
		{"large", "text/plain", strings.Repeat("x", maxResponse+1), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := modtest.New(t)
			a := newApp(t, func(w http.ResponseWriter, _ request) {
				w.Header().Set("Content-Type", tt.media)
				io.WriteString(w, tt.answer)
			})
			w, _ := start(t, s, Endpoint{URL: a.URL, Domains: []string{"gw.example.org"}}, Options{})
			romeo := online(t, s, "romeo@example.org/orchard")
			romeo.Send(`<message to='bot@gw.example.org' type='chat'><body>hi</body><thread>t1</thread></message>`)
			a.next(t)
			drained(t, s) // the reply came before the row went
			got := romeo.Take()
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i := range got {
				if d := modtest.Diff(tt.want[i], got[i]); d != "" {
					t.Errorf("%s: %s", d, got[i])
				}
			}
			if st := w.Status()[0]; st.Delivered != 1 || st.Pending != 0 || st.State != "up" || st.LastCode != 200 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// A reply that comes again after a crash has the same id.
func TestReplyID(t *testing.T) {
	s := modtest.New(t)
	a := newApp(t, func(w http.ResponseWriter, _ request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "yes")
	})
	start(t, s, Endpoint{URL: a.URL, Domains: []string{"gw.example.org"}}, Options{})
	romeo := online(t, s, "romeo@example.org/orchard")
	romeo.Send(`<message to='bot@gw.example.org'><body>hi</body></message>`)
	id := a.next(t).Header.Get("webhook-id")
	st := modtest.Parse(t, romeo.Next())
	if st.ID != id+"-0" || st.Type != stanza.Normal {
		t.Errorf("reply %s to %s", st, id)
	}
}

// The row stays until the reply is safe: here, written to romeo's socket.
func TestRowWaitsForReply(t *testing.T) {
	s := modtest.New(t)
	a := newApp(t, func(w http.ResponseWriter, r request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Event.Data.Body == "first" {
			io.WriteString(w, `{"messages":[{"to":"romeo@example.org","body":"for romeo"},{"body":"for juliet"}]}`)
		}
	})
	start(t, s, Endpoint{URL: a.URL, Domains: []string{"gw.example.org"}}, Options{})
	romeo := online(t, s, "romeo@example.org/orchard")
	juliet := online(t, s, "juliet@example.org/balcony")
	romeo.Stall()
	juliet.Send(`<message to='bot@gw.example.org'><body>first</body></message>`)
	juliet.Send(`<message to='bot@gw.example.org'><body>second</body></message>`)
	a.next(t)
	juliet.Expect(`<message from='bot@gw.example.org' to='juliet@example.org/balcony' type='normal'><body>for juliet</body></message>`)
	if n := rows(t, s.Store, waiting); n != 2 {
		t.Fatalf("%d rows while romeo does not read, want 2", n)
	}
	if len(a.got) > 0 {
		t.Error("the conversation went on before the reply was safe")
	}
	romeo.Resume()
	a.next(t)
	drained(t, s)
	romeo.Expect(`<message from='bot@gw.example.org' to='romeo@example.org' type='normal'><body>for romeo</body></message>`)
}

// A message is acknowledged when its row is committed.
func TestReceipt(t *testing.T) {
	s := modtest.New(t)
	a := newApp(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(500) })
	start(t, s, Endpoint{URL: a.URL, Domains: []string{"gw.example.org"}}, Options{})
	romeo := s.Connect("romeo@example.org/orchard")
	done := make(chan error, 1)
	rc := router.NewReceipt(func(err error) {
		var n int
		if e := s.Store.QueryRow(context.Background(), "SELECT COUNT(*) FROM "+waiting).Scan(&n); e != nil || n != 1 {
			t.Errorf("%d rows, %v", n, e)
		}
		done <- err
	})
	romeo.SendStanza(modtest.Parse(t, `<message to='bot@gw.example.org'><body>hi</body></message>`), rc)
	rc.Release(nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, _ request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "seen")
	})
	kept := shelf{make(chan string, 10)}
	m := &watching{t: t, e: Endpoint{URL: a.URL, Watch: []jid.Pattern{jid.MustPattern("juliet@example.org")}}}
	s := modtest.New(t, m, kept)
	romeo := online(t, s, "romeo@example.org/orchard")
	const reply = `<message from='juliet@example.org' to='romeo@example.org/orchard' type='chat'><body>seen</body></message>`

	// Offline: stored and posted.
	romeo.Send(`<message to='juliet@example.org' type='chat' id='1'><body>hi</body></message>`)
	if r := a.next(t); r.Event.Data.To != "juliet@example.org" || r.Event.Data.Body != "hi" {
		t.Errorf("posted %+v", r.Event)
	}
	romeo.Expect(reply)
	<-kept.kept

	// Online: delivered and posted; the answer comes from the bare address.
	juliet := online(t, s, "juliet@example.org/balcony")
	romeo.Send(`<message to='juliet@example.org/balcony' type='chat' id='2'><body>hi</body></message>`)
	juliet.Expect(`<message from='romeo@example.org/orchard' to='juliet@example.org/balcony' type='chat' id='2'><body>hi</body></message>`)
	if r := a.next(t); r.Event.Data.ID != "2" {
		t.Errorf("posted %+v", r.Event)
	}
	romeo.Expect(reply)

	// Lost by a session after it was seen: not posted twice.
	juliet.Stall()
	romeo.Send(`<message to='juliet@example.org/balcony' type='chat' id='3'><body>hi</body></message>`)
	if r := a.next(t); r.Event.Data.ID != "3" {
		t.Errorf("posted %+v", r.Event)
	}
	romeo.Expect(reply)
	juliet.Close()
	<-kept.kept
	// Errors and others' messages are not posted.
	romeo.Send(`<message to='juliet@example.org' type='error'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`)
	romeo.Send(`<message to='romeo@example.org' type='chat'><body>to myself</body></message>`)
	drained(t, s)
	if len(a.got) > 0 {
		t.Errorf("posted %+v", (<-a.got).Event)
	}
}

// The SSRF guard looks at the address that is connected to.
func TestGuard(t *testing.T) {
	a := newApp(t, nil)
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "0x7f000001", "2130706433", "127.1"} {
		port := a.URL[strings.LastIndexByte(a.URL, ':'):]
		c := &http.Client{Transport: newTransport(Endpoint{Timeout: 5 * time.Second, Concurrency: 1})}
		rs, err := c.Get("http://" + host + port)
		if err == nil {
			rs.Body.Close()
			t.Errorf("%s: connected", host)
		}
	}
	if len(a.got) != 0 {
		t.Error("the guard let a request through")
	}
	c := &http.Client{Transport: newTransport(Endpoint{Timeout: 5 * time.Second, Concurrency: 1, AllowPrivate: true})}
	rs, err := c.Post(a.URL, "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatalf("AllowPrivate: %v", err)
	}
	rs.Body.Close()
}

// A killed server loses nothing and keeps the order of each conversation.
func TestRestart(t *testing.T) {
	const conversations, each = 5, 40
	var mu sync.Mutex
	seen := map[string][]string{} // conversation -> bodies, repeats left out
	ids := map[string]bool{}
	n := 0
	a := newApp(t, func(w http.ResponseWriter, r request) {
		mu.Lock()
		defer mu.Unlock()
		n++
		if n%7 == 0 {
			w.WriteHeader(503)
			return
		}
		if id := r.Header.Get("webhook-id"); !ids[id] {
			ids[id] = true
			seen[r.Event.Data.To] = append(seen[r.Event.Data.To], r.Event.Data.Body)
		}
	})
	path := filepath.Join(t.TempDir(), "store.db")
	s := modtest.NewWith(t, modtest.Options{Store: store.Options{Path: path}})
	e := Endpoint{URL: a.URL, Domains: []string{"gw.example.org"}}
	o := Options{Grace: time.Nanosecond}
	_, stop := start(t, s, e, o)
	romeo := s.Connect("romeo@example.org/orchard")
	for i := range each {
		for c := range conversations {
			romeo.Send(fmt.Sprintf(`<message to='bot%d@gw.example.org'><body>%d</body></message>`, c, i))
		}
		if i%10 == 5 { // posts under way are torn off
			stop()
			_, stop = start(t, s, e, o)
		}
	}
	drained(t, s)
	mu.Lock()
	defer mu.Unlock()
	for c := range conversations {
		got := seen[fmt.Sprintf("bot%d@gw.example.org", c)]
		for i := range max(each, len(got)) {
			if i >= len(got) || got[i] != fmt.Sprint(i) {
				t.Fatalf("conversation %d: %v", c, got)
			}
		}
	}
}
