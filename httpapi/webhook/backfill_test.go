package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/mod/modtest"
	"trivium/httpapi/event"
)

// plant is a server whose endpoints come and go. Events for gw.example.org wait.
type plant struct {
	t    *testing.T
	s    *modtest.Server
	c    *carrier
	code int // that endpoints answer
	// fixed is an endpoint of the configuration that serves the gateway.
	fixed bool
	log   *event.Log
	w     *Service
	stop  func()

	sent  map[string][]string // conversation -> ids
	taken map[string][]string
}

func newPlant(t *testing.T) *plant {
	p := &plant{t: t, s: modtest.New(t), code: 200, stop: func() {}, sent: map[string][]string{}, taken: map[string][]string{}}
	p.c = &carrier{answer: func(_ *http.Request, n int) (*http.Response, error) { return status(p.code) }}
	p.restart()
	return p
}

// restart goes on with what is in the database.
func (p *plant) restart() {
	p.t.Helper()
	p.stop()
	if err := p.s.Store.Sync(context.Background()); err != nil {
		p.t.Fatal(err)
	}
	var err error
	if p.log, err = event.NewLog(context.Background(), event.Options{Store: p.s.Store}); err != nil {
		p.t.Fatal(err)
	}
	p.log.Await(func(host string) bool { return host == "gw.example.org" })
	e := Endpoint{URL: "https://app.example/hook", Domains: []string{"other.example.org"}}
	if p.fixed {
		e.Domains = append(e.Domains, "gw.example.org")
	}
	p.w, p.stop = start(p.t, p.s, e, Options{Transport: p.c, Resolver: names, Log: p.log, Schedule: Schedule()})
}

func (p *plant) send(from, to string) string {
	p.t.Helper()
	ev := event.Of(event.Message, "gw.example.org", modtest.Parse(p.t, fmt.Sprintf(
		`<message from='%s@example.org/orchard' to='%s@gw.example.org' type='chat' id='m'><body>hi</body></message>`, from, to)))
	if err := p.log.Append(ev, nil); err != nil {
		p.t.Fatal(err)
	}
	talk := from + " " + to
	p.sent[talk] = append(p.sent[talk], ev.ID())
	return ev.ID()
}

func (p *plant) put(url string) {
	p.t.Helper()
	_, _, err := p.w.Put(context.Background(), Endpoint{
		Name: "hook", URL: "https://app.example/" + url, Domains: []string{"gw.example.org"}, Keys: []string{secret},
	}, AnyVersion)
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *plant) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// answer is the status code of posts from now on.
func (p *plant) answer(code int) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.code = code
}

// wait lets everything happen that can without the clock, and a second more.
func (p *plant) wait() {
	time.Sleep(time.Second)
	synctest.Wait()
}

// What came to a gateway while no endpoint took it is posted to the one that comes: made,
// enabled, led elsewhere, of the configuration, before and after restarts.
func TestBackfill(t *testing.T) {
	gone := func(p *plant) {
		p.put("1")
		p.answer(410)
		p.send("romeo", "bot")
		p.wait()
		p.answer(200)
		p.restart()
	}
	for name, tt := range map[string]struct {
		before, after func(p *plant)
	}{
		"made":    {func(*plant) {}, func(p *plant) { p.put("1") }},
		"enabled": {gone, func(p *plant) { p.check(p.w.Enable(context.Background(), "hook")) }},
		"led elsewhere": {gone, func(p *plant) {
			p.put("2")
		}},
		"configured": {func(*plant) {}, func(p *plant) {
			p.fixed = true
			p.restart()
		}},
		"removed and made": {func(p *plant) {
			p.put("1")
			p.answer(500)
			p.send("romeo", "bot")
			p.wait()
			p.check(p.w.Remove(context.Background(), "hook", AnyVersion))
			p.answer(200)
		}, func(p *plant) { p.put("1") }},
		"taken out of the configuration": {func(p *plant) {
			p.fixed = true
			p.answer(500)
			p.restart()
			p.send("romeo", "bot")
			p.wait()
			p.fixed = false
			p.restart()
			p.answer(200)
		}, func(p *plant) { p.put("1") }},
		"widened": {func(p *plant) {
			_, _, err := p.w.Put(context.Background(), Endpoint{
				Name: "hook", URL: "https://app.example/1", Domains: []string{"gw.example.org"}, Filter: event.Filter{Types: []event.Type{event.IQ}},
			}, AnyVersion)
			p.check(err)
		}, func(p *plant) { p.put("1") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlant(t)
				tt.before(p)
				p.send("romeo", "bot")
				p.send("juliet", "bot")
				p.wait()
				p.restart()
				p.send("romeo", "bot")
				p.wait()
				if n := rows(t, p.s.Store, "event_waiting"); n < 2 {
					t.Fatalf("%d events wait", n)
				}
				from := p.c.count()
				tt.after(p)
				p.send("romeo", "bot")
				p.wait()
				var got []string
				for _, talk := range p.sent {
					list := keep(p.c.ids[from:], talk)
					if !slices.Equal(list, talk) {
						t.Errorf("posted %v, want %v", list, talk)
					}
					got = append(got, list...)
				}
				if len(got) != len(p.c.ids)-from {
					t.Errorf("posted %v", p.c.ids[from:])
				}
				if n := rows(t, p.s.Store, "event_waiting") + rows(t, p.s.Store, waiting); n > 0 || len(p.log.Waiting()) > 0 {
					t.Errorf("%d rows, %v still wait", n, p.log.Waiting())
				}
				p.restart()
				if !p.fixed {
					p.put("3")
				}
				p.wait()
				if n := p.c.count() - from; n != len(got) {
					t.Errorf("%d posts after another restart", n-len(got))
				}
			})
		})
	}
}

