package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/mod/commands"
	"trivium/core/mod/modtest"
	"trivium/core/store"
)

func newAudit(t *testing.T, o AuditOptions) (*Audit, *store.DB) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	a, err := NewAudit(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return a, db
}

func read(t *testing.T, a *Audit, f Filter, p Page) ([]Entry, int64) {
	t.Helper()
	list, next, err := a.Read(t.Context(), f, p)
	if err != nil {
		t.Fatal(err)
	}
	return list, next
}

// brief is who did what to whom, and what came of it.
func brief(list []Entry) []string {
	out := []string{}
	for _, e := range list {
		s := fmt.Sprintf("%s: %s %s: %s", e.Who, e.Operation, e.Subject, e.Outcome)
		if e.Own {
			s += " (own)"
		}
		out = append(out, s)
	}
	return out
}

// What is done on each of the roads is in the log, and what only looks is not; secrets
// are in no column of it.
func TestAuditRoads(t *testing.T) {
	ops := &Registry{}
	s := modtest.New(t, commands.New(commands.Options{Commands: ops.Commands, Admins: []jid.JID{jid.Must("nurse@example.org")}}))
	users, err := auth.New(s.Store, auth.Options{Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	if ops.Audit, err = NewAudit(t.Context(), s.Store, AuditOptions{}); err != nil {
		t.Fatal(err)
	}
	ops.Add(Accounts(users, s.Host)...)
	ops.Add(Sessions(users, s.Host)...)
	ops.Add(Tokens(users, time.Now)...)
	ops.Add(AuditLog(ops.Audit)...)
	ops.Add(Operation{Name: "break", Run: func(context.Context, Args) (any, error) { return nil, errors.New("inner workings") }})

	// The socket.
	path := filepath.Join(t.TempDir(), "s")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	srv := http.Server{Handler: Handler(ops, slog.New(slog.DiscardHandler))}
	over := make(chan struct{})
	go func() { defer close(over); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-over })
	var made Token
	for _, c := range []struct {
		name string
		args Args
		ok   bool
	}{
		{"user add", Args{"jid": "Paris@Example.org", "password": "hunter2"}, true},
		{"user add", Args{"jid": "paris@example.org", "password": "hunter2"}, false},
		{"user add", Args{"jid": "paris@example.org", "pasword": "hunter2"}, false},
		{"user list", nil, true},
		{"break", nil, false},
		{"none", nil, false},
		{"token add", Args{"name": "shop", "send-as": "shop@example.org"}, true},
	} {
		out, err := Call(t.Context(), path, c.name, c.args)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.name == "token add" {
			if err := json.Unmarshal(out, &made); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A REST token, for an account.
	rest := Caller{Who: made.ID, Name: "shop", Remote: "192.0.2.1:4711"}
	if _, err := ops.Run(t.Context(), rest, "user passwd", Args{"jid": "paris@example.org", "password": "hunter2"}); err != nil {
		t.Error(err)
	}
	if _, err := ops.RunOwn(t.Context(), rest, jid.Must("paris@example.org"), "client revoke", Args{"id": "x"}); err == nil {
		t.Error("there is no such client")
	}
	// Ad-hoc commands: a user's own, and an operator's.
	juliet, nurse := s.Connect("juliet@example.org/balcony"), s.Connect("nurse@example.org/hall")
	execute := func(c *modtest.Client, attrs, form string) string {
		c.Send(`<iq type='set' to='example.org' id='1'><command xmlns='http://jabber.org/protocol/commands' ` + attrs + `>` + form + `</command></iq>`)
		return c.Next()
	}
	execute(juliet, `node='urn:x-trivium:own#session-list'`, "")
	submit := func(c *modtest.Client, node string, values ...string) {
		t.Helper()
		_, sid, _ := strings.Cut(execute(c, `node='`+node+`'`, ""), `sessionid='`)
		sid, _, _ = strings.Cut(sid, `'`)
		form := `<x xmlns='jabber:x:data' type='submit'>`
		for i := 0; i < len(values); i += 2 {
			form += `<field var='` + values[i] + `'><value>` + values[i+1] + `</value></field>`
		}
		if done := execute(c, `node='`+node+`' sessionid='`+sid+`'`, form+`</x>`); !strings.Contains(done, `status='completed'`) {
			t.Error(done)
		}
	}
	s.Connect("juliet@example.org/chamber")
	submit(juliet, ownNode+"session-kick", "resource", "chamber")
	submit(nurse, operatorNode+"user-passwd", "jid", "paris@example.org", "password", "hunter2")

	list, next := read(t, ops.Audit, Filter{}, Page{})
	want := []string{
		"nurse@example.org: user passwd paris@example.org: ok",
		"juliet@example.org: session kick juliet@example.org: ok (own)",
		made.ID + ": client revoke paris@example.org: there is no such client",
		made.ID + ": user passwd paris@example.org: ok",
		"socket: token add " + made.ID + ": ok",
		"socket: break : failed: see the server's log",
		`socket: user add paris@example.org: user add takes no argument "pasword"`,
		"socket: user add paris@example.org: the account exists already",
		"socket: user add paris@example.org: ok",
	}
	if !reflect.DeepEqual(brief(list), want) || next != 0 {
		t.Errorf("the log is\n%s\nwant\n%s", strings.Join(brief(list), "\n"), strings.Join(want, "\n"))
	}
	all, err := json.Marshal(list)
	if err != nil || strings.Contains(string(all), "hunter2") || strings.Contains(string(all), made.Secret) || strings.Contains(string(all), "inner workings") {
		t.Errorf("secrets in %s", all)
	}
	for _, e := range list {
		if e.Operation == "user passwd" && e.Arguments["password"] != hidden {
			t.Errorf("%+v", e)
		}
		if e.Who == made.ID && (e.Name != "shop" || e.Remote != "192.0.2.1:4711") {
			t.Errorf("%+v", e)
		}
	}
}

func TestAuditRead(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	a, _ := newAudit(t, AuditOptions{Now: func() time.Time { return at }})
	for i, e := range []Entry{
		{Who: "a", Operation: "user add", Subject: "juliet@example.org", Outcome: OK},
		{Who: "b", Operation: "user remove", Subject: "juliet@example.org", Outcome: OK},
		{Who: "a", Operation: "users", Subject: "romeo@example.com", Outcome: OK},
		{Who: "a", Operation: "user", Subject: "example.com", Outcome: strings.Repeat("é", 2000)},
		{Who: "b", Operation: "token add", Subject: "0a", Arguments: map[string]string{"name": "x\xff\n"}, Outcome: OK},
	} {
		at = time.Unix(1_800_000_000+int64(i), 0)
		a.Record(t.Context(), e)
	}
	ids := func(list []Entry) string {
		out := ""
		for _, e := range list {
			out += fmt.Sprint(e.ID)
		}
		return out
	}
	for _, tt := range []struct {
		f    Filter
		p    Page
		want string
		next int64
	}{
		{Filter{}, Page{}, "54321", 0},
		{Filter{}, Page{Limit: 2}, "54", 4},
		{Filter{}, Page{Limit: 2, After: 4}, "32", 2},
		{Filter{}, Page{Limit: 2, After: 2}, "1", 0},
		{Filter{}, Page{Limit: 5}, "54321", 0},
		{Filter{Who: "a"}, Page{}, "431", 0},
		{Filter{Operation: "user"}, Page{}, "421", 0},
		{Filter{Operation: "user add"}, Page{}, "1", 0},
		{Filter{Subject: "juliet@example.org"}, Page{}, "21", 0},
		{Filter{Host: "example.com"}, Page{}, "43", 0},
		{Filter{Since: time.Unix(1_800_000_003, 0)}, Page{}, "54", 0},
		{Filter{Until: time.Unix(1_800_000_003, 0)}, Page{}, "321", 0},
		{Filter{Who: "b", Operation: "user", Host: "example.org"}, Page{}, "2", 0},
		{Filter{Who: "c"}, Page{}, "", 0},
	} {
		list, next := read(t, a, tt.f, tt.p)
		if ids(list) != tt.want || next != tt.next {
			t.Errorf("%+v %+v: %s and %d, want %s and %d", tt.f, tt.p, ids(list), next, tt.want, tt.next)
		}
	}
	list, _ := read(t, a, Filter{}, Page{Limit: 2})
	if !list[0].Time.Equal(at) || list[0].Arguments["name"] != "x\n" {
		t.Errorf("%+v", list[0])
	}
	if n := len(list[1].Outcome); n > auditText+3 || n < auditText {
		t.Errorf("%d octets", n)
	}
}

// The log is bounded in age and number, and users cannot push others' entries out.
func TestAuditRetention(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	a, db := newAudit(t, AuditOptions{Keep: time.Hour, MaxEntries: 40, Now: func() time.Time { return at }})
	count := func() (own, others int) {
		t.Helper()
		if err := db.QueryRow(t.Context(), `SELECT coalesce(sum(own), 0), count(*) - coalesce(sum(own), 0) FROM audit_log`).Scan(&own, &others); err != nil {
			t.Fatal(err)
		}
		return own, others
	}
	a.Record(t.Context(), Entry{Who: "socket", Operation: "first"})
	for range 3 * auditTrim {
		a.Record(t.Context(), Entry{Who: "juliet@example.org", Operation: "session kick", Own: true})
	}
	if own, others := count(); own > 10+auditTrim || others != 1 {
		t.Errorf("%d of users, %d of others", own, others)
	}
	for range 3 * auditTrim {
		a.Record(t.Context(), Entry{Who: "socket", Operation: "next"})
	}
	if own, others := count(); own > 10 || others < 30 || others > 30+auditTrim {
		t.Errorf("%d of users, %d of others", own, others)
	}
	if list, _ := read(t, a, Filter{Operation: "first"}, Page{}); len(list) != 0 {
		t.Errorf("the first is there still: %v", brief(list))
	}
	at = at.Add(time.Hour + time.Second)
	if list, _ := read(t, a, Filter{}, Page{}); len(list) != 0 {
		t.Errorf("%d are too old", len(list))
	}
	if _, err := NewAudit(t.Context(), db, AuditOptions{Keep: time.Hour, Now: func() time.Time { return at }}); err != nil {
		t.Fatal(err)
	}
	if own, others := count(); own+others != 0 {
		t.Errorf("%d of users, %d of others are kept", own, others)
	}
}

// What has been done is noted though whoever asked has gone, and is not lost without
// a word when it cannot be.
func TestAuditFailure(t *testing.T) {
	var logged strings.Builder
	a, db := newAudit(t, AuditOptions{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.Record(ctx, Entry{Who: "socket", Operation: "user add", Outcome: OK})
	if list, _ := read(t, a, Filter{}, Page{}); len(list) != 1 {
		t.Errorf("%d entries", len(list))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	a.Record(t.Context(), Entry{Who: "socket", Operation: "user remove", Subject: "juliet@example.org", Outcome: OK})
	if !strings.Contains(logged.String(), "user remove") || !strings.Contains(logged.String(), "juliet@example.org") {
		t.Errorf("logged: %s", logged.String())
	}
	if _, _, err := a.Read(t.Context(), Filter{}, Page{}); err == nil {
		t.Error("a closed store was read")
	}
}

// The kinds say which status a refusal has over HTTP.
func TestKinds(t *testing.T) {
	w := newHouse(t)
	for _, tt := range []struct {
		name string
		args Args
		want Kind
	}{
		{"user add", Args{"jid": "juliet@example.org", "password": "x"}, Conflict},
		{"user add", Args{"jid": "juliet@example.org"}, Invalid},
		{"user add", Args{"jid": "example.org", "password": "x"}, Invalid},
		{"user add", Args{"jid": "a@elsewhere.example", "password": "x"}, NotFound},
		{"user passwd", Args{"jid": "nobody@example.org", "password": "x"}, NotFound},
		{"user show", Args{"jid": "nobody@example.org"}, NotFound},
		{"user list", Args{"host": "elsewhere.example"}, NotFound},
		{"user list", Args{"limit": "0"}, Invalid},
		{"user list", Args{"after": "example.org"}, Invalid},
		{"session kick", Args{"jid": "juliet@example.org", "resource": "none"}, NotFound},
		{"client revoke", Args{"jid": "juliet@example.org", "id": "none"}, NotFound},
		{"token revoke", Args{"id": "none"}, NotFound},
		{"token add", Args{}, Invalid},
	} {
		_, err := w.ops.Run(t.Context(), Caller{}, tt.name, tt.args)
		var told *Error
		if !errors.As(err, &told) || told.Kind != tt.want {
			t.Errorf("%s %v: %v (%+v), want kind %d", tt.name, tt.args, err, told, tt.want)
		}
	}
	_, err := w.ops.RunOwn(t.Context(), Caller{}, jid.Must("juliet@example.org"), "session list", Args{"jid": "romeo@example.org"})
	var told *Error
	if !errors.As(err, &told) || told.Kind != Denied {
		t.Errorf("another's: %v", err)
	}
}

func TestUserListPages(t *testing.T) {
	w := newHouse(t)
	list := func(args Args) string {
		t.Helper()
		out, err := w.ops.Run(t.Context(), Caller{}, "user list", args)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, u := range out.([]User) {
			all = append(all, u.JID)
		}
		return strings.Join(all, " ")
	}
	all := strings.Fields(list(nil))
	if len(all) < 2 {
		t.Fatalf("the house has %v", all)
	}
	var walked []string
	after := ""
	for {
		args := Args{"limit": "1"}
		if after != "" {
			args["after"] = after
		}
		page := list(args)
		if page == "" {
			break
		}
		walked, after = append(walked, page), page
	}
	if !reflect.DeepEqual(walked, all) {
		t.Errorf("page by page %v, at once %v", walked, all)
	}
	out, err := w.ops.Run(t.Context(), Caller{}, "user show", Args{"jid": all[0]})
	if u, ok := out.(UserDetails); err != nil || !ok || u.JID != all[0] || u.Created.IsZero() || u.PasswordSet == nil {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestFigures(t *testing.T) {
	s := modtest.New(t)
	users, err := auth.New(s.Store, auth.Options{Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	ops := &Registry{}
	ops.Add(Figures(StatsSources{Version: "1", Started: s.Host.Now().Add(-90 * time.Second), Users: users, Modules: s.Host, Store: s.Store})...)
	romeo := s.Connect("romeo@example.org/orchard")
	romeo.Send(`<message to='juliet@example.org/none' type='chat'/>`)
	out, err := ops.Run(t.Context(), Caller{}, "stats", nil)
	if err != nil {
		t.Fatal(err)
	}
	v := out.(*Stats)
	if v.Version != "1" || v.Uptime < 90 || v.Sessions != 1 || v.Stanzas != 1 || len(v.Hosts) != len(s.Host.Hosts) || v.Store.Writes == 0 {
		t.Errorf("%+v", v)
	}
}
