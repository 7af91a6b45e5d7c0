package event_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/store"
	"trivium/httpapi/event"
)

const gw = "sms.example.org"

// waitFor makes a log on which events of gw wait.
func waitFor(t *testing.T, o event.Options) *event.Log {
	t.Helper()
	l := newLog(t, o)
	l.Await(func(host string) bool { return host == gw })
	return l
}

// offered returns the numbers of what waits, without taking it.
func offered(t *testing.T, l *event.Log, upTo int64) (list []int64) {
	t.Helper()
	err := l.Offer(t.Context(), gw, upTo, func(part []*event.Event) ([]*event.Event, store.Op) {
		list = append(list, numbers(part)...)
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// What nobody takes waits, until it is settled, over restarts, and is not trimmed.
func TestWaiting(t *testing.T) {
	db := openStore(t, store.Options{Path: filepath.Join(t.TempDir(), "log.db")})
	l := waitFor(t, event.Options{Store: db, Tail: 2})
	other := chat(0)
	other.Host = "example.org"
	request := chat(0)
	request.Type = event.IQ
	add(t, l, other, request)
	if list := offered(t, l, math.MaxInt64); len(list) > 0 || len(l.Waiting()) > 0 {
		t.Fatalf("%v wait", list)
	}
	var want []int64
	for i := range 600 { // more than one portion
		e := chat(i)
		if err := l.Append(e, nil); err != nil { // not committed when it is offered
			t.Fatal(err)
		}
		want = append(want, e.Seq)
	}
	if list := offered(t, l, math.MaxInt64); !slices.Equal(list, want) {
		t.Fatalf("%d wait, want %d: %v", len(list), len(want), list)
	}
	if list := offered(t, l, want[9]); !slices.Equal(list, want[:10]) {
		t.Errorf("up to the tenth: %v", list)
	}
	failed := errors.New("no")
	odd := func(op store.Op) (func([]*event.Event) ([]*event.Event, store.Op), *int) {
		n := 0
		return func(part []*event.Event) (some []*event.Event, _ store.Op) {
			for _, e := range part {
				if n++; n%2 == 1 {
					some = append(some, e)
				}
			}
			return some, op
		}, &n
	}
	choose, _ := odd(func(*store.Tx) error { return failed })
	if err := l.Offer(t.Context(), gw, math.MaxInt64, choose); !errors.Is(err, failed) {
		t.Errorf("offer: %v", err)
	}
	choose, n := odd(nil)
	if err := l.Offer(t.Context(), gw, math.MaxInt64, choose); err != nil || *n != 600 {
		t.Errorf("offered %d, %v", *n, err)
	}
	left := slices.Collect(func(yield func(int64) bool) {
		for i := 1; i < len(want); i += 2 {
			if !yield(want[i]) {
				return
			}
		}
	})

	// After a restart, with a log that keeps next to nothing else.
	l = waitFor(t, event.Options{Store: db, MaxEvents: 10})
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); l.Run(ctx) }()
	for n := 602; n > 310; {
		if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM event_log`).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-over
	if list := offered(t, l, math.MaxInt64); !slices.Equal(list, left) {
		t.Errorf("%d wait after a restart, want %d", len(list), len(left))
	}
	// The gateway's own word, and nobody else's.
	for _, consumer := range []string{"x:" + gw, event.Gateway("other.example.org")} {
		if err := l.Ack(t.Context(), consumer, math.MaxInt64); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Ack(t.Context(), event.Gateway(gw), left[4]); err != nil {
		t.Fatal(err)
	}
	if list := offered(t, l, math.MaxInt64); !slices.Equal(list, left[5:]) {
		t.Errorf("%d wait after an acknowledgement, want %d", len(list), len(left)-5)
	}
	// What was taken and is given back.
	done := func() {}
	err := db.Write(t.Context(), func(tx *store.Tx) (err error) {
		done, err = l.Requeue(tx, []int64{left[4], left[5]})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done()
	if list := offered(t, l, math.MaxInt64); !slices.Equal(list, left[4:]) {
		t.Errorf("%d wait after a requeue, want %d", len(list), len(left)-4)
	}
	if err := l.Ack(t.Context(), event.Gateway(gw), math.MaxInt64); err != nil || len(l.Waiting()) > 0 {
		t.Errorf("%v wait, %v", l.Waiting(), err)
	}
}

// Messages are refused when too many wait; other events do not wait then.
func TestTooMuchWaits(t *testing.T) {
	l := waitFor(t, event.Options{MaxWaiting: 2})
	add(t, l, chat(1), chat(2))
	if err := l.Append(chat(3), nil); !errors.Is(err, event.ErrFull) {
		t.Errorf("a message too many: %v", err)
	}
	p := chat(4)
	p.Type = event.Presence
	add(t, l, p)
	if list := offered(t, l, math.MaxInt64); len(list) != 2 || slices.Contains(list, p.Seq) {
		t.Errorf("%v wait", list)
	}
	if err := l.Ack(t.Context(), event.Gateway(gw), l.Last()); err != nil {
		t.Fatal(err)
	}
	add(t, l, chat(5))
	if list := offered(t, l, math.MaxInt64); len(list) != 1 {
		t.Errorf("%v wait", list)
	}
}

// Consumers that look on do not take an event.
func TestTaken(t *testing.T) {
	for _, takes := range []bool{false, true} {
		l := waitFor(t, event.Options{})
		l.Consume(taker(takes))
		add(t, l, chat(1))
		if list := offered(t, l, math.MaxInt64); len(list) == 1 == takes {
			t.Errorf("taken: %v, wait: %v", takes, list)
		}
	}
}

type taker bool

func (t taker) Want(*event.Event) (event.Wish, error) {
	return event.Wish{Op: func(*store.Tx) error { return nil }, Takes: bool(t)}, nil
}

// A stream takes what it has been sent, of the types that it takes.
func TestStreamTakes(t *testing.T) {
	l := waitFor(t, event.Options{})
	before, presence, message := chat(1), chat(2), chat(3)
	presence.Type = event.Presence
	add(t, l, before, presence, message)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := event.Stream{Log: l, Encoder: &event.Encoder{}}
		s.Serve(w, r, event.Filter{Hosts: []string{gw}, Types: []event.Type{event.Message, event.Subscription}}, event.JSON, before.Seq)
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer rs.Body.Close()
	want := []int64{before.Seq, presence.Seq}
	for deadline := time.Now().Add(10 * time.Second); !slices.Equal(offered(t, l, math.MaxInt64), want); {
		if time.Now().After(deadline) {
			t.Fatalf("%v wait, want %v", offered(t, l, math.MaxInt64), want)
		}
	}
	for typ, want := range map[event.Type]bool{event.Message: true, event.Subscription: true, event.IQ: false, event.Presence: false} {
		if got := l.Follows(gw, typ); got != want {
			t.Errorf("follows %s: %v", typ, got)
		}
	}
	if l.Follows("example.org", event.Message) || l.Followers(gw) != 1 {
		t.Errorf("%d followers", l.Followers(gw))
	}
	live, there := chat(4), chat(5)
	there.Type = event.Presence
	add(t, l, live, there)
	want = append(want, there.Seq)
	if list := offered(t, l, math.MaxInt64); !slices.Equal(list, want) {
		t.Errorf("%v wait, want %v", list, want)
	}
	cancel()
	for l.Follows(gw, event.Message) {
		time.Sleep(time.Millisecond)
	}
}

// Appends, acknowledgements and offers at once: what is counted is there.
func TestWaitingTogether(t *testing.T) {
	db := openStore(t, store.Options{Path: filepath.Join(t.TempDir(), "log.db")})
	l := waitFor(t, event.Options{Store: db})
	done := make(chan error, 3)
	go func() {
		for i := range 500 {
			e := chat(i)
			e.From = jid.Must(fmt.Sprintf("u%d@example.org", i%7))
			if err := l.Append(e, nil); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	go func() {
		for range 20 {
			if err := l.Ack(t.Context(), event.Gateway(gw), l.Last()); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	go func() {
		for range 20 {
			err := l.Offer(t.Context(), gw, math.MaxInt64, func(list []*event.Event) ([]*event.Event, store.Op) { return list[:1], nil })
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 3 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Offer(t.Context(), gw, math.MaxInt64, func(list []*event.Event) ([]*event.Event, store.Op) { return list, nil }); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM event_waiting`).Scan(&n); err != nil || n > 0 || len(l.Waiting()) > 0 {
		t.Errorf("%d rows, %v wait, %v", n, l.Waiting(), err)
	}
}
