package main

import (
	"strings"
	"testing"
)

// However a sender's messages are cut into writes, a request follows every tenth.
func TestManagedWriter(t *testing.T) {
	const message = "<message/>"
	for _, sizes := range [][]int{{1}, {32}, {9, 1, 10, 3, 7}, {5, 32, 31, 8, 20, 2}} {
		w := newManagedWriter([]byte(message), 32)
		var got strings.Builder
		n := 0
		for range 10 {
			for _, size := range sizes {
				got.Write(w.next(size))
				n += size
			}
		}
		var want strings.Builder
		for i := 1; i <= n; i++ {
			want.WriteString(message)
			if i%ackEvery == 0 {
				want.WriteString(ackRequest)
			}
		}
		if got.String() != want.String() {
			t.Errorf("%v: got %.600q", sizes, got.String())
		}
	}
}

func TestChildText(t *testing.T) {
	const fin = "<fin xmlns='urn:xmpp:mam:2' complete='true'><set xmlns='rsm'><firstly>0</firstly><first index='3'>a</first><last>b</last><count/></set></fin>"
	for name, want := range map[string]string{"last": "b", "count": "", "missing": "", "first": "a"} {
		if got := childText([]byte(fin), name); got != want {
			t.Errorf("<%s>: got %q, want %q", name, got, want)
		}
	}
}
