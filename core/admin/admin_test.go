package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/store"
	"trivium/core/stream"
	"trivium/core/wire"
)

// serve runs the operations on a socket.
func serve(t *testing.T, log *slog.Logger, ops ...Operation) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "admin.sock")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{}
	r.Add(ops...)
	srv := http.Server{Handler: Handler(r, log)}
	over := make(chan struct{})
	go func() { defer close(over); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-over })
	return path
}

func TestSocket(t *testing.T) {
	path := serve(t, slog.New(slog.DiscardHandler))
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its directory is %v, %v", info.Mode(), err)
	}
	if ln, err := Listen(path); err == nil {
		ln.Close()
		t.Error("two servers on one socket")
	} else if !strings.Contains(err.Error(), "running") {
		t.Errorf("a second server is told %v", err)
	}

	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	ln, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as after kill -9
	ln.Close()
	if _, err := Call(t.Context(), stale, "user list", nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Call on a stale socket: %v", err)
	}
	if ln, err = Listen(stale); err != nil {
		t.Errorf("a stale socket is not replaced: %v", err)
	} else {
		ln.Close()
	}
	if _, err := Call(t.Context(), filepath.Join(dir, "none.sock"), "user list", nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Call without a socket: %v", err)
	}

	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ln, err := Listen(precious); err == nil {
		ln.Close()
		t.Error("a file became a socket")
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "data" {
		t.Errorf("the file is gone: %q, %v", b, err)
	}
}

