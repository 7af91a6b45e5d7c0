package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestSplitter(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		want []string
	}{
		{
			"stream header then features", // RFC 6120 §4.2, §4.3.2
			"<?xml version='1.0'?><stream:stream from='a' xmlns='jabber:client'><stream:features><x/></stream:features>",
			[]string{
				"<stream:stream from='a' xmlns='jabber:client'>",
				"<stream:features><x/></stream:features>",
			},
		},
		{
			"whitespace keepalive between stanzas", // RFC 6120 §4.6.1
			" \n<iq id='1'/> <message><body>a &gt; b</body></message>",
			[]string{"<iq id='1'/>", "<message><body>a &gt; b</body></message>"},
		},
		{
			"an attribute may hold a bare >", // XML 1.0 §2.3 AttValue
			`<iq id='>/>'><a b="'>"/></iq><iq id="x"/>`,
			[]string{`<iq id='>/>'><a b="'>"/></iq>`, `<iq id="x"/>`},
		},
		{
			"nested elements of the same name", // XEP-0297 forwards hold messages
			"<message><forwarded><message><body/></message></forwarded></message><r/>",
			[]string{"<message><forwarded><message><body/></message></forwarded></message>", "<r/>"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for cut := 0; cut <= len(tt.in); cut++ {
				got, err := splitAt(tt.in, cut)
				if err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				if strings.Join(got, "\x00") != strings.Join(tt.want, "\x00") {
					t.Fatalf("cut at %d: got %q, want %q", cut, got, tt.want)
				}
			}
		})
	}
}

func TestSplitterStreamEnd(t *testing.T) {
	var s splitter
	s.feed([]byte("<stream:stream><iq/></stream:stream>"))
	for range 2 {
		if _, ok, err := s.next(); !ok || err != nil {
			t.Fatalf("next: %v, %v", ok, err)
		}
	}
	if _, _, err := s.next(); err != errStreamClosed {
		t.Fatalf("after </stream:stream>: got %v, want %v", err, errStreamClosed)
	}
}

func splitAt(in string, cut int) ([]string, error) {
	var s splitter
	var got []string
	for _, part := range []string{in[:cut], in[cut:]} {
		s.feed([]byte(part))
		for {
			element, ok, err := s.next()
			if err != nil {
				return got, err
			}
			if !ok {
				break
			}
			got = append(got, string(element))
		}
	}
	return got, nil
}

func FuzzSplitter(f *testing.F) {
	f.Add("<a><b c='>'/></a><d/>", 3)
	f.Add("<stream:stream><a></a></stream:stream>", 9)
	f.Fuzz(func(t *testing.T, in string, cut int) {
		if cut < 0 || cut > len(in) {
			cut = len(in) / 2
		}
		whole, err1 := splitAt(in, len(in))
		parts, err2 := splitAt(in, cut)
		if (err1 == nil) != (err2 == nil) || strings.Join(whole, "\x00") != strings.Join(parts, "\x00") {
			t.Fatalf("cut at %d changes the elements: %q (%v), whole %q (%v)", cut, parts, err2, whole, err1)
		}
	})
}

func TestAttr(t *testing.T) {
	const in = `<body xmlns:x='u' x:sid='no' sid="abc" wait='60'><y sid='inner'/></body>`
	for _, tt := range []struct{ name, want string }{
		{"sid", "abc"}, {"wait", "60"}, {"x:sid", "no"}, {"inner", ""},
	} {
		if got := attr([]byte(in), tt.name); got != tt.want {
			t.Errorf("attr %s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := string(inner([]byte(in))); got != "<y sid='inner'/>" {
		t.Errorf("inner: got %q", got)
	}
	if got := inner([]byte("<body sid='1'/>")); got != nil {
		t.Errorf("inner of an empty element: got %q", got)
	}
}

func FuzzCounter(f *testing.F) {
	f.Add([]byte("</message></mess</message>x"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		in = bytes.ReplaceAll(in, []byte{'~'}, []byte("</message>"))
		const pattern = "</message>"
		c := newCounter(pattern)
		got := 0
		size := int(step)%len(pattern) + 1
		for p := in; len(p) > 0; {
			n := min(size, len(p))
			got += c.count(p[:n])
			p = p[n:]
			size = size*7%29 + 1
		}
		if want := bytes.Count(in, []byte(pattern)); got != want {
			t.Fatalf("%q in pieces: %d, want %d", in, got, want)
		}
	})
}

func TestCounterAllocatesNothing(t *testing.T) {
	c := newCounter("</message>")
	chunk := []byte("<message><body>x</body></message><message><body>x</body></mess")
	if n := testing.AllocsPerRun(1000, func() { c.count(chunk); c.count(chunk[:4]) }); n != 0 {
		t.Errorf("count: %v allocations, want 0", n)
	}
}

func BenchmarkCounter(b *testing.B) {
	c := newCounter("</message>")
	chunk := []byte(strings.Repeat("<message from='a@b/c' to='d@e/f' type='chat'><body>"+strings.Repeat("x", 100)+"</body></message>", 32))
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if c.count(chunk) != 32 {
			b.Fatal("miscounted")
		}
	}
}