// keep returns those of list that are in other.
func keep(list, other []string) (kept []string) {
	for _, id := range list {
		if slices.Contains(other, id) {
			kept = append(kept, id)
		}
	}
	return kept
}

// Whatever becomes of the endpoints: each message is taken once, in the order of its
// conversation.
func TestBackfillModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { backfillModel(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func backfillModel(t *testing.T, r *rand.Rand) {
	p := newPlant(t)
	ctx := context.Background()
	codes := map[string]int{} // of each post
	p.c.answer = func(rq *http.Request, n int) (*http.Response, error) {
		codes[fmt.Sprint(n)] = p.code
		return status(p.code)
	}
	url := 0
	for range 100 {
		_, err := p.w.Endpoint("hook")
		there := err == nil
		switch n := r.IntN(24); {
		case n < 14:
			p.send([]string{"romeo", "juliet", "nurse"}[r.IntN(3)], []string{"bot", "fool"}[r.IntN(2)])
		case n < 16:
			p.answer([]int{200, 200, 410, 503}[r.IntN(4)])
		case n < 18 && !p.fixed:
			synctest.Wait() // what is under way might be posted to the new address as well
			url += r.IntN(2)
			p.put(fmt.Sprint(url))
		case n == 18 && there:
			synctest.Wait() // nothing is under way, which might be posted again
			p.check(p.w.Remove(ctx, "hook", AnyVersion))
		case n == 19 && there:
			synctest.Wait()
			p.check(p.w.Enable(ctx, "hook"))
		case n == 20 && !there:
			p.fixed = !p.fixed
			fallthrough
		case n >= 21:
			synctest.Wait()
			p.restart()
		}
		if r.IntN(3) == 0 {
			time.Sleep(time.Duration(r.IntN(300)) * time.Second)
		}
	}
	synctest.Wait()
	p.answer(200)
	if p.fixed {
		p.check(p.w.Enable(ctx, "app"))
	} else {
		p.put("last")
	}
	time.Sleep(24 * time.Hour)
	synctest.Wait()
	var taken []string
	for i, id := range p.c.ids {
		if codes[fmt.Sprint(i+1)] == 200 && number(id) < offLog {
			taken = append(taken, id)
		}
	}
	for talk, sent := range p.sent {
		if got := keep(taken, sent); !slices.Equal(got, sent) {
			t.Errorf("%s: %d sent, %d taken\nsent  %v\ntaken %v", talk, len(sent), len(got), sent, got)
		}
	}
	if n := rows(t, p.s.Store, "event_waiting") + rows(t, p.s.Store, waiting); n > 0 {
		t.Errorf("%d still wait", n)
	}
}

// A message that waits for an endpoint that is gone for good goes back in the end.
func TestGoneForEver(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) {
		time.Sleep(time.Second) // meanwhile the second message comes
		return status(410)
	}}
	bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
		romeo.Send(hello)
		romeo.Send(hello)
		time.Sleep(71 * time.Hour)
		synctest.Wait()
		if c.count() != 1 {
			t.Errorf("%d posts", c.count())
		}
		romeo.Quiet()
		time.Sleep(2 * time.Hour)
		for range 2 {
			romeo.Expect(`<message type='error' id='m' from='bot@gw.example.org' to='romeo@example.org/orchard'><error type='wait'>
				<recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></message>`)
		}
		if n := rows(t, s.Store, dead); n != 2 {
			t.Errorf("%d dead letters", n)
		}
	})
}
