package jid

import (
	"strings"
	"testing"
	"unicode/utf8"

	oracle "mellium.im/xmpp/jid"
)

// FuzzParse: what Parse accepts is stable, valid, and joined from its own parts;
// the fast path and the whole preparation agree; mellium.im/xmpp/jid, where it
// accepts the same string, makes the same parts of it.
//
// Where we differ from that package on purpose:
//   - It maps domains by UTS 46, so that U+2102 is a 'c'; we map width and case
//     (RFC 5895) and refuse what IDNA2008 disallows.
//   - It accepts symbols in domains, empty labels, long labels, a leading space
//     in a resourcepart.
//   - It leaves an IPv6 address as it was spelt; we compress it.
//   - It turns '::ffff:192.0.2.1' in brackets away, we do not; a zone likewise.
//   - It applies a PRECIS profile once, we apply it until the result is stable.
//
// So: when both accept, the localparts and resourceparts are the same, and so are
// the domainparts but for IPv6.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "a@b/c", "Juliet@Example.ORG/Balcony", "example.org.", "b/a@c/d", "@", "/", "a@",
		"[::1]", "[fe80::1%25eth0]", "192.0.2.1", "xn--bcher-kva.example", "\u2102om", "a..b", "a_b",
		"\uff2auliet@\uff45x\u3002com/\uff4a", "\u212a@\u017f", "e\u0301@b/e\u0301", "\u05d0@\u05d0.example",
		"a@b/ c", "a@b/\u00a0c", "\u03a3@b", "\u0130@\u0130", "a\u200db@c", "ab--c", "\xff@b", "l\u00b7l.example",
		`foo\20bar@example.com`, strings.Repeat("a", 1023) + "@b", strings.Repeat("a", 64),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		j, err := Parse(s)
		fast, ok := parseNormal(s)
		if ok && (err != nil || fast.String() != s) {
			t.Fatalf("the fast path makes %q of %q, Parse %q, %v", fast, s, j, err)
		}
		if err != nil {
			if !j.IsZero() {
				t.Fatalf("Parse(%q) = %q with %v", s, j, err)
			}
			return
		}
		if again, err := Parse(j.String()); err != nil || again != j {
			t.Fatalf("Parse(%q) = %q, parsed again %q, %v", s, j, again, err)
		}
		if parts, err := New(j.Local(), j.Domain(), j.Resource()); err != nil || parts != j {
			t.Fatalf("Parse(%q) = %q, from its parts %q, %v", s, j, parts, err)
		}
		if !utf8.ValidString(j.String()) {
			t.Fatalf("Parse(%q) = %q is not UTF-8", s, j)
		}
		for _, part := range []string{j.Local(), j.Domain(), j.Resource()} {
			if len(part) > MaxPart {
				t.Fatalf("Parse(%q) has a part of %d octets", s, len(part))
			}
		}
		if strings.ContainsAny(j.Local(), `"&'/:<>@ `) || strings.ContainsAny(j.Domain(), "/@ ") || j.Domain() == "" {
			t.Fatalf("Parse(%q) = %q has a character in the wrong part", s, j)
		}

		other, err := oracle.Parse(s)
		if err != nil {
			return
		}
		if j.Local() != other.Localpart() || j.Resource() != other.Resourcepart() {
			t.Errorf("Parse(%q) = %q, oracle says %q", s, j, other)
		}
		if j.Domain() != other.Domainpart() && j.Domain()[0] != '[' {
			t.Errorf("Parse(%q) = %q, oracle says %q", s, j, other)
		}
	})
}
