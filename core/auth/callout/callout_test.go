package callout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trivium/core/auth/endpoint"
	"trivium/core/jid"
	"trivium/core/sasl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var host = jid.Must("example.org")

// authority is an endpoint that does as it is told.
type authority struct {
	*httptest.Server
	mu      sync.Mutex
	respond http.HandlerFunc
	asked   []string // the bodies of the questions
	header  http.Header
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost {
			t.Errorf("%s, %v", r.Method, err)
		}
		a.mu.Lock()
		a.asked = append(a.asked, string(body))
		a.header = r.Header
		respond := a.respond
		a.mu.Unlock()
		respond(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *authority) will(respond http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.respond = respond
}

func (a *authority) say(status int, body string) {
	a.will(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func (a *authority) questions() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func (a *authority) client(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(host, a.URL+"/auth?a=b", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// clock that a test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// The questions are those of the package comment, word for word.
func TestQuestions(t *testing.T) {
	a := newAuthority(t)
	a.say(200, `{"ok":true,"username":"juliet"}`)
	c := a.client(t, Options{Secret: "shared"})
	if ok, err := c.CheckPassword(t.Context(), "juliet", `R0m"30\`); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if local, err := c.CheckToken(t.Context(), "juliet", "opaque"); local != "juliet" || err != nil {
		t.Errorf("%q, %v", local, err)
	}
	if local, err := c.CheckToken(t.Context(), "", "opaque"); local != "juliet" || err != nil {
		t.Errorf("%q, %v", local, err)
	}
	if ok, err := c.Exists(t.Context(), "juliet"); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	want := []string{
		`{"kind":"password","host":"example.org","username":"juliet","password":"R0m\"30\\"}`,
		`{"kind":"token","host":"example.org","username":"juliet","token":"opaque"}`,
		`{"kind":"token","host":"example.org","token":"opaque"}`,
		`{"kind":"exists","host":"example.org","username":"juliet"}`,
	}
	if got := a.questions(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if a.header.Get("Authorization") != "Bearer shared" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", a.header)
	}
	if _, sent := a.header["Cookie"]; sent {
		t.Errorf("%v", a.header)
	}
}

func TestAnswers(t *testing.T) {
	const (
		yes = iota
		no
		disabled
		failure
	)
	for _, tt := range []struct {
		status                  int
		body                    string
		password, token, exists int
	}{
		{200, `{"ok":true}`, yes, yes, yes},
		{200, `{"ok":true,"username":"juliet"}`, yes, yes, yes},
		{200, `{"ok":true,"username":"juliet","more":{"a":[1]}}`, yes, yes, yes},
		{200, `{"ok":false}`, no, no, no},
		{200, `{"ok":false,"username":"juliet"}`, no, no, no},
		{401, ``, no, no, no},
		{401, `{"ok":true}`, no, no, no},
		{404, `not found`, no, no, no},
		{403, ``, disabled, disabled, yes},
		{403, `{"ok":true}`, disabled, disabled, yes},
		{200, ``, failure, failure, failure},
		{200, `{}`, failure, failure, failure},
		{200, `null`, failure, failure, failure},
		{200, `true`, failure, failure, failure},
		{200, `[{"ok":true}]`, failure, failure, failure},
		{200, `{"ok":"true"}`, failure, failure, failure},
		{200, `{"ok":1}`, failure, failure, failure},
		{200, `{"ok":null}`, failure, failure, failure},
		{200, `{"ok":true} {}`, failure, failure, failure},
		{200, `{"ok":true,"username":7}`, failure, failure, failure},
		{200, `{"ok":true,"pad":"` + strings.Repeat("a", 16<<10) + `"}`, failure, failure, failure},
		{200, `{"ok":true,"username":"romeo"}`, failure, yes, yes}, // whose token it is, the caller compares
		{200, `{"ok":true,"username":"Juliet"}`, failure, failure, yes},
		{200, `{"ok":true,"username":"a b"}`, failure, failure, yes},
		{201, `{"ok":true}`, failure, failure, failure},
		{204, ``, failure, failure, failure},
		{302, `{"ok":true}`, failure, failure, failure},
		{400, `{"ok":true}`, failure, failure, failure},
		{429, ``, failure, failure, failure},
		{500, `{"ok":true}`, failure, failure, failure},
		{503, ``, failure, failure, failure},
	} {
		t.Run(fmt.Sprintf("%d %.40s", tt.status, tt.body), func(t *testing.T) {
			a := newAuthority(t)
			a.say(tt.status, tt.body)
			c := a.client(t, Options{Breaker: BreakerOptions{Failures: 100}})
			outcome := func(ok bool, err error) int {
				var f *sasl.Failure
				var r *sasl.TokenRefusal
				switch {
				case ok && err == nil:
					return yes
				case !ok && (err == nil || errors.As(err, &r)):
					return no
				case !ok && errors.As(err, &f) && f.Condition == sasl.AccountDisabled:
					return disabled
				}
				if ok || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("%v, %v", ok, err)
				}
				return failure
			}
			if got := outcome(c.CheckPassword(t.Context(), "juliet", "s3cret")); got != tt.password {
				t.Errorf("password: %d, want %d", got, tt.password)
			}
			local, err := c.CheckToken(t.Context(), "juliet", "s3cret")
			if got := outcome(local != "", err); got != tt.token {
				t.Errorf("token: %d, want %d", got, tt.token)
			}
			if got := outcome(c.Exists(t.Context(), "juliet")); got != tt.exists {
				t.Errorf("exists: %d, want %d", got, tt.exists)
			}
		})
	}
}

// RFC 7628 §4.3: who asks what token is needed is told, and nobody is asked.
func TestTokenQuery(t *testing.T) {
	a := newAuthority(t)
	c := a.client(t, Options{Scope: "xmpp", Configuration: "https://idp/.well-known/openid-configuration"})
	local, err := c.CheckToken(t.Context(), "juliet", "")
	var r *sasl.TokenRefusal
	if local != "" || !errors.As(err, &r) || r.Scope != "xmpp" || r.Configuration != "https://idp/.well-known/openid-configuration" {
		t.Errorf("%q, %+v", local, err)
	}
	if got := a.questions(); len(got) != 0 {
		t.Errorf("asked %q", got)
	}
	// A token of nobody's, where the client did not say either.
	a.say(200, `{"ok":true}`)
	if local, err := c.CheckToken(t.Context(), "", "opaque"); local != "" || !errors.Is(err, ErrAnswer) {
		t.Errorf("%q, %v", local, err)
	}
}

// An endpoint that fails is left alone, asked by one login after a while, and then
// by all when it is back.
func TestBreaker(t *testing.T) {
	for name, respond := range map[string]http.HandlerFunc{
		"error":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"aborts":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"says nothing": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"huge":         func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t)
			var clk clock
			timeout := 5 * time.Second
			if name == "says nothing" {
				timeout = 30 * time.Millisecond
			}
			c := a.client(t, Options{Now: clk.now, Timeout: timeout, Breaker: BreakerOptions{Failures: 3, Pause: time.Minute}})
			check := func(open bool, want int) {
				t.Helper()
				ok, err := c.CheckPassword(t.Context(), "juliet", "a")
				if ok || err == nil || errors.Is(err, ErrOpen) != open {
					t.Errorf("%v, %v, want open %v", ok, err, open)
				}
				if n := len(a.questions()); n != want {
					t.Errorf("%d questions, want %d", n, want)
				}
			}
			a.will(respond)
			check(false, 1)
			check(false, 2)
			check(false, 3)
			check(true, 3)
			clk.advance(59 * time.Second)
			check(true, 3)
			clk.advance(time.Second)
			check(false, 4)
			check(true, 4)
			a.will(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"ok":true}`) })
			clk.advance(time.Minute)
			for range 5 {
				if ok, err := c.CheckPassword(t.Context(), "juliet", "a"); !ok || err != nil {
					t.Fatalf("back again: %v, %v", ok, err)
				}
			}
		})
	}
}

