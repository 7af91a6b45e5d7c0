package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/mod/modtest"
)

// carrier is an endpoint without a network: it answers in no time.
type carrier struct {
	mu     sync.Mutex
	answer func(r *http.Request, n int) (*http.Response, error) // n counts from 1
	at     []time.Time
	ids    []string
	bodies []string
}

func (c *carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = append(c.at, time.Now())
	c.ids = append(c.ids, r.Header.Get("webhook-id"))
	c.bodies = append(c.bodies, string(body))
	return c.answer(r, len(c.at))
}

func (c *carrier) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at)
}

func status(code int, header ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, ContentLength: -1, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// bubble runs f with a server, one endpoint and a clock that only moves while
// everybody waits.
func bubble(t *testing.T, c *carrier, o Options, f func(s *modtest.Server, w *Service, romeo *modtest.Client)) {
	t.Helper()
	bubbleWith(t, c, o, nil, f)
}

func bubbleWith(t *testing.T, c *carrier, o Options, change func(*Endpoint), f func(s *modtest.Server, w *Service, romeo *modtest.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := modtest.New(t)
		o.Transport = c
		if o.Schedule == nil {
			o.Schedule = Schedule()
		}
		e := Endpoint{URL: "https://app.example/hook", Domains: []string{"gw.example.org"}, GiveUpAfter: 72 * time.Hour}
		if change != nil {
			change(&e)
		}
		w, _ := start(t, s, e, o)
		f(s, w, online(t, s, "romeo@example.org/orchard"))
	})
}

const hello = `<message to='bot@gw.example.org' type='chat' id='m'><body>hi</body></message>`

// The schedule, a tenth more or less by chance; every attempt has the same id and
// the same octets.
func TestSchedule(t *testing.T) {
	c := &carrier{answer: func(_ *http.Request, n int) (*http.Response, error) {
		switch n {
		case 1:
			return status(500)
		case 2:
			return nil, errors.New("connection refused")
		case 3:
			return status(429)
		case 4:
			return status(408)
		case 5, 6, 7, 8, 9, 10:
			return status(429)
		}
		return status(204)
	}}
	bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
		romeo.Send(hello)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if c.count() != 11 {
			t.Fatalf("%d attempts, want 11", c.count())
		}
		for n, want := range []time.Duration{
			5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
			4 * time.Hour, 4 * time.Hour, 4 * time.Hour,
		} {
			if got := c.at[n+1].Sub(c.at[n]); got < want-want/10 || got > want+want/10+time.Second {
				t.Errorf("wait %d was %v, want about %v", n+1, got, want)
			}
			if c.ids[n+1] != c.ids[0] || c.bodies[n+1] != c.bodies[0] {
				t.Errorf("attempt %d was another message", n+2)
			}
		}
		if st := w.Status()[0]; st.Delivered != 1 || st.Failed != 10 || st.Pending != 0 || st.Dead != 0 || st.Oldest != nil {
			t.Errorf("status %+v", st)
		}
		romeo.Quiet()
	})
}

// RFC 9110 §10.2.3: a number of seconds, or a date.
func TestRetryAfter(t *testing.T) {
	for _, date := range []bool{false, true} {
		c := &carrier{}
		c.answer = func(_ *http.Request, n int) (*http.Response, error) {
			if n > 1 {
				return status(200)
			}
			if date {
				return status(503, "Retry-After", time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat))
			}
			return status(429, "Retry-After", "90")
		}
		bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
			romeo.Send(hello)
			time.Sleep(10 * time.Second)
			romeo.Send(`<message to='other@gw.example.org'><body>must wait too</body></message>`)
			time.Sleep(75 * time.Second)
			synctest.Wait()
			if c.count() != 1 {
				t.Fatalf("%d attempts before the time", c.count())
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if c.count() != 3 {
				t.Fatalf("%d attempts, want 3", c.count())
			}
		})
	}
}

