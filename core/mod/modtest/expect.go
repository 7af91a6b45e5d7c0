package modtest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"trivium/core/stanza"
)

// recorder keeps what one end has received.
type recorder struct {
	tb   testing.TB
	name string

	mu   sync.Mutex
	got  []string
	more chan struct{} // capacity 1: something has been added
}

func newRecorder(tb testing.TB, name string) *recorder {
	return &recorder{tb: tb, name: name, more: make(chan struct{}, 1)}
}

func (r *recorder) add(elements ...string) {
	r.mu.Lock()
	r.got = append(r.got, elements...)
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// Next waits for the next stanza and takes it.
func (r *recorder) Next() string {
	r.tb.Helper()
	timeout := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		if len(r.got) > 0 {
			x := r.got[0]
			r.got = r.got[1:]
			r.mu.Unlock()
			return x
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-timeout:
			r.tb.Fatalf("%s: nothing came", r.name)
		}
	}
}

// Take returns what has been received so far and forgets it.
func (r *recorder) Take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

// Expect takes as many stanzas as there are patterns, which they must match in
// order. In a pattern "*" as the value of an attribute or as text stands for
// anything; attributes may come in any order, and an id that the pattern leaves
// out may be there.
func (r *recorder) Expect(patterns ...string) {
	r.tb.Helper()
	for _, want := range patterns {
		got := r.Next()
		if d := Diff(want, got); d != "" {
			r.tb.Fatalf("%s: %s\n got %s\nwant %s", r.name, d, got, want)
		}
	}
}

// ExpectSet is Expect in any order.
func (r *recorder) ExpectSet(patterns ...string) {
	r.tb.Helper()
	left := append([]string(nil), patterns...)
	for range patterns {
		got := r.Next()
		found := false
		for i, want := range left {
			if Diff(want, got) == "" {
				left = append(left[:i], left[i+1:]...)
				found = true
				break
			}
		}
		if !found {
			r.tb.Fatalf("%s: unexpected\n got %s\nwant one of %s", r.name, got, strings.Join(left, "\n            "))
		}
	}
}

// Quiet fails the test when anything has been received that was not expected.
func (r *recorder) Quiet() {
	r.tb.Helper()
	if got := r.Take(); len(got) > 0 {
		r.tb.Fatalf("%s: did not expect %s", r.name, strings.Join(got, "\n"))
	}
}

// Diff compares an element with a pattern; "" means that it matches.
func Diff(pattern, got string) string {
	want, err := stanza.ParseElement(pattern)
	if err != nil {
		return fmt.Sprintf("pattern: %v", err)
	}
	have, err := stanza.ParseElement(got)
	if err != nil {
		return fmt.Sprintf("received: %v", err)
	}
	return diff(want, have)
}

func diff(want, got *stanza.Element) string {
	if want.Space != got.Space || want.Local != got.Local {
		return fmt.Sprintf("{%s}%s is not {%s}%s", got.Space, got.Local, want.Space, want.Local)
	}
	for _, a := range want.Attrs {
		found := false
		for _, b := range got.Attrs {
			if a.Local == b.Local && a.Space == b.Space {
				found = true
				if a.Value != "*" && a.Value != b.Value {
					return fmt.Sprintf("<%s/> has %s=%q", got.Local, a.Local, b.Value)
				}
			}
		}
		if !found {
			return fmt.Sprintf("<%s/> lacks %s", got.Local, a.Local)
		}
	}
	for _, b := range got.Attrs {
		found := b.Local == "id" && b.Space == ""
		for _, a := range want.Attrs {
			found = found || a.Local == b.Local && a.Space == b.Space
		}
		if !found {
			return fmt.Sprintf("<%s/> has %s", got.Local, b.Local)
		}
	}
	wantText, gotText := strings.TrimSpace(want.Text()), strings.TrimSpace(got.Text())
	if wantText == "*" {
		return ""
	}
	if wantText != gotText {
		return fmt.Sprintf("<%s/> holds %q", got.Local, gotText)
	}
	w, g := want.Children("", ""), got.Children("", "")
	if len(w) != len(g) {
		return fmt.Sprintf("<%s/> has %d children", got.Local, len(g))
	}
	for i := range w {
		if d := diff(w[i], g[i]); d != "" {
			return d
		}
	}
	return ""
}