// A wrong password is no failure of the endpoint, however many there are, nor is a
// client that goes away.
func TestBreakerStaysClosed(t *testing.T) {
	a := newAuthority(t)
	c := a.client(t, Options{Breaker: BreakerOptions{Failures: 2}})
	a.say(401, "")
	for range 5 {
		if ok, err := c.CheckPassword(t.Context(), "juliet", "wrong"); ok || err != nil {
			t.Errorf("%v, %v", ok, err)
		}
	}
	a.say(403, "")
	for range 5 {
		var f *sasl.Failure
		if _, err := c.CheckPassword(t.Context(), "juliet", "disabled"); !errors.As(err, &f) {
			t.Error(err)
		}
	}
	arrived := make(chan struct{}, 1)
	a.will(func(_ http.ResponseWriter, r *http.Request) { arrived <- struct{}{}; <-r.Context().Done() })
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := c.CheckPassword(ctx, "juliet", "a"); done <- err }()
		<-arrived
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	a.say(200, `{"ok":true}`)
	if ok, err := c.CheckPassword(t.Context(), "juliet", "right"); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// While one tries an endpoint that had failed, the others are not let through, and
// one who gives up leaves the trial to the next.
func TestBreakerTrial(t *testing.T) {
	var clk clock
	b := NewBreaker(BreakerOptions{Failures: 1, Pause: time.Second}, clk.now)
	if !b.Allow() || !b.Failed() || b.Allow() {
		t.Fatal("one failure does not open it")
	}
	clk.advance(time.Second)
	if !b.Allow() || b.Allow() {
		t.Fatal("not one trial")
	}
	b.Abandoned()
	if !b.Allow() || b.Allow() {
		t.Fatal("not another trial")
	}
	if b.Failed() || b.Allow() {
		t.Fatal("a trial that failed opens nothing that was open, and does not close it")
	}
	clk.advance(time.Second)
	if !b.Allow() {
		t.Fatal("no trial")
	}
	b.Succeeded()
	for range 2 {
		if !b.Allow() {
			t.Fatal("not closed")
		}
	}
}