// A message that the endpoint does not understand, or that it has not taken in
// time, is given up: it is kept aside and its sender is told.
func TestGiveUp(t *testing.T) {
	const bounce = `<message from='bot@gw.example.org' to='romeo@example.org/orchard' type='error' id='m'><error type='wait'>
		<recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></message>`
	for _, tt := range []struct {
		name     string
		answer   func(*http.Request, int) (*http.Response, error)
		attempts func(n int) bool
		after    time.Duration
	}{
		{"not found", func(*http.Request, int) (*http.Response, error) { return status(404) }, func(n int) bool { return n == 1 }, time.Second},
		{"redirect", func(*http.Request, int) (*http.Response, error) {
			return status(307, "Location", "https://other.example/")
		}, func(n int) bool { return n == 1 }, time.Second},
		{"never there", func(*http.Request, int) (*http.Response, error) { return status(500) }, func(n int) bool { return n > 1000 && n < 80*60 }, 80 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &carrier{answer: tt.answer}
			bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
				romeo.Send(hello)
				time.Sleep(tt.after)
				synctest.Wait()
				if !tt.attempts(c.count()) {
					t.Errorf("%d attempts", c.count())
				}
				romeo.Expect(bounce)
				if n, d := rows(t, s.Store, waiting), rows(t, s.Store, dead); n != 0 || d != 1 {
					t.Errorf("%d rows wait, %d are dead", n, d)
				}
				if st := w.Status()[0]; st.Dead != 1 || st.Pending != 0 {
					t.Errorf("status %+v", st)
				}
				// The conversation goes on.
				c.mu.Lock()
				c.answer = func(*http.Request, int) (*http.Response, error) { return status(200) }
				c.mu.Unlock()
				romeo.Send(hello)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if st := w.Status()[0]; st.Delivered != 1 || st.State != "up" {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

func TestDeadAreBounded(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(400) }}
	bubble(t, c, Options{MaxDead: 3}, func(s *modtest.Server, _ *Service, romeo *modtest.Client) {
		for range 10 {
			romeo.Send(hello)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := rows(t, s.Store, dead); n != 3 {
			t.Errorf("%d dead messages are kept, want 3", n)
		}
	})
}

// 410 Gone ends the posts to this URL, over restarts too.
func TestGone(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(410) }}
	const refused = `<message from='bot@gw.example.org' to='romeo@example.org/orchard' type='error' id='m'><error type='cancel'>
		<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></message>`
	synctest.Test(t, func(t *testing.T) {
		s := modtest.New(t)
		e := Endpoint{URL: "https://app.example/hook", Domains: []string{"gw.example.org"}}
		w, stop := start(t, s, e, Options{Transport: c})
		romeo := s.Connect("romeo@example.org/orchard")
		romeo.Send(hello)
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := w.Status()[0]; st.State != "gone" || st.Pending != 1 || c.count() != 1 {
			t.Fatalf("after %d attempts: %+v", c.count(), st)
		}
		romeo.Send(hello)
		romeo.Expect(refused)
		stop()
		w, stop = start(t, s, e, Options{Transport: c})
		romeo.Send(hello)
		romeo.Expect(refused)
		time.Sleep(time.Hour)
		if w.Status()[0].State != "gone" || c.count() != 1 {
			t.Errorf("the restart has forgotten it")
		}
		stop()
		// Another URL is another endpoint: it gets what has waited.
		c.answer = func(*http.Request, int) (*http.Response, error) { return status(200) }
		e.URL = "https://app.example/hook2"
		w, _ = start(t, s, e, Options{Transport: c})
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := w.Status()[0]; st.State != "up" || st.Pending != 0 || st.Delivered != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// While an endpoint is down it is probed, not flooded; when it is back, all that
// waits is posted.
func TestDown(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return nil, errors.New("connection refused") }}
	bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
		for i := range 100 {
			romeo.Send(fmt.Sprintf(`<message to='bot%d@gw.example.org'><body>hi</body></message>`, i))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if st := w.Status()[0]; st.State != "down" || st.Pending != 100 {
			t.Fatalf("status %+v", st)
		}
		before := c.count()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if n := c.count() - before; n < 15 || n > 60 {
			t.Errorf("%d probes in 20 minutes", n)
		}
		c.mu.Lock()
		c.answer = func(*http.Request, int) (*http.Response, error) { return status(200) }
		c.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if st := w.Status()[0]; st.State != "up" || st.Pending != 0 || st.Delivered != 100 {
			t.Errorf("status %+v", st)
		}
	})
}

// One conversation that fails holds up no other, however much it has.
func TestConversationsApart(t *testing.T) {
	c := &carrier{answer: func(r *http.Request, _ int) (*http.Response, error) { return status(200) }}
	const bad = "bad@gw.example.org"
	fail := true
	c.answer = func(r *http.Request, n int) (*http.Response, error) {
		if fail && strings.Contains(c.bodies[n-1], bad) {
			return status(429) // about this message, not about the endpoint
		}
		return status(200)
	}
	bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
		const many = 100
		for i := range many {
			romeo.Send(fmt.Sprintf(`<message to='%s' id='m%d'><body>hi</body></message>`, bad, i))
			romeo.Send(`<message to='good@gw.example.org'><body>hi</body></message>`)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := w.Status()[0]; st.Delivered != many || st.Pending != many || st.State != "up" {
			t.Fatalf("status %+v", st)
		}
		c.mu.Lock()
		fail = false
		first := len(c.bodies)
		c.mu.Unlock()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if st := w.Status()[0]; st.Pending != 0 {
			t.Fatalf("status %+v", st)
		}
		for i, b := range c.bodies[first:] {
			if !strings.Contains(b, fmt.Sprintf(`"id":"m%d"`, i)) {
				t.Fatalf("post %d out of order: %s", i, b)
			}
		}
	})
}

