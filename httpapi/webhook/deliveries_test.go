package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/mod/modtest"
	"trivium/httpapi/event"
)

// The delivery log: what was taken with its latency, what waits with its next time,
// what was given up with the reason; latest first, in pages.
func TestDeliveries(t *testing.T) {
	c := &carrier{}
	c.answer = func(_ *http.Request, n int) (*http.Response, error) {
		time.Sleep(250 * time.Millisecond)
		switch n {
		case 2:
			return status(422)
		case 3:
			return status(429)
		}
		return status(202)
	}
	bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
		for range 3 {
			romeo.Send(hello)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if err := s.Store.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		list, err := w.Deliveries(context.Background(), "app", Page{})
		if err != nil || len(list) != 3 {
			t.Fatalf("%+v, %v", list, err)
		}
		pending, given, taken := list[0], list[1], list[2]
		if taken.State != "delivered" || taken.Attempts != 1 || taken.Status != 202 || taken.Latency != 250 || taken.Ended == nil || taken.ID != c.ids[0] {
			t.Errorf("taken: %+v", taken)
		}
		if given.State != "dead" || given.Attempts != 1 || given.Status != 422 || given.Reason != "status 422" || given.Ended == nil || given.ID != c.ids[1] {
			t.Errorf("given up: %+v", given)
		}
		if pending.State != "pending" || pending.Attempts != 1 || pending.Status != 429 || pending.Since == nil || pending.NextTry == nil || pending.Ended != nil {
			t.Errorf("pending: %+v", pending)
		}
		first, err := w.Deliveries(context.Background(), "app", Page{Limit: 2})
		if err != nil || len(first) != 2 {
			t.Fatalf("%+v, %v", first, err)
		}
		rest, err := w.Deliveries(context.Background(), "app", Page{Limit: 2, Before: first[1].Seq})
		if err != nil || len(rest) != 1 || rest[0].ID != taken.ID {
			t.Errorf("second page: %+v, %v", rest, err)
		}
		graves, err := w.Dead(context.Background(), "app", Page{})
		if err != nil || len(graves) != 1 || graves[0].ID != given.ID {
			t.Errorf("dead: %+v, %v", graves, err)
		}
		if _, err := w.Dead(context.Background(), "other", Page{}); !errors.Is(err, ErrUnknown) {
			t.Errorf("of an unknown one: %v", err)
		}
		if st := w.Status()[0]; st.Oldest == nil || !st.Oldest.Equal(*pending.Since) {
			t.Errorf("oldest %v, want %v", st.Oldest, pending.Since)
		}
	})
}

// The delivery log keeps the last ones, over a restart too.
func TestDeliveryLogIsBounded(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(200) }}
	synctest.Test(t, func(t *testing.T) {
		s := modtest.New(t)
		e := Endpoint{URL: "https://app.example/hook", Domains: []string{"gw.example.org"}}
		o := Options{Transport: c, MaxDelivered: 5}
		_, stop := start(t, s, e, o)
		romeo := s.Connect("romeo@example.org/orchard")
		for i := range 40 {
			romeo.Send(hello)
			time.Sleep(time.Second)
			if i == 20 {
				stop()
				_, stop = start(t, s, e, o)
			}
		}
		synctest.Wait()
		if n := rows(t, s.Store, "webhook_delivery"); n != 5 {
			t.Errorf("%d rows are kept, want 5", n)
		}
		var last string
		w, _ := start(t, s, e, o)
		list, err := w.Deliveries(context.Background(), "app", Page{})
		if err == nil && len(list) > 0 {
			last = list[0].ID
		}
		if last != c.ids[39] {
			t.Errorf("the latest is %s, want %s (%v)", last, c.ids[39], err)
		}
	})
}

