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
//   - It maps U+1E9E in a domain to "ss"; RFC 5895 §2.1 makes lower case of it.
//   - It accepts symbols in domains, empty labels, long labels, a leading space
//     in a resourcepart.
//   - It leaves an IPv6 address as it was spelt; we compress it.
//   - It turns '::ffff:192.0.2.1' in brackets away, we do not; a zone likewise.
//   - It applies a PRECIS profile once, we apply it until the result is stable.
//
// So: when both accept, the localparts and resourceparts are the same, and so are
// the domainparts but for IPv6 and U+1E9E.
func FuzzParse(f *testing.F) {
	for _, tt := range accepted {
		f.Add(tt.in)
	}
	for _, tt := range refused {
		f.Add(tt.in)
	}
	for _, s := range []string{strings.Repeat("a", 1023) + "@b", strings.Repeat("a", 64), "\u03a3@b", `foo\20bar@example.com`} {
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
		if j.Domain() != other.Domainpart() && j.Domain()[0] != '[' && !strings.ContainsRune(s, '\u1e9e') {
			t.Errorf("Parse(%q) = %q, oracle says %q", s, j, other)
		}
	})
}
