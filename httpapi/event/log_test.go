package event_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/store"
	"trivium/httpapi/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openStore(tb testing.TB, o store.Options) *store.DB {
	tb.Helper()
	db, err := store.Open(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

func newLog(tb testing.TB, o event.Options) *event.Log {
	tb.Helper()
	if o.Store == nil {
		o.Store = openStore(tb, store.Options{})
	}
	l, err := event.NewLog(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func chat(i int) *event.Event {
	return &event.Event{
		Type: event.Message, Host: "sms.example.org",
		From: jid.Must("juliet@example.org/balcony"), To: jid.Must("romeo@sms.example.org"),
		Stanza: fmt.Appendf(nil, `<message xmlns='jabber:client' from='juliet@example.org/balcony' to='romeo@sms.example.org'`+
			` type='chat' id='m%d'><body>%d</body></message>`, i, i),
	}
}

// add appends events and waits for their commit.
func add(tb testing.TB, l *event.Log, list ...*event.Event) {
	tb.Helper()
	var wg sync.WaitGroup
	for _, e := range list {
		wg.Add(1)
		rc := router.NewReceipt(func(err error) {
			if err != nil {
				tb.Errorf("commit: %v", err)
			}
			wg.Done()
		})
		if err := l.Append(e, rc); err != nil {
			tb.Fatal(err)
		}
		rc.Release(nil)
	}
	wg.Wait()
}

// all reads the whole log.
func all(tb testing.TB, l *event.Log, f *event.Filter, after int64) []*event.Event {
	tb.Helper()
	var list []*event.Event
	for {
		part, last, err := l.Read(context.Background(), f, after, 100)
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, part...)
		if last == after {
			return list
		}
		after = last
	}
}

func numbers(list []*event.Event) []int64 {
	out := make([]int64, len(list))
	for i, e := range list {
		out[i] = e.Seq
	}
	return out
}

// witness is a consumer that keeps what it has seen in a table.
type witness struct {
	mu     sync.Mutex
	wanted []int64
	done   []int64
	refuse error
}

func (w *witness) Want(e *event.Event) (event.Wish, error) {
	if w.refuse != nil {
		return event.Wish{}, w.refuse
	}
	w.wanted = append(w.wanted, e.Seq) // under the log's lock
	return event.Wish{
		Op: func(tx *store.Tx) error {
			_, err := tx.Exec(`INSERT INTO witness (seq) VALUES (?)`, e.Seq)
			return err
		},
		Done: func(err error) {
			if err == nil {
				w.mu.Lock()
				w.done = append(w.done, e.Seq)
				w.mu.Unlock()
			}
		},
	}, nil
}

func createWitness(tb testing.TB, db *store.DB) {
	tb.Helper()
	err := db.Write(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec(`CREATE TABLE witness (seq INTEGER PRIMARY KEY)`)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// TestOrder appends from many goroutines while readers follow: everybody sees
// the same events in the same order.
func TestOrder(t *testing.T) {
	db := openStore(t, store.Options{})
	createWitness(t, db)
	l := newLog(t, event.Options{Store: db, Tail: 64})
	w := &witness{}
	l.Consume(w)
	const writers, each = 8, 200
	start := l.Last()

	var readers sync.WaitGroup
	seen := make([][]int64, 4)
	for i := range seen {
		r := l.Follow(nil, start)
		readers.Go(func() {
			defer r.Close()
			for len(seen[i]) < writers*each {
				list, err := r.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				seen[i] = append(seen[i], numbers(list)...)
			}
		})
	}
	var appenders sync.WaitGroup
	for range writers {
		appenders.Go(func() {
			for i := range each {
				if err := l.Append(chat(i), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	appenders.Wait()
	readers.Wait()
	if err := db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := numbers(all(t, l, nil, start))
	if len(want) != writers*each || !slices.IsSorted(want) || len(slices.Compact(slices.Clone(want))) != len(want) {
		t.Errorf("%d events, sorted %t", len(want), slices.IsSorted(want))
	}
	for i := range seen {
		if !slices.Equal(seen[i], want) {
			t.Errorf("reader %d has seen another order", i)
		}
	}
	if !slices.Equal(w.wanted, want) || !slices.Equal(w.done, want) {
		t.Error("the consumer has seen another order")
	}
}

// TestReopen: numbers and order outlive the process, and numbers go on above all
// that were given even when the clock was set back.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	db := openStore(t, store.Options{Path: path})
	l := newLog(t, event.Options{Store: db, Now: clock})
	first := []*event.Event{chat(1), chat(2), chat(3)}
	first[0].Trace, first[1].Key = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "k"
	first[2] = &event.Event{Type: event.Delivery, Host: "example.org", Data: []byte(`{"state":"delivered"}`)}
	add(t, l, first...)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	now = now.Add(-time.Hour)
	l = newLog(t, event.Options{Store: openStore(t, store.Options{Path: path}), Now: clock})
	add(t, l, chat(4))
	list := all(t, l, nil, 0)
	if len(list) != 4 {
		t.Fatalf("%d events", len(list))
	}
	for i, e := range list {
		if i > 0 && e.Seq <= list[i-1].Seq {
			t.Errorf("number %d after %d", e.Seq, list[i-1].Seq)
		}
		if i == 3 {
			break
		}
		want := *first[i]
		if e.Seq != want.Seq || e.Type != want.Type || !e.Time.Equal(want.Time) || e.Host != want.Host || e.From != want.From ||
			e.To != want.To || string(e.Stanza) != string(want.Stanza) || string(e.Data) != string(want.Data) ||
			e.Trace != want.Trace || e.Key != want.Key {
			t.Errorf("got %+v, want %+v", e, want)
		}
		got, err := l.Get(t.Context(), e.Seq)
		if err != nil || got.Seq != e.Seq {
			t.Errorf("Get: %v, %v", got, err)
		}
	}
	if _, err := l.Get(t.Context(), list[3].Seq+1); !errors.Is(err, event.ErrUnknown) {
		t.Errorf("Get of what is not there: %v", err)
	}
}

// TestRefused: a consumer that refuses, and one whose write fails.
func TestRefused(t *testing.T) {
	db := openStore(t, store.Options{})
	l := newLog(t, event.Options{Store: db})
	w := &witness{refuse: errors.New("full")}
	l.Consume(w)
	rc := router.NewReceipt(func(error) { t.Error("the receipt was touched") })
	if err := l.Append(chat(1), rc); !errors.Is(err, w.refuse) {
		t.Errorf("Append: %v", err)
	}
	// There is no table witness: the consumer's part fails, and with it the event.
	w.refuse = nil
	failed := make(chan error, 1)
	rc = router.NewReceipt(func(err error) { failed <- err })
	if err := l.Append(chat(2), rc); err != nil {
		t.Fatal(err)
	}
	rc.Release(nil)
	if err := <-failed; err == nil {
		t.Error("the receipt says that the event was committed")
	}
	createWitness(t, db)
	add(t, l, chat(3))
	list := all(t, l, nil, 0)
	if len(list) != 1 || !slices.Equal(w.done, numbers(list)) {
		t.Errorf("%d events", len(list))
	}
}
