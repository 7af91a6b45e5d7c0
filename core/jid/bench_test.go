package jid

import (
	"testing"

	oracle "mellium.im/xmpp/jid"
)

var sink JID

// Normal addresses cost nothing but the pass over them.
func TestParseDoesNotAllocate(t *testing.T) {
	for _, s := range []string{"example.org", "juliet@example.org", "juliet@example.org/balcony", "room@muc.example.org/Third Witch", "192.0.2.1/x"} {
		if n := testing.AllocsPerRun(1000, func() { sink, _ = Parse(s) }); n != 0 {
			t.Errorf("Parse(%q): %v allocs, want 0", s, n)
		}
	}
	j := Must("juliet@example.org/balcony")
	var str string
	n := testing.AllocsPerRun(1000, func() {
		sink = j.Bare()
		sink = j.Host()
		str = j.Local() + ""
		str = j.Domain()
		str = j.Resource()
		str = j.String()
	})
	if n != 0 {
		t.Errorf("accessors: %v allocs, want 0", n)
	}
	_ = str
}

func BenchmarkParse(b *testing.B) {
	for _, bb := range []struct{ name, in string }{
		{"Host", "example.org"},
		{"Bare", "juliet@example.org"},
		{"Full", "juliet@example.org/balcony"},
		{"UpperCase", "Juliet@example.org/balcony"},
		{"NonASCIIResource", "room@muc.example.org/h\u00e9l\u00e8ne"},
		{"NonASCII", "h\u00e9l\u00e8ne@b\u00fccher.example/caf\u00e9"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sink, _ = Parse(bb.in)
			}
		})
	}
	b.Run("Full/mellium", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = oracle.Parse("juliet@example.org/balcony")
		}
	})
}