// A full outbox refuses messages to a gateway.
func TestFull(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(500) }}
	bubble(t, c, Options{MaxPending: 3}, func(s *modtest.Server, _ *Service, romeo *modtest.Client) {
		for range 3 {
			romeo.Send(hello)
		}
		romeo.Quiet()
		romeo.Send(hello)
		romeo.Expect(`<message from='bot@gw.example.org' to='romeo@example.org/orchard' type='error' id='m'><error type='wait'>
			<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></message>`)
	})
}

// An error is not answered, or gateway and endpoint could go on for ever.
func TestErrorsAreNotAnswered(t *testing.T) {
	c := &carrier{}
	c.answer = func(*http.Request, int) (*http.Response, error) {
		rs, _ := status(200, "Content-Type", "application/json")
		rs.Body = io.NopCloser(strings.NewReader(`{"reply":{"to":"juliet@unreachable.example","body":"x"}}`))
		return rs, nil
	}
	bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
		romeo.Send(hello)
		time.Sleep(time.Minute)
		synctest.Wait()
		// The message, and the error to its reply: no more.
		if c.count() != 2 || !strings.Contains(c.bodies[1], `"error":{"type":"cancel","condition":"remote-server-not-found"`) {
			t.Errorf("posted %s", c.bodies)
		}
	})
}

func TestRefusedConfigurations(t *testing.T) {
	s := modtest.New(t)
	good := Endpoint{Name: "a", URL: "https://app.example/", Keys: []string{secret}, Domains: []string{"gw.example.org"}}
	for name, change := range map[string]func(*Endpoint){
		"no name":      func(e *Endpoint) { e.Name = "" },
		"relative":     func(e *Endpoint) { e.URL = "/hook" },
		"other scheme": func(e *Endpoint) { e.URL = "file:///etc/passwd" },
		"credentials":  func(e *Endpoint) { e.URL = "https://a:b@app.example/" },
		"no secret":    func(e *Endpoint) { e.Keys = nil },
		"short secret": func(e *Endpoint) { e.Keys = []string{"whsec_c2hvcnQ="} },
		"bad secret":   func(e *Endpoint) { e.Keys = []string{"whsec_" + strings.Repeat("*", 40)} },
		"virtual host": func(e *Endpoint) { e.Domains = []string{"example.org"} },
		"bad domain":   func(e *Endpoint) { e.Domains = []string{"a b"} },
	} {
		e := good
		change(&e)
		if _, err := New(context.Background(), []Endpoint{e}, Options{Router: s.Router, Store: s.Store}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(context.Background(), []Endpoint{good, good}, Options{Router: s.Router, Store: s.Store}); err == nil {
		t.Error("a domain with two owners: accepted")
	}
}