func TestReplay(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(400) }}
	bubble(t, c, Options{}, func(s *modtest.Server, w *Service, romeo *modtest.Client) {
		for i := range 6 {
			romeo.Send(fmt.Sprintf(`<message to='bot@gw.example.org' id='m%d'><body>hi</body></message>`, i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := rows(t, s.Store, dead); n != 6 {
			t.Fatalf("%d are dead", n)
		}
		ids := slices.Clone(c.ids)
		c.mu.Lock()
		c.answer = func(*http.Request, int) (*http.Response, error) { return status(200) }
		c.mu.Unlock()
		ctx := context.Background()

		n, err := w.Replay(ctx, "app", ids[4], event.FormatID(1), ids[4], ids[1])
		if n != 2 || err != nil {
			t.Errorf("single ones: %d, %v", n, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := c.ids[6:]; !slices.Contains(got, ids[4]) || !slices.Contains(got, ids[1]) || len(got) != 2 {
			t.Errorf("posted %v", got)
		}
		from, _ := event.ParseID(ids[2])
		to, _ := event.ParseID(ids[4])
		if n, err = w.ReplayRange(ctx, "app", from, to); n != 2 || err != nil {
			t.Errorf("range: %d, %v", n, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := c.ids[8:]; !slices.Equal(got, ids[2:4]) {
			t.Errorf("posted %v, want %v", got, ids[2:4])
		}
		if n, err = w.ReplayRange(ctx, "app", 0, 0); n != 2 || err != nil {
			t.Errorf("all that are left: %d, %v", n, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if rows(t, s.Store, dead) != 0 || rows(t, s.Store, waiting) != 0 || w.Status()[0].Delivered != 6 {
			t.Errorf("status %+v", w.Status()[0])
		}
		if _, err := w.Replay(ctx, "app", "x"); err == nil {
			t.Error("x is taken for an id")
		}
		if _, err := w.Replay(ctx, "other"); !errors.Is(err, ErrUnknown) {
			t.Errorf("of an unknown one: %v", err)
		}
	})
}

// What is replayed has all its attempts and time again, and survives a restart as
// something that waits.
func TestReplayBeginsAnew(t *testing.T) {
	c := &carrier{answer: func(*http.Request, int) (*http.Response, error) { return status(429) }}
	synctest.Test(t, func(t *testing.T) {
		s := modtest.New(t)
		e := Endpoint{URL: "https://app.example/hook", Domains: []string{"gw.example.org"}, GiveUpAfter: time.Hour}
		o := Options{Transport: c, Schedule: Schedule()}
		w, stop := start(t, s, e, o)
		s.Connect("romeo@example.org/orchard").Send(hello)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		attempts := c.count()
		if n, err := w.ReplayRange(context.Background(), "app", 0, 0); n != 1 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		time.Sleep(time.Minute)
		stop()
		w, _ = start(t, s, e, o)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if st := w.Status()[0]; st.Pending != 1 {
			t.Errorf("after half an hour: %+v", st)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if st := w.Status()[0]; st.Pending != 0 || c.count() != 2*attempts {
			t.Errorf("%d attempts, then %d: %+v", attempts, c.count()-attempts, st)
		}
	})
}

func TestTry(t *testing.T) {
	c := &carrier{}
	c.answer = func(r *http.Request, n int) (*http.Response, error) {
		time.Sleep(20 * time.Millisecond)
		switch n {
		case 1:
			return status(200)
		case 2:
			return status(404)
		}
		return nil, context.DeadlineExceeded
	}
	bubble(t, c, Options{}, func(s *modtest.Server, w *Service, _ *modtest.Client) {
		for i, want := range []Trial{
			{OK: true, Status: 200, Latency: 20},
			{Status: 404, Latency: 20, Error: "the status is not 2xx"},
			{Latency: 20, Error: "no answer in time"},
		} {
			got, err := w.Try(context.Background(), "app")
			want.ID = c.ids[i]
			if err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		}
		if c.ids[0] == c.ids[1] {
			t.Error("two trials have one id")
		}
		if want := `{"id":"` + c.ids[0] + `","type":"test","timestamp":"2000-01-01T00:00:00Z","host":"","data":{"webhook":"app"}}`; c.bodies[0] != want {
			t.Errorf("posted %s, want %s", c.bodies[0], want)
		}
		if n := rows(t, s.Store, "webhook_delivery"); n != 0 {
			t.Errorf("%d rows", n)
		}
	})
}
