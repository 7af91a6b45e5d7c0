package event_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/store"
	"trivium/httpapi/event"
)

// trimmed runs f beside a log that is trimmed, under a clock of their own.
func trimmed(t *testing.T, o event.Options, f func(t *testing.T, l *event.Log)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "log.db")})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		createWitness(t, db)
		o.Store = db
		l := newLog(t, o)
		l.HeldBy("witness")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		f(t, l)
		cancel()
		<-done

		// What is counted outlives a restart.
		o.Store = db
		again := newLog(t, o)
		var events int
		if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM event_log`).Scan(&events); err != nil {
			t.Fatal(err)
		}
		if n := again.Status().Events; n != int64(events) {
			t.Errorf("%d events are counted after a restart, %d are there", n, events)
		}
	})
}

func hold(t *testing.T, db *store.DB, list ...*event.Event) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		for _, e := range list {
			if _, err := tx.Exec(`INSERT INTO witness (seq) VALUES (?)`, e.Seq); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTrimByAge(t *testing.T) {
	o := event.Options{Keep: time.Hour, Tail: 8}
	trimmed(t, o, func(t *testing.T, l *event.Log) {
		var list []*event.Event
		for i := range 700 { // several steps
			list = append(list, chat(i))
		}
		add(t, l, list...)
		hold(t, event.Store(l), list[0], list[300], list[301])
		follower := l.Follow(nil, list[10].Seq)
		fresh := l.Follow(nil, 0)
		time.Sleep(30 * time.Minute)
		late := chat(700)
		add(t, l, late)
		if n := len(all(t, l, nil, 0)); n != 701 || l.Gap(list[0].Seq) {
			t.Errorf("%d events, gap %t", n, l.Gap(list[0].Seq))
		}
		time.Sleep(31 * time.Minute)
		synctest.Wait()
		if got := numbers(all(t, l, nil, 0)); !slices.Equal(got[:3], numbers([]*event.Event{list[0], list[300], list[301]})) ||
			got[len(got)-1] != late.Seq {
			t.Errorf("kept: %v", got)
		}
		for _, tt := range []struct {
			after int64
			want  bool
		}{{0, false}, {list[5].Seq, true}, {list[698].Seq, true}, {list[699].Seq, false}, {late.Seq, false}, {late.Seq + 1, true}} {
			if l.Gap(tt.after) != tt.want {
				t.Errorf("Gap(%d) = %t", tt.after, !tt.want)
			}
		}
		// A reader that comes too late is told once; one from the beginning misses nothing.
		for _, r := range []*event.Reader{follower, fresh} {
			var got []int64
			gaps := 0
			for len(got) == 0 || got[len(got)-1] != late.Seq {
				part, err := r.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if r.Gap() {
					gaps++
				}
				got = append(got, numbers(part)...)
			}
			if want := map[*event.Reader]int{follower: 1, fresh: 0}[r]; gaps != want {
				t.Errorf("told of %d gaps, want %d", gaps, want)
			}
			r.Close()
		}
		// Nothing is held any more; all goes, and numbers go on.
		if err := event.Store(l).Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM witness`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(all(t, l, nil, 0)); n > 8 { // those in memory may still be read
			t.Errorf("%d events", n)
		}
		var n int
		if err := event.Store(l).QueryRow(t.Context(), `SELECT COUNT(*) FROM event_log`).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows, %v", n, err)
		}
		next := chat(701)
		add(t, l, next)
		if next.Seq <= late.Seq {
			t.Errorf("%d after %d", next.Seq, late.Seq)
		}
	})
}

func TestTrimByNumber(t *testing.T) {
	trimmed(t, event.Options{MaxEvents: 100, Tail: 8}, func(t *testing.T, l *event.Log) {
		var list []*event.Event
		for i := range 450 {
			list = append(list, chat(i))
		}
		add(t, l, list[:300]...)
		hold(t, event.Store(l), list[0], list[1])
		time.Sleep(11 * time.Second)
		synctest.Wait()
		want := append(numbers(list[:2]), numbers(list[200:300])...)
		if got := numbers(all(t, l, nil, 0)); !slices.Equal(got[:2], want[:2]) || !slices.Equal(got[len(got)-98:], want[len(want)-98:]) || len(got) > 102 {
			t.Errorf("%d kept, from %s", len(got), fmt.Sprint(got[:3]))
		}
		add(t, l, list[300:]...)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got := numbers(all(t, l, nil, 0)); got[len(got)-1] != list[449].Seq || len(got) < 100 || len(got) > 102 {
			t.Errorf("%d kept", len(got))
		}
	})
}

func TestAck(t *testing.T) {
	l := newLog(t, event.Options{})
	for _, tt := range []struct {
		consumer  string
		ack, want int64
	}{{"sms", 5, 5}, {"sms", 9, 9}, {"sms", 7, 9}, {"irc", 1, 1}} {
		if err := l.Ack(t.Context(), tt.consumer, tt.ack); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Acked(t.Context(), tt.consumer); err != nil || got != tt.want {
			t.Errorf("%s: %d, %v, want %d", tt.consumer, got, err, tt.want)
		}
	}
	if got, err := l.Acked(t.Context(), "nobody"); err != nil || got != 0 {
		t.Errorf("nobody: %d, %v", got, err)
	}
}

// TestNumbersAfterAllIsGone: numbers go on above those of events that are gone,
// even when the clock was set back.
func TestNumbersAfterAllIsGone(t *testing.T) {
	var db *store.DB
	last := chat(1)
	synctest.Test(t, func(t *testing.T) {
		var err error
		if db, err = store.Open(t.Context(), store.Options{}); err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		l := newLog(t, event.Options{Store: db, Keep: time.Hour})
		add(t, l, last)
		time.Sleep(2 * time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		synctest.Wait()
		cancel()
		<-done
		if n := l.Status().Events; n != 0 {
			t.Errorf("%d events", n)
		}
		yesterday := time.Now().Add(-24 * time.Hour)
		l = newLog(t, event.Options{Store: db, Now: func() time.Time { return yesterday }})
		next := chat(2)
		add(t, l, next)
		if next.Seq <= last.Seq || !next.Time.Equal(yesterday) {
			t.Errorf("%d at %v after %d at %v", next.Seq, next.Time, last.Seq, last.Time)
		}
	})
}
