package event

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"trivium/core/store"
)

// TestBehind: a reader that falls behind what is in memory goes on in the
// database, in batches of bounded size, and comes back.
func TestBehind(t *testing.T) {
	for name, o := range map[string]Options{"number": {Tail: 8}, "octets": {TailOctets: 1000}} {
		t.Run(name, func(t *testing.T) {
			l := openLog(t, o)
			r := l.Follow(&Filter{Hosts: []string{"sms.example.org"}}, l.Last())
			defer r.Close()
			var want, got []int64
			for round := range 3 {
				var list []*Event
				for i := range 600 * (round % 2) {
					list = append(list, note("sms.example.org", i), note("other.example.org", i))
				}
				for i := range 3 {
					list = append(list, note("sms.example.org", i))
				}
				commit(t, l, list...)
				for _, e := range list {
					if e.Host == "sms.example.org" {
						want = append(want, e.Seq)
					}
				}
				if l.tail.n > 8 {
					t.Errorf("%d events in memory", l.tail.n)
				}
				for len(got) < len(want) {
					list, err := r.Next(t.Context())
					if err != nil || len(list) == 0 || len(list) > batchMax {
						t.Fatal(len(list), err)
					}
					for _, e := range list {
						got = append(got, e.Seq)
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("round %d: got %d events, want %d", round, len(got), len(want))
				}
			}
			if r.Gap() {
				t.Error("told of a gap")
			}
		})
	}
}

// TestBatchOctets: large events come a few at a time.
func TestBatchOctets(t *testing.T) {
	l := openLog(t, Options{TailOctets: 1})
	after := l.Last()
	var list []*Event
	for range 12 {
		list = append(list, &Event{Type: Test, Data: append(append([]byte(`"`), bytes.Repeat([]byte("x"), 400<<10)...), '"')})
	}
	commit(t, l, list...)
	r := l.Follow(nil, after)
	defer r.Close()
	for n := 0; n < len(list); {
		got, err := r.Next(t.Context())
		if err != nil || len(got) > 3 {
			t.Fatal(len(got), err)
		}
		n += len(got)
	}
}

// TestRead pages through what a filter takes.
func TestRead(t *testing.T) {
	l := openLog(t, Options{Tail: 16})
	if list, last, err := l.Read(t.Context(), nil, l.Last(), 10); err != nil || len(list) != 0 || last != l.Last() {
		t.Errorf("an empty log: %d events, last %d, %v", len(list), last, err)
	}
	var want []int64
	for i := range 100 {
		e := note("sms.example.org", i)
		if i%7 != 0 {
			e.Host = "other.example.org"
		}
		commit(t, l, e)
		if i%7 == 0 {
			want = append(want, e.Seq)
		}
	}
	for _, limit := range []int{1, 3, 14, 15, 1000} {
		var got []int64
		for after := int64(0); ; {
			list, last, err := l.Read(t.Context(), &Filter{Hosts: []string{"sms.example.org"}}, after, limit)
			if err != nil || len(list) > limit {
				t.Fatal(len(list), err)
			}
			for _, e := range list {
				got = append(got, e.Seq)
			}
			if last == after {
				break
			}
			after = last
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %d events, want %d", limit, len(got), len(want))
		}
	}
}

// TestNextEnds: a reader that waits is woken by Close and by its context.
func TestNextEnds(t *testing.T) {
	l := openLog(t, Options{})
	synctest.Test(t, func(t *testing.T) {
		r := l.Follow(nil, l.Last())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		next := func(ctx context.Context) {
			_, err := r.Next(ctx)
			ended <- err
		}
		go next(ctx)
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
		go next(t.Context())
		synctest.Wait()
		r.Close()
		r.Close()
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

// TestCrash opens the files as they are while the log is in use: what was
// committed is there, in order, and numbers go on above it.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "a.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l, err := NewLog(t.Context(), Options{Store: db})
	if err != nil {
		t.Fatal(err)
	}
	var want []int64
	for i := range 50 {
		e := note("sms.example.org", i)
		commit(t, l, e)
		want = append(want, e.Seq)
	}
	for _, suffix := range []string{"", "-wal"} {
		octets, err := os.ReadFile(filepath.Join(dir, "a.db"+suffix))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "b.db"+suffix), octets, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copied, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "b.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if l, err = NewLog(t.Context(), Options{Store: copied}); err != nil {
		t.Fatal(err)
	}
	e := note("sms.example.org", 50)
	commit(t, l, e)
	list, _, err := l.Read(t.Context(), nil, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, e := range list {
		got = append(got, e.Seq)
	}
	if !slices.Equal(got, append(want, e.Seq)) || e.Seq <= want[49] {
		t.Errorf("%d events, the last %d", len(got), e.Seq)
	}
	if n := l.Status().Events; n != 51 {
		t.Errorf("%d events are counted", n)
	}
}

// A page of many large events was as large as all of them.
func TestPageOctets(t *testing.T) {
	l := openLog(t, Options{})
	body := strings.Repeat("x", 250<<10)
	var all []*Event
	for i := range 40 { // 10 MB
		e := note("sms.example.org", i)
		e.Stanza = append(e.Stanza, body...)
		all = append(all, e)
	}
	commit(t, l, all...)
	got, after := 0, int64(0)
	for {
		list, last, err := l.Read(t.Context(), nil, after, 500)
		if err != nil {
			t.Fatal(err)
		}
		if last == after {
			break
		}
		octets := 0
		for _, e := range list {
			if e.Seq != all[got].Seq {
				t.Fatalf("event %d is %d", got, e.Seq)
			}
			octets += len(e.Stanza)
			got++
		}
		if octets > readOctets+len(body)+1024 {
			t.Errorf("%d octets at once", octets)
		}
		after = last
	}
	if got != len(all) {
		t.Errorf("%d of %d events", got, len(all))
	}
}