func TestOperations(t *testing.T) {
	var logged strings.Builder
	var mu sync.Mutex
	log := slog.New(slog.NewTextHandler(writer(func(b []byte) { mu.Lock(); defer mu.Unlock(); logged.Write(b) }), nil))
	path := serve(t, log,
		Operation{
			Name: "echo back", Args: []Arg{{Name: "text", Required: true, Secret: true}, {Name: "list", Repeated: true}},
			Run: func(_ context.Context, args Args) (any, error) {
				return []any{args["text"], args.List("list")}, nil
			},
		},
		Operation{Name: "refuse", Run: func(context.Context, Args) (any, error) { return nil, Errorf("not %s", "today") }},
		Operation{Name: "break", Run: func(context.Context, Args) (any, error) { return nil, errors.New("inner workings") }},
	)
	for _, tt := range []struct {
		name string
		args Args
		want string // the result, or the error
	}{
		{"echo back", Args{"text": "hunter2", "list": "a\n\nb"}, `["hunter2",["a","b"]]`},
		{"echo back", Args{}, `echo back needs the argument "text"`},
		{"echo back", nil, `echo back needs the argument "text"`},
		{"echo back", Args{"text": "x", "volume": "11"}, `echo back takes no argument "volume"`},
		{"refuse", nil, "not today"},
		{"break", nil, "the operation failed: see the server's log"},
		{"echo", nil, "no such operation"},
		{"", nil, "no such operation"},
	} {
		out, err := Call(t.Context(), path, tt.name, tt.args)
		got := strings.TrimSpace(string(out))
		var own *Error
		if err != nil {
			if !errors.As(err, &own) {
				t.Errorf("%s %v: %v", tt.name, tt.args, err)
				continue
			}
			got = own.Text
		}
		if got != tt.want {
			t.Errorf("%s %v: %s, want %s", tt.name, tt.args, got, tt.want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if s := logged.String(); strings.Contains(s, "hunter2") || !strings.Contains(s, "inner workings") || strings.Count(s, "operation done") != 1 {
		t.Errorf("logged %s", s)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func TestRawRequests(t *testing.T) {
	path := serve(t, slog.New(slog.DiscardHandler), Operation{Name: "a b", Run: func(context.Context, Args) (any, error) { return 1, nil }})
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	client := http.Client{Transport: tr}
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/a/b", "", 200},
		{"POST", "/a/b", "{}", 200},
		{"POST", "/a/b", `{"x":1}`, 400},
		{"POST", "/a/b", `[`, 400},
		{"POST", "/a/b", `{"x":"` + strings.Repeat("y", requestMax) + `"}`, 400},
		{"POST", "/a", "", 404},
		{"GET", "/a/b", "", 405},
	} {
		rq, err := http.NewRequestWithContext(t.Context(), tt.method, "http://admin"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s %s %.20s: %d, want %d", tt.method, tt.path, tt.body, resp.StatusCode, tt.want)
		}
	}
}

func TestRegistryIsInOrder(t *testing.T) {
	r := &Registry{}
	r.Add(Operation{Name: "user remove"}, Operation{Name: "token add"})
	r.Add(Operation{Name: "user add"})
	var names []string
	for _, o := range r.Operations() {
		names = append(names, o.Name)
	}
	if got := strings.Join(names, ", "); got != "token add, user add, user remove" {
		t.Errorf("got %s", got)
	}
}

// idle is a connection that nothing is written to.
type idle struct{}

func (idle) Read(func()) (stream.Event, error)             { return stream.Event{}, io.EOF }
func (idle) Open(stream.Header) error                      { return nil }
func (idle) Restart()                                      {}
func (idle) Limit(wire.Limits)                             {}
func (idle) Close(*stream.Error)                           {}
func (idle) Abort()                                        {}
func (idle) Info() stream.Info                             { return stream.Info{} }
func (idle) Write(stream.Batch, func(error)) (bool, error) { return true, nil }

func TestAccounts(t *testing.T) {
	db, err := store.Open(t.Context(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	users, err := auth.New(db, auth.Options{Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	r := router.New(router.Options{})
	log := slog.New(slog.DiscardHandler)
	mods := module.NewHost(r, db, log, time.Now, []string{"example.org", "example.com"}, users.Exists)
	if err := mods.Build(); err != nil {
		t.Fatal(err)
	}
	path := serve(t, log, append(Accounts(users, mods), Tokens(users, time.Now)...)...)
	var kicks []*stream.Error
	if _, err := r.Bind(router.Binding{JID: jid.Must("romeo@example.org/orchard"), Conn: idle{}, OutboxLimit: 1, Kick: func(e *stream.Error) { kicks = append(kicks, e) }}); err != nil {
		t.Fatal(err)
	}
	// call runs an operation and returns the operator's view of it.
	call := func(name string, args Args) string {
		t.Helper()
		out, err := Call(t.Context(), path, name, args)
		var own *Error
		if errors.As(err, &own) {
			return own.Text
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return strings.TrimSpace(string(out))
	}
	accounts := func(args Args) (list []string) {
		t.Helper()
		var all []User
		if err := json.Unmarshal([]byte(call("user list", args)), &all); err != nil {
			t.Fatal(err)
		}
		for _, u := range all {
			if u.Created.IsZero() {
				t.Errorf("%s was never created", u.JID)
			}
			s := u.JID
			if u.Sessions > 0 {
				s += "*"
			}
			list = append(list, s)
		}
		return list
	}
	for _, tt := range []struct {
		name string
		args Args
		want string // part of what is shown
	}{
		{"user add", Args{"jid": "Romeo@Example.org", "password": "secret"}, `"jid":"romeo@example.org"`}, // RFC 7622
		{"user add", Args{"jid": "romeo@example.org", "password": "other"}, "exists already"},
		{"user add", Args{"jid": "juliet@example.com", "password": "secret"}, `"jid":"juliet@example.com"`},
		{"user add", Args{"jid": "juliet@elsewhere.example", "password": "secret"}, "elsewhere.example is not a host"},
		{"user add", Args{"jid": "juliet@example.org/balcony", "password": "secret"}, "write user@domain"},
		{"user add", Args{"jid": "example.org", "password": "secret"}, "write user@domain"},
		{"user add", Args{"jid": "nurse@example.org", "password": "a\x00b"}, "not a valid password"},
		{"user add", Args{"jid": "nurse@example.org"}, `needs the argument "password"`},
		{"user passwd", Args{"jid": "romeo@example.org", "password": "changed"}, "null"},
		{"user passwd", Args{"jid": "nobody@example.org", "password": "changed"}, "no such account"},
		{"user remove", Args{"jid": "nobody@example.org"}, "no such account"},
		{"user list", Args{"host": "elsewhere.example"}, "not a host"},
		{"token add", Args{"send-as": "no@one@at all"}, "is not an address"},
		{"token add", Args{"send-as": "\n"}, "one or more scopes"},
		{"token add", Args{}, "one or more scopes"},
		{"token add", Args{"scope": "write:example.org"}, "not a scope"},
		{"token add", Args{"admin": "romeo@example.org"}, "not a host"},
		{"token add", Args{"read": "example.org", "expires": "soon"}, "not a time"},
		{"token add", Args{"read": "example.org", "expires": "2020-01-01T00:00:00Z"}, "expired already"},
		{"token add", Args{"read": "example.org", "expires": "-5m"}, "expired already"},
		{"token add", Args{"read": "example.org", "expires": "99999d"}, "not a time"},
		{"token add", Args{"read": "example.org", "rate": "many"}, "not a number"},
		{"token add", Args{"read": "example.org", "rate": "-1"}, "rate is not from 0"},
		{"token show", Args{"id": "none"}, "no such token"},
		{"token rotate", Args{"id": "none"}, "no such token"},
		{"token revoke", Args{"id": "none"}, "no such token"},
	} {
		if got := call(tt.name, tt.args); !strings.Contains(got, tt.want) {
			t.Errorf("%s %v: %s, want %s", tt.name, tt.args, got, tt.want)
		}
	}
	for _, tt := range []struct {
		password string
		want     bool
	}{{"secret", false}, {"changed", true}} {
		if ok, err := users.Host("example.org").CheckPlain(t.Context(), "romeo", tt.password); err != nil || ok != tt.want {
			t.Errorf("romeo's password is %q: %v, %v", tt.password, ok, err)
		}
	}
	if got := accounts(nil); !reflect.DeepEqual(got, []string{"romeo@example.org*", "juliet@example.com"}) {
		t.Errorf("all accounts: %v", got)
	}
	if got := accounts(Args{"host": "EXAMPLE.com"}); !reflect.DeepEqual(got, []string{"juliet@example.com"}) {
		t.Errorf("of example.com: %v", got)
	}

	if got := call("user remove", Args{"jid": "romeo@example.org"}); got != "null" {
		t.Errorf("user remove: %s", got)
	}
	if got := accounts(nil); !reflect.DeepEqual(got, []string{"juliet@example.com"}) {
		t.Errorf("after a removal: %v", got)
	}
	if len(kicks) == 0 || kicks[0].Condition != stream.NotAuthorized {
		t.Errorf("sessions of a removed account got %v", kicks)
	}

	var made Token
	if err := json.Unmarshal([]byte(call("token add", Args{"name": "shop", "send-as": "shop@example.org\nsms.example.org"})), &made); err != nil {
		t.Fatal(err)
	}
	if made.Secret == "" || !reflect.DeepEqual(made.SendAs, []string{"shop@example.org", "sms.example.org"}) {
		t.Errorf("the token is %+v", made)
	}
	if tok, err := users.CheckToken(t.Context(), made.Secret); err != nil || !tok.MaySend(jid.Must("+1@sms.example.org")) {
		t.Errorf("the token does not serve: %v", err)
	}
	if got := call("token list", nil); !strings.Contains(got, made.ID) || strings.Contains(got, made.Secret) {
		t.Errorf("token list: %s", got)
	}
	if got := call("token revoke", Args{"id": made.ID}); got != "null" {
		t.Errorf("token revoke: %s", got)
	}
	if got := call("token list", nil); got != "[]" {
		t.Errorf("token list after: %s", got)
	}
	if _, err := users.CheckToken(t.Context(), made.Secret); !errors.Is(err, auth.ErrToken) {
		t.Errorf("the revoked token: %v", err)
	}
}