func TestRememberPasswords(t *testing.T) {
	a := newAuthority(t)
	a.will(func(w http.ResponseWriter, r *http.Request) {
		var q question
		_ = json.Unmarshal([]byte(a.questions()[len(a.questions())-1]), &q)
		_, _ = fmt.Fprintf(w, `{"ok":%v}`, q.Password == "right")
	})
	var clk clock
	for _, keep := range []time.Duration{0, time.Minute} {
		c := a.client(t, Options{RememberPasswords: keep, Now: clk.now})
		asked := func(username, password string, want, question bool) {
			t.Helper()
			before := len(a.questions())
			if ok, err := c.CheckPassword(t.Context(), username, password); ok != want || err != nil {
				t.Errorf("%s, %s: %v, %v", username, password, ok, err)
			}
			if got := len(a.questions()) > before; got != question {
				t.Errorf("%s, %s: asked %v, want %v", username, password, got, question)
			}
		}
		asked("juliet", "right", true, true)
		asked("juliet", "right", true, keep == 0)
		asked("juliet", "wrong", false, true)
		asked("juliet", "wrong", false, true) // only what is right is remembered
		asked("julietr", "ight", false, true)
		asked("romeo", "right", true, true)
		clk.advance(time.Minute - 1)
		asked("juliet", "right", true, keep == 0)
		clk.advance(1)
		asked("juliet", "right", true, true)
	}
}

func TestRememberExists(t *testing.T) {
	a := newAuthority(t)
	var clk clock
	for _, keep := range []time.Duration{0, -1, time.Hour} {
		for _, exists := range []bool{true, false} {
			a.say(200, fmt.Sprintf(`{"ok":%v}`, exists))
			c := a.client(t, Options{RememberExists: keep, Now: clk.now})
			before := len(a.questions())
			lifetime := keep
			if keep == 0 {
				lifetime = time.Minute
			}
			for i, want := range []int{1, 1, 1, 2} {
				if ok, err := c.Exists(t.Context(), "juliet"); ok != exists || err != nil {
					t.Errorf("%v, %v", ok, err)
				}
				if keep < 0 {
					want = i + 1
				}
				if got := len(a.questions()) - before; got != want {
					t.Errorf("kept for %v: %d questions, want %d", keep, got, want)
				}
				if i == 2 && keep >= 0 {
					clk.advance(lifetime)
				}
			}
		}
	}
	// A failure is not remembered.
	a.say(500, "")
	c := a.client(t, Options{})
	if ok, err := c.Exists(t.Context(), "juliet"); ok || err == nil {
		t.Errorf("%v, %v", ok, err)
	}
	a.say(200, `{"ok":true}`)
	if ok, err := c.Exists(t.Context(), "juliet"); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// What is remembered has a limit, whatever strangers ask, and forgets the old
// before the new.
func TestMemoryLimit(t *testing.T) {
	var clk clock
	m := newMemory(time.Minute, 100, clk.now)
	for i := range 1000 {
		m.put(i%2 == 0, "name", fmt.Sprint(i))
		if n := len(m.entries); n > 100 {
			t.Fatalf("%d entries", n)
		}
		if v, ok := m.get("name", fmt.Sprint(i)); !ok || v != (i%2 == 0) {
			t.Fatalf("%d: %v, %v", i, v, ok)
		}
		clk.advance(time.Millisecond)
	}
	if _, ok := m.get("name999"); ok {
		t.Error("parts run together")
	}
	clk.advance(time.Minute)
	for i := range 1000 {
		if _, ok := m.get("name", fmt.Sprint(i)); ok {
			t.Fatalf("%d is too old", i)
		}
	}
	if n := len(m.entries); n != 0 {
		t.Errorf("%d entries that nobody can get", n)
	}
}

// Many ask at once, over few connections.
func TestConcurrency(t *testing.T) {
	a := newAuthority(t)
	var running, most atomic.Int32
	a.will(func(w http.ResponseWriter, _ *http.Request) {
		n := running.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		defer running.Add(-1)
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	c := a.client(t, Options{Concurrency: 3})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if ok, err := c.CheckPassword(t.Context(), "juliet", fmt.Sprint(i)); !ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > 3 {
		t.Errorf("%d questions at a time, want 3 at most", n)
	}
}

func TestURL(t *testing.T) {
	for _, address := range []string{"http://auth.example/", "https://user:secret@auth.example/", ""} {
		if c, err := New(host, address, Options{}); c != nil || !errors.Is(err, endpoint.ErrURL) {
			t.Errorf("%q: %v, %v", address, c, err)
		}
	}
}

// FuzzAnswer: nothing panics, and an answer without an error says yes or no; yes
// only by a JSON object with a true "ok" and status 200.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"ok":true,"username":"juliet"}`))
	f.Add(200, []byte(`{"ok":false}`))
	f.Add(401, []byte(`{"ok":true}`))
	f.Add(500, []byte(`{"OK":true}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a, err := read(&endpoint.Answer{Status: status, Body: body})
		if (err == nil) != (a != nil && a.OK != nil) {
			t.Fatalf("%+v, %v", a, err)
		}
		if err == nil && *a.OK && (status != 200 || !json.Valid(body) || !strings.Contains(string(body), "true")) {
			t.Fatalf("yes by %d %q", status, body)
		}
	})
}
