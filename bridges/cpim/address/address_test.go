package address

import (
	"errors"
	"strings"
	"testing"

	"trivium/core/jid"
)

// TestBothWays is the table of addresses of the mapping reference, 13.1.
func TestBothWays(t *testing.T) {
	for _, tt := range []struct{ jid, im, sip string }{
		{`juliet@example.com/balcony`, `im:juliet@example.com`, `sip:juliet@example.com;gr=balcony`},
		{`o\27malley@example.com`, `im:o%27malley@example.com`, `sip:o'malley@example.com`},
		{`m\26m@example.com`, `im:m%26m@example.com`, `sip:m&m@example.com`},
		{`a\2fb@example.com`, `im:a%2Fb@example.com`, `sip:a/b@example.com`},
		{`tschüss@example.com`, `im:tsch%C3%BCss@example.com`, `sip:tsch%C3%BCss@example.com`},
		{`foo-bar@example.com`, `im:foo-bar@example.com`, `sip:foo-bar@example.com`},
		{`what?@example.com`, `im:what%3F@example.com`, `sip:what?@example.com`},
		{`100%@example.com`, `im:100%25@example.com`, `sip:100%25@example.com`},
		{`a#b@example.com`, `im:a%23b@example.com`, `sip:a%23b@example.com`},
		{`user\40corp.example@gw.example.net`, `im:user%40corp.example@gw.example.net`, `sip:user%40corp.example@gw.example.net`},
		{`a\5c27b@example.com`, `im:a%5C27b@example.com`, `sip:a%5C27b@example.com`},
		{`c\3a\5c5commas@example.com`, `im:c%3A%5C5commas@example.com`, `sip:c%3A%5C5commas@example.com`},
		{`c\3a\net@example.com`, `im:c%3A%5Cnet@example.com`, `sip:c%3A%5Cnet@example.com`},
		{`space\20cadet@example.com`, `im:space%20cadet@example.com`, `sip:space%20cadet@example.com`},
		{`a..b@example.com`, `im:a%2E%2Eb@example.com`, `sip:a..b@example.com`},
		{`ann@bücher.example/Psi+ dev`, `im:ann@xn--bcher-kva.example`, `sip:ann@xn--bcher-kva.example;gr=Psi+%20dev`},
		{`(paren)[x]@example.com`, `im:%28paren%29%5Bx%5D@example.com`, `sip:(paren)%5Bx%5D@example.com`},
		{"{curly}|^`@example.com", `im:%7Bcurly%7D%7C%5E%60@example.com`, `sip:%7Bcurly%7D%7C%5E%60@example.com`},
		{`.dots.@example.com`, `im:%2Edots%2E@example.com`, `sip:.dots.@example.com`},
		{`a.b@example.com`, `im:a.b@example.com`, `sip:a.b@example.com`},
	} {
		j, err := jid.Parse(tt.jid)
		if err != nil {
			t.Fatalf("%s: %v", tt.jid, err)
		}
		for _, u := range []struct {
			scheme Scheme
			want   string
			back   jid.JID
		}{
			{IM, tt.im, j.Bare()},
			{Pres, "pres" + strings.TrimPrefix(tt.im, "im"), j.Bare()},
			{SIP, tt.sip, j},
		} {
			got, err := URI(u.scheme, j)
			if err != nil || got != u.want {
				t.Errorf("URI(%s, %s) = %q, %v, want %q", u.scheme, j, got, err, u.want)
			}
			if back, err := Parse(u.want); err != nil || back != u.back {
				t.Errorf("Parse(%q) = %q, %v, want %q", u.want, back, err, u.back)
			}
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ uri, want string }{
		{`im:o'malley@example.com`, `o\27malley@example.com`},
		{`im:a/b@example.com`, `a\2fb@example.com`},
		{`im:m&m@example.com`, `m\26m@example.com`},
		{`IM:Juliet@EXAMPLE.com`, `juliet@example.com`},
		{`im:romeo@example.net?subject=hi`, `romeo@example.net`},
		{`im:a%40b@example.com`, `a\40b@example.com`},
		{`im:c%3A%5Cnet@example.com`, `c\3a\net@example.com`},
		{`pres:%3A%3Afoo@example.com`, `\3a\3afoo@example.com`},
		{`sip:f%C3%BC@sip.example`, `fü@sip.example`},
		{`sip:foo@sip.example:5070;transport=tcp;gr=bar`, `foo@sip.example/bar`},
		{`sip:foo:secret@sip.example`, `foo@sip.example`}, // RFC 3261 §19.1.1
		{`sip:foo@sip.example?subject=x`, `foo@sip.example`},
		{`<sip:foo@sip.example>;gr=bar`, `foo@sip.example/bar`},
		{`<im:foo@im.example>`, `foo@im.example`},
		{`<im:foo@im.example`, ``},
		{`im:foo%2Dbar@example.com`, `foo-bar@example.com`}, // RFC 3922's own spelling
		{`im:a..b@example.com`, `a..b@example.com`},
		{`im:a%2fb@example.com`, `a\2fb@example.com`},
		{`im:ann@xn--bcher-kva.example`, `ann@bücher.example`},
		{`im:a%2526b@example.com`, `a%26b@example.com`},   // decoded once
		{`im:a%2326;b@example.com`, `a#26;b@example.com`}, // no escape of ours

		{`im:%zz@example.com`, ``},
		{`im:%4@example.com`, ``},
		{`im:%FF@example.com`, ``},
		{`im:@example.com`, ``},
		{`im:foo`, ``},
		{`im:foo@`, ``},
		{`im:?subject=x`, ``},
		{`im:user@host@example.com`, ``},
		{`im:%20a@example.com`, ``},
		{`im:a@[::1]`, ``},
		{`im:a@127.0.0.1`, ``},
		{`im:a@example.com/b`, ``},
		{`im:a%00b@example.com`, ``},
		{`mailto:a@example.com`, ``},
		{`a@example.com`, ``},
		{``, ``},
		{`im:`, ``},
		{`im:` + strings.Repeat("a", 1024) + `@example.com`, ``},
	} {
		got, err := Parse(tt.uri)
		if got.String() != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("Parse(%q) = %q, %v, want %q", tt.uri, got, err, tt.want)
		}
		var typed *Error
		if err != nil && !errors.As(err, &typed) {
			t.Errorf("Parse(%q): error is a %T", tt.uri, err)
		}
	}
	if _, err := Parse("SIPS:foo@sip.example"); !errors.Is(err, ErrSecure) {
		t.Errorf("sips: %v, want ErrSecure", err)
	}
}

