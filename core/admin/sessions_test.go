package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/stream"
)

// remote is an idle connection from somewhere.
type remote struct{ idle }

func (remote) Info() stream.Info {
	return stream.Info{Framing: "websocket", Secure: true, Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 49152}}
}

// house is a server with the accounts romeo and juliet at example.org.
type house struct {
	t      *testing.T
	now    time.Time
	router *router.Router
	users  *auth.Service
	ops    *Registry
	kicks  map[string]*stream.Error
}

func newHouse(t *testing.T) *house {
	db, err := store.Open(t.Context(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &house{t: t, now: time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC), ops: &Registry{}, kicks: map[string]*stream.Error{}}
	if w.users, err = auth.New(db, auth.Options{Iterations: 4096}); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return w.now }
	w.router = router.New(router.Options{Now: now})
	mods := module.NewHost(w.router, db, slog.New(slog.DiscardHandler), now, []string{"example.org"}, w.users.Exists)
	if err := mods.Build(); err != nil {
		t.Fatal(err)
	}
	w.ops.Add(Accounts(w.users, mods)...)
	w.ops.Add(Tokens(w.users, time.Now)...)
	w.ops.Add(Sessions(w.users, mods)...)
	for _, u := range []string{"romeo@example.org", "juliet@example.org"} {
		if err := w.users.CreateAccount(t.Context(), jid.Must(u), "secret"); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *house) connect(full, client string, manage int) *router.Session {
	w.t.Helper()
	s, err := w.router.Bind(router.Binding{
		JID: jid.Must(full), Client: client, Conn: remote{}, OutboxLimit: 1 << 16, Manage: manage,
		Kick: func(e *stream.Error) { w.kicks[full] = e },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// note logs a client of juliet in.
func (w *house) note(id, software string) {
	w.t.Helper()
	host := w.users.Host("example.org").(interface {
		NoteClient(ctx context.Context, username string, l auth.ClientLogin) (auth.Grant, error)
	})
	_, err := host.NoteClient(w.t.Context(), "juliet", auth.ClientLogin{
		ID: id, Software: software, Device: "a phone", Mechanism: "SCRAM-SHA-256-PLUS", Began: time.Now(), Password: true, Request: "HT-SHA-256-NONE",
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// own runs an operation for juliet and returns what she is told.
func (w *house) own(name string, args Args) (any, string) {
	w.t.Helper()
	out, err := w.ops.RunOwn(w.t.Context(), Caller{}, jid.Must("juliet@example.org/balcony"), name, args)
	var told *Error
	switch {
	case errors.As(err, &told):
		return nil, told.Text
	case errors.Is(err, ErrUnknown):
		return nil, "unknown"
	case err != nil:
		w.t.Fatal(err)
	}
	return out, ""
}

func TestSessionList(t *testing.T) {
	w := newHouse(t)
	w.note("d4565fa7-4d72-4749-b3d3-740edbf87770", "Gajim")
	s := w.connect("juliet@example.org/balcony", "d4565fa7-4d72-4749-b3d3-740edbf87770", 100)
	pr, err := stanza.ParseDocument([]byte(`<presence xmlns='jabber:client'><show>away</show><priority>5</priority>` +
		`<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://gajim.org' ver='x'/></presence>`))
	if err != nil {
		t.Fatal(err)
	}
	s.SetPresence(&router.Presence{Stanza: pr, Priority: 5})
	var turn router.Turn
	s.Deliver(&turn, stanza.New(stanza.Message, "chat", jid.Must("romeo@example.org"), s.JID, "1"), nil)
	turn.Flush()
	plain := w.connect("juliet@example.org/chamber", "", 0)
	plain.SetPresence(&router.Presence{Stanza: stanza.New(stanza.Presence, "", plain.JID, jid.JID{}, "")})
	w.connect("romeo@example.org/orchard", "", 0)
	if !s.Detach() {
		t.Fatal("not detached")
	}
	w.now = w.now.Add(90 * time.Second)

	since := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	got, told := w.own("session list", nil)
	list, _ := got.([]Session)
	if told != "" || len(list) != 2 {
		t.Fatalf("%v, %s", got, told)
	}
	if list[0].Client == "" {
		t.Error("the client has no name")
	}
	list[0].Client = ""
	want := []Session{
		{
			JID: "juliet@example.org/balcony", Since: since, Idle: 90, Framing: "websocket", Address: "192.0.2.7:49152", Secure: true,
			Presence: "away", Priority: 5, Software: "Gajim", Device: "a phone", Connection: "hibernated", Management: true, Unacknowledged: 1,
		},
		{
			JID: "juliet@example.org/chamber", Since: since, Idle: 90, Framing: "websocket", Address: "192.0.2.7:49152", Secure: true,
			Presence: "available", Connection: "attached",
		},
	}
	if !reflect.DeepEqual(list, want) {
		t.Errorf("got  %+v\nwant %+v", list, want)
	}
	text, err := json.Marshal(list[1])
	if err != nil || strings.Contains(string(text), "software") {
		t.Errorf("%s, %v", text, err)
	}
	// An operator sees the same.
	byOperator, err := w.ops.Run(t.Context(), Caller{}, "session list", Args{"jid": "juliet@example.org"})
	if list, _ := byOperator.([]Session); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", byOperator, err)
	}
}

func TestSessionKick(t *testing.T) {
	for _, tt := range []struct {
		args Args
		want string // who was kicked, or the error
	}{
		{Args{"jid": "juliet@example.org/balcony"}, "juliet@example.org/balcony"},
		{Args{"jid": "juliet@example.org", "resource": "chamber"}, "juliet@example.org/chamber"},
		{Args{"jid": "juliet@example.org"}, "juliet@example.org/balcony juliet@example.org/chamber"},
		{Args{"jid": "juliet@example.org/balcony", "resource": "balcony"}, "juliet@example.org/balcony"},
		{Args{"jid": "juliet@example.org/balcony", "resource": "chamber"}, `juliet@example.org/balcony has another resource than "chamber"`},
		{Args{"jid": "juliet@example.org/hall"}, `juliet@example.org has no session with the resource "hall"`},
		{Args{"jid": "nobody@example.org"}, "there is no such account"},
		{Args{"jid": "nobody@example.net"}, "example.net is not a host of this server; its hosts are [example.org]"},
		{Args{"jid": "a@b@c"}, `"a@b@c" is not an address`},
		{Args{}, `session kick needs the argument "jid"`},
	} {
		w := newHouse(t)
		for _, full := range []string{"juliet@example.org/balcony", "juliet@example.org/chamber", "romeo@example.org/balcony"} {
			w.connect(full, "", 0)
		}
		out, err := w.ops.Run(t.Context(), Caller{}, "session kick", tt.args)
		list, _ := out.([]string)
		got := strings.Join(list, " ")
		var told *Error
		if errors.As(err, &told) {
			got = told.Text
		}
		if got != tt.want {
			t.Errorf("%v: %s, want %s", tt.args, got, tt.want)
		}
		if len(w.kicks) != len(list) {
			t.Errorf("%v: kicked %v", tt.args, w.kicks)
		}
		for _, full := range list {
			if e := w.kicks[full]; e == nil || e.Condition != stream.PolicyViolation {
				t.Errorf("%v: %s was kicked with %v", tt.args, full, e)
			}
		}
	}
}

func TestClients(t *testing.T) {
	w := newHouse(t)
	w.note("phone-id", "Conversations")
	w.note("desk-id", "Gajim")
	w.connect("juliet@example.org/phone", "phone-id", 0)
	w.connect("juliet@example.org/other", "", 0)
	got, told := w.own("client list", nil)
	list, _ := got.([]Client)
	if told != "" || len(list) != 2 {
		t.Fatalf("%v, %s", got, told)
	}
	id := ""
	for _, c := range list {
		if c.Software == "Conversations" {
			id = c.ID
			if c.Sessions != 1 || !c.Token || !c.Password || c.Device != "a phone" || c.Mechanism != "SCRAM-SHA-256-PLUS" || c.LastSeen.IsZero() {
				t.Errorf("%+v", c)
			}
		} else if c.Sessions != 0 {
			t.Errorf("%+v", c)
		}
		if text, err := json.Marshal(c); err != nil || strings.Contains(string(text), "-id\"") {
			t.Errorf("tells what the client is known by: %s, %v", text, err)
		}
	}
	if _, told := w.own("client revoke", Args{"id": "none"}); told != "there is no such client" {
		t.Error(told)
	}
	if _, told := w.own("client revoke", nil); told != `client revoke needs the argument "id"` {
		t.Error(told)
	}
	if got, told := w.own("client revoke", Args{"id": id}); told != "" || !reflect.DeepEqual(got, []string{"juliet@example.org/phone"}) {
		t.Errorf("%v, %s", got, told)
	}
	if e := w.kicks["juliet@example.org/phone"]; len(w.kicks) != 1 || e == nil || e.Condition != stream.NotAuthorized {
		t.Errorf("kicked %v", w.kicks)
	}
	if got, _ := w.own("client list", nil); len(got.([]Client)) != 1 {
		t.Errorf("left are %v", got)
	}
}

// Users reach their own accounts only, and only what is meant for them.
func TestRunOwn(t *testing.T) {
	w := newHouse(t)
	w.connect("romeo@example.org/orchard", "", 0)
	for _, tt := range []struct {
		name string
		args Args
		want string
	}{
		{"session kick", Args{"jid": "romeo@example.org"}, "session kick is for your own account only"},
		{"session kick", Args{"jid": ""}, "session kick is for your own account only"},
		{"session list", Args{"jid": "romeo@example.org"}, "session list is for your own account only"},
		{"session list", Args{"host": "example.org"}, `session list takes no argument "host"`},
		{"user remove", Args{"jid": "juliet@example.org"}, "unknown"},
		{"user list", nil, "unknown"},
		{"token list", nil, "unknown"},
		{"nothing", nil, "unknown"},
		{"session kick", Args{"resource": "orchard"}, `juliet@example.org has no session with the resource "orchard"`},
	} {
		if _, told := w.own(tt.name, tt.args); told != tt.want {
			t.Errorf("%s %v: %q, want %q", tt.name, tt.args, told, tt.want)
		}
	}
	if len(w.kicks) != 0 {
		t.Errorf("kicked %v", w.kicks)
	}
}

func TestChoices(t *testing.T) {
	w := newHouse(t)
	w.note("phone-id", "Conversations")
	w.connect("juliet@example.org/phone", "phone-id", 0)
	find := func(op, arg string) []Choice {
		t.Helper()
		for _, o := range w.ops.Operations() {
			for _, a := range o.Args {
				if o.Name == op && a.Name == arg {
					list, err := a.Choices(t.Context(), Args{"jid": "juliet@example.org"})
					if err != nil {
						t.Fatal(err)
					}
					return list
				}
			}
		}
		t.Fatalf("no argument %s of %s", arg, op)
		return nil
	}
	if got := find("session kick", "resource"); len(got) != 1 || got[0] != (Choice{"phone", "phone, Conversations, a phone, unavailable, attached"}) {
		t.Errorf("%q", got)
	}
	got := find("client revoke", "id")
	if len(got) != 1 || !strings.HasPrefix(got[0].Label, "Conversations, a phone, last seen 2") {
		t.Errorf("%q", got)
	}
	if _, told := w.own("client revoke", Args{"id": got[0].Value}); told != "" {
		t.Error(told)
	}
}