func TestUnmappable(t *testing.T) {
	for _, s := range []string{"example.com", "example.com/r", "a@127.0.0.1", "a@[::1]"} {
		if got, err := URI(IM, jid.Must(s)); err == nil {
			t.Errorf("URI(%s) = %q, want an error", s, got)
		}
	}
	if got, err := URI("mailto", jid.Must("a@example.com")); err == nil {
		t.Errorf("mailto: %q, want an error", got)
	}
}

// FuzzParse: an accepted URI names an account whose own URI names it again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"im:a%40b@example.com", "sip:foo@sip.example:5070;gr=b%20c", "pres:a..b@xn--bcher-kva.example", "im:c%3a%5C5c@e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		j, err := Parse(uri)
		if err != nil {
			return
		}
		if j.Local() == "" {
			t.Fatalf("%q gave %q, no account", uri, j)
		}
		for _, s := range []Scheme{IM, Pres, SIP} {
			again, err := URI(s, j)
			if err != nil {
				t.Fatalf("%q gave %q, which has no URI: %v", uri, j, err)
			}
			back, err := Parse(again)
			if err != nil || back.Bare() != j.Bare() {
				t.Fatalf("%q gave %q, written %q, read %q, %v", uri, j, again, back, err)
			}
			if s == SIP && back != j {
				t.Fatalf("%q lost its resource: %q", again, back)
			}
		}
	})
}

func BenchmarkAppendURI(b *testing.B) {
	j := jid.Must("juliet@example.com/balcony")
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = AppendURI(buf[:0], IM, j)
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("im:juliet@example.com"); err != nil {
			b.Fatal(err)
		}
	}
}
