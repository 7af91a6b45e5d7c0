package jid

import (
	"errors"
	"strings"
	"testing"
	"unsafe"
)

// RFC 7622 §3.5, Table 1, whole: legal addresses, and what they are in normal
// form.
func TestRFC7622Table1(t *testing.T) {
	for _, tt := range []struct {
		in                      string
		local, domain, resource string
	}{
		{"juliet@example.com", "juliet", "example.com", ""},                   // 1
		{"juliet@example.com/foo", "juliet", "example.com", "foo"},            // 2
		{"juliet@example.com/foo bar", "juliet", "example.com", "foo bar"},    // 3
		{"juliet@example.com/foo@bar", "juliet", "example.com", "foo@bar"},    // 4
		{`foo\20bar@example.com`, `foo\20bar`, "example.com", ""},             // 5
		{"fussball@example.com", "fussball", "example.com", ""},               // 6
		{"fu\u00dfball@example.com", "fu\u00dfball", "example.com", ""},       // 7
		{"\u03c0@example.com", "\u03c0", "example.com", ""},                   // 8
		{"\u03a3@example.com/foo", "\u03c3", "example.com", "foo"},            // 9
		{"\u03c3@example.com/foo", "\u03c3", "example.com", "foo"},            // 10
		{"\u03c2@example.com/foo", "\u03c2", "example.com", "foo"},            // 11
		{"king@example.com/\u265a", "king", "example.com", "\u265a"},          // 12
		{"example.com", "", "example.com", ""},                                // 13
		{"example.com/foobar", "", "example.com", "foobar"},                   // 14
		{"a.example.com/b@example.net", "", "a.example.com", "b@example.net"}, // 15
	} {
		t.Run(tt.in, func(t *testing.T) {
			j, err := Parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			check(t, j, tt.local, tt.domain, tt.resource)
		})
	}
	if Must("\u03a3@example.com/foo") != Must("\u03c3@example.com/foo") {
		t.Error("examples 9 and 10 differ")
	}
	if Must("\u03a3@example.com/foo") == Must("\u03c2@example.com/foo") {
		t.Error("examples 9 and 11 are equal")
	}
}

// RFC 7622 §3.5, Table 2, whole: strings that are no addresses.
func TestRFC7622Table2(t *testing.T) {
	for _, tt := range []struct {
		in   string
		part Part
	}{
		{`"juliet"@example.com`, Localpart},       // 16
		{"foo bar@example.com", Localpart},        // 17
		{"juliet@example.com/ foo", Resourcepart}, // 18
		{"@example.com/", Localpart},              // 19
		{"henry\u2163@example.com", Localpart},    // 20
		{"\u265a@example.com", Localpart},         // 21
		{"juliet@", Domainpart},                   // 22
		{"/foobar", Domainpart},                   // 23
	} {
		t.Run(tt.in, func(t *testing.T) { refuse(t, tt.in, tt.part) })
	}
}

func check(t *testing.T, j JID, local, domain, resource string) {
	t.Helper()
	if j.Local() != local || j.Domain() != domain || j.Resource() != resource {
		t.Errorf("got (%q, %q, %q), want (%q, %q, %q)",
			j.Local(), j.Domain(), j.Resource(), local, domain, resource)
	}
	again, err := Parse(j.String())
	if err != nil || again != j {
		t.Errorf("Parse(%q) = %q, %v: not idempotent", j, again, err)
	}
	parts, err := New(local, domain, resource)
	if err != nil || parts != j {
		t.Errorf("New(%q, %q, %q) = %q, %v, want %q", local, domain, resource, parts, err, j)
	}
}

func refuse(t *testing.T, in string, part Part) {
	t.Helper()
	j, err := Parse(in)
	var e *Error
	switch {
	case err == nil:
		t.Errorf("Parse(%q) = %q, want an error", in, j)
	case !errors.As(err, &e) || !errors.Is(err, ErrMalformed):
		t.Errorf("Parse(%q): %v is no *Error or no ErrMalformed", in, err)
	case e.Part != part:
		t.Errorf("Parse(%q): %v, want the %s blamed", in, err, part)
	case !j.IsZero():
		t.Errorf("Parse(%q) = %q with an error", in, j)
	}
}

// accepted are addresses and their normal forms.
var accepted = []struct{ name, in, want string }{
	{"case", "Juliet@Example.ORG/Balcony", "juliet@example.org/Balcony"}, // RFC 7622 §3.3, §3.4
	{"resource keeps its case", "a@b/C", "a@b/C"},
	{"resource with slashes", "a@b/c/d//e", "a@b/c/d//e"},
	{"trailing space in resource", "a@b/c ", "a@b/c "},
	{"at sign and no localpart", "b/a@c", "b/a@c"},
	{"all the ASCII of a localpart", "!#$%()*+,-.0;=?[\\]^_`{|}~@b", "!#$%()*+,-.0;=?[\\]^_`{|}~@b"},

	{"final dot", "example.org.", "example.org"}, // RFC 7622 §3.2
	{"final dot before a resource", "a@example.org./r", "a@example.org/r"},
	{"one label", "localhost", "localhost"},
	{"digits", "a@1e100.net", "a@1e100.net"},

	{"IPv4", "a@192.0.2.1/r", "a@192.0.2.1/r"},
	{"IPv6", "a@[2001:db8::1]/r", "a@[2001:db8::1]/r"},
	{"IPv6 spelt long", "[2001:0DB8:0:0:0:0:0:1]", "[2001:db8::1]"}, // RFC 5952 §4
	{"IPv6 with a zone", "[fe80::1%25eth0]", "[fe80::1%25eth0]"},    // RFC 6874 §2
	{"IPv6, final dot", "[::1].", "[::1]"},

	{"full-width localpart", "\uff2a\uff55\uff4c\uff49\uff45\uff54@example.com", "juliet@example.com"},
	{"full-width domain", "a@\uff45\uff58\uff21\uff4dple.com", "a@example.com"},
	{"full-width dot", "a@example\uff0ecom", "a@example.com"}, // RFC 5895 §2.3
	{"ideographic dot", "a@example\u3002com", "a@example.com"},
	{"half-width katakana with a voice mark", "\uff76\uff9e@b", "\u30ac@b"},
	{"resource keeps its width", "a@b/\uff4a", "a@b/\uff4a"},

	{"combining acute", "e\u0301@b", "\u00e9@b"},
	{"combining acute, upper case", "E\u0301@b", "\u00e9@b"},
	{"combining marks reordered", "a@b/q\u0307\u0323", "a@b/q\u0323\u0307"},
	{"combining in a resource", "a@b/e\u0301", "a@b/\u00e9"},
	{"combining in a domain", "a@bu\u0308cher.example", "a@b\u00fccher.example"},

	{"Kelvin is a k", "\u212aing@b", "king@b"},
	{"Angstrom is a ring", "\u212bngstr\u00f6m@b", "\u00e5ngstr\u00f6m@b"},
	{"Kelvin in a domain", "a@\u212aing.example", "a@king.example"},
	{"capital sharp s", "\u1e9e@\u1e9e.example", "\u00df@\u00df.example"},
	{"dotted capital I", "\u0130@b", "i\u0307@b"},

	{"no-break space in a resource", "a@b/c\u00a0d", "a@b/c d"}, // RFC 8265 §4.2.1
	{"ideographic space in a resource", "a@b/c\u3000d", "a@b/c d"},

	{"A-label", "a@xn--bcher-kva.example", "a@b\u00fccher.example"}, // RFC 7622 §3.2.1
	{"A-label in upper case", "a@XN--BCHER-KVA.example", "a@b\u00fccher.example"},
	{"U-label", "a@B\u00dcCHER.example", "a@b\u00fccher.example"},
	{"U-label with deviations", "fa\u00df.\u03c2.example", "fa\u00df.\u03c2.example"},
	{"middle dot between l and l", "a@l\u00b7l.example", "a@l\u00b7l.example"}, // RFC 5892 A.3
	{"Hebrew domain", "\u05d0\u05d1.example", "\u05d0\u05d1.example"},
	{"Hebrew localpart", "\u05d0\u05d1@b", "\u05d0\u05d1@b"},
	{"Arabic localpart with digits", "\u06271@b", "\u06271@b"},
	{"Chinese", "\u4f8b\u5b50@\u4f8b\u5b50.\u4e2d\u56fd/\u4f8b", "\u4f8b\u5b50@\u4f8b\u5b50.\u4e2d\u56fd/\u4f8b"},
	{"emoji resource", "a@b/\U0001F40E", "a@b/\U0001F40E"},
}

func TestParse(t *testing.T) {
	for _, tt := range accepted {
		t.Run(tt.name, func(t *testing.T) {
			j, err := Parse(tt.in)
			if err != nil {
				t.Fatalf("Parse(%q): %v", tt.in, err)
			}
			if j.String() != tt.want {
				t.Errorf("Parse(%q) = %q, want %q", tt.in, j, tt.want)
			}
			if j != Must(tt.want) {
				t.Errorf("%q and %q differ", tt.in, tt.want)
			}
			check(t, j, j.Local(), j.Domain(), j.Resource())
		})
	}
}

// refused are strings that are no addresses.
var refused = []struct {
	name, in string
	part     Part
}{
	{"nothing", "", Domainpart},
	{"slash", "/", Resourcepart},
	{"at sign", "@", Localpart},
	{"empty resource", "a@b/", Resourcepart},
	{"empty localpart", "@b", Localpart},
	{"empty domain before a resource", "a@/r", Domainpart},
	{"two at signs", "a@b@c", Domainpart},

	{"ampersand", "a&b@c", Localpart}, // RFC 7622 §3.3.1
	{"apostrophe", "a'b@c", Localpart},
	{"colon", "a:b@c", Localpart},
	{"less than", "a<b@c", Localpart},
	{"greater than", "a>b@c", Localpart},
	{"full-width at sign", "a\uff20b@c", Localpart},
	{"full-width solidus", "a\uff0fb@c", Localpart},
	{"control in a localpart", "a\x00@c", Localpart},
	{"space in a localpart", "a\u3000b@c", Localpart},
	{"soft hyphen", "a\u00adb@c", Localpart},
	{"zero width joiner alone", "a\u200db@c", Localpart},
	{"long s", "\u017fam@c", Localpart}, // has a compatibility equivalent
	{"ligature", "\ufb01@c", Localpart},
	{"unassigned", "\u0378@c", Localpart},
	{"private use", "\ue000@c", Localpart},
	{"not UTF-8 in a localpart", "\xff@c", Localpart},
	{"surrogate", "\xed\xa0\x80@c", Localpart},
	{"right to left ending in left to right", "\u05d0a@c", Localpart}, // RFC 5893 §2.2
	{"left to right holding right to left", "a\u05d0@c", Localpart},

	{"control in a resource", "a@b/\x07", Resourcepart},
	{"newline in a resource", "a@b/\n", Resourcepart},
	{"DEL in a resource", "a@b/\x7f", Resourcepart},
	{"no-break space leads", "a@b/\u00a0c", Resourcepart},
	{"not UTF-8 in a resource", "a@b/\xc3", Resourcepart},

	{"dot", ".", Domainpart},
	{"two final dots", "b..", Domainpart},
	{"leading dot", ".b", Domainpart},
	{"empty label", "a..b", Domainpart},
	{"empty label of width", "a.\uff0eb", Domainpart},
	{"underscore", "a_b.example", Domainpart},
	{"underscore beside a U-label", "_xmpp.b\u00fccher.example", Domainpart},
	{"hyphen first", "-a.example", Domainpart},
	{"hyphen last", "a-.example", Domainpart},
	{"hyphen last of all", "example.a-", Domainpart},
	{"reserved label", "ab--c.example", Domainpart},
	{"short reserved label", "ab--.example", Domainpart},
	{"space", "a b", Domainpart},
	{"colon", "example.com:5222", Domainpart},
	{"full-width solidus in a domain", "a\uff0fb", Domainpart},
	{"snowman", "\u2603.net", Domainpart}, // RFC 5892: DISALLOWED
	{"snowman as an A-label", "xn--n3h.net", Domainpart},
	{"double-struck c", "\u2102om", Domainpart},
	{"long s in a domain", "\u017f.example", Domainpart},
	{"ligature in a domain", "\ufb01.example", Domainpart},
	{"middle dot alone", "a\u00b7b.example", Domainpart}, // RFC 5892 A.3
	{"leading combining mark", "\u0301a.example", Domainpart},
	{"musical mark", "a\U0001d165.example", Domainpart}, // RFC 5892 §2.4
	{"broken A-label", "xn--a.example", Domainpart},
	{"A-label of ASCII", "xn--abc-.example", Domainpart},
	{"A-label of upper case", "xn--bcher-2pa.example", Domainpart}, // decodes to U+00DC
	{"mixed direction", "a\u05d0.example", Domainpart},
	{"digit first beside Hebrew", "1a.\u05d0\u05d1", Domainpart}, // RFC 5893 §2.1
	{"not UTF-8", "\xff.example", Domainpart},

	{"IPv6 without brackets", "::1", Domainpart},
	{"IPv6 unclosed", "[::1", Domainpart},
	{"IPv6 unopened", "::1]", Domainpart},
	{"IPv4 in brackets", "[127.0.0.1]", Domainpart},
	{"name in brackets", "[example.com]", Domainpart},
	{"IPv6 zone not encoded", "[fe80::1%eth0]", Domainpart},
	{"IPv6 zone empty", "[fe80::1%25]", Domainpart},
	{"future address", "[v1.fe80::a+en1]", Domainpart},
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) { refuse(t, tt.in, tt.part) })
	}
}

// RFC 7622 §3.1: 1 to 1023 octets in each part, counted after preparation; §3.2:
// the DNS allows fewer in a domain.
func TestLengths(t *testing.T) {
	name := func(n int) string { // n octets in labels of 63
		s := strings.Repeat(strings.Repeat("a", 63)+".", n/64+1)[:n]
		return s
	}
	max := strings.Repeat("a", 1023)
	for _, in := range []string{
		max + "@b/r",
		"a@b/" + max,
		"a@b/" + strings.Repeat("\u4f8b", 341),
		strings.Repeat("\u4f8b", 341) + "@b",
		strings.Repeat("\uff41", 1023) + "@b",   // 3069 octets that become 1023
		"a@b/" + strings.Repeat("e\u0301", 511), // 1533 octets that become 1022
		max + "@b/" + max,
		name(63), name(253), name(253) + ".",
		strings.Repeat("a", 63) + ".b",
	} {
		j, err := Parse(in)
		if err != nil {
			t.Errorf("Parse(%.20q... of %d octets): %v", in, len(in), err)
			continue
		}
		check(t, j, j.Local(), j.Domain(), j.Resource())
	}
	for _, tt := range []struct {
		in   string
		part Part
	}{
		{max + "a@b", Localpart},
		{"A" + max + "@b", Localpart},
		{"a@b/" + max + "a", Resourcepart},
		{"a@b/" + strings.Repeat("\u4f8b", 342), Resourcepart},
		{strings.Repeat("\u0390", 512) + "@b", Localpart},
		{strings.Repeat("a", 64), Domainpart}, // RFC 1034 §3.1
		{name(254), Domainpart},
		{max, Domainpart},
		{max + "a", Domainpart},
		{strings.Repeat("\u4f8b", 63) + ".example", Domainpart}, // too long as an A-label
		{strings.Repeat("\u4f8b.", 200) + "example", Domainpart},
		{strings.Repeat("\u4f8b", 1<<20), Domainpart},
		{"a@b/" + strings.Repeat("\u4f8b", 1<<20), Resourcepart},
	} {
		refuse(t, tt.in, tt.part)
	}
}

func TestAccessors(t *testing.T) {
	for _, tt := range []struct {
		in, bare, host                 string
		isZero, isBare, isFull, isHost bool
	}{
		{"a@b/c", "a@b", "b", false, false, true, false},
		{"a@b", "a@b", "b", false, true, false, false},
		{"b/c", "b", "b", false, false, true, false},
		{"b", "b", "b", false, true, false, true},
		{"", "", "", true, false, false, false},
	} {
		var j JID
		if tt.in != "" {
			j = Must(tt.in)
		}
		if j.String() != tt.in {
			t.Errorf("String() = %q, want %q", j, tt.in)
		}
		if j.Bare().String() != tt.bare || j.Host().String() != tt.host {
			t.Errorf("%q: Bare %q, Host %q", tt.in, j.Bare(), j.Host())
		}
		if tt.in != "" && (j.Bare() != Must(tt.bare) || j.Host() != Must(tt.host)) {
			t.Errorf("%q: Bare or Host is not the value Parse makes", tt.in)
		}
		if j.IsZero() != tt.isZero || j.IsBare() != tt.isBare || j.IsFull() != tt.isFull || j.IsHost() != tt.isHost {
			t.Errorf("%q: IsZero %v IsBare %v IsFull %v IsHost %v", tt.in, j.IsZero(), j.IsBare(), j.IsFull(), j.IsHost())
		}
		if j.Clone() != j {
			t.Errorf("%q: Clone differs", tt.in)
		}
	}
	if n := unsafe.Sizeof(JID{}); n > 24 {
		t.Errorf("a JID takes %d bytes", n)
	}
}

func TestWithResource(t *testing.T) {
	for _, tt := range []struct{ in, r, want string }{
		{"a@b", "c", "a@b/c"},
		{"a@b/old", "e\u0301", "a@b/\u00e9"},
		{"b", "c d", "b/c d"},
		{"a@b", "", ""},
		{"a@b", " c", ""},
		{"a@b", strings.Repeat("c", 1024), ""},
	} {
		got, err := Must(tt.in).WithResource(tt.r)
		if got.String() != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q with %q = %q, %v, want %q", tt.in, tt.r, got, err, tt.want)
		}
		if tt.want != "" && got != Must(tt.want) {
			t.Errorf("%q with %q is not the value Parse makes", tt.in, tt.r)
		}
	}
	if _, err := (JID{}).WithResource("c"); !errors.Is(err, ErrMalformed) {
		t.Errorf("no address with a resource: %v", err)
	}
}

// New takes parts that contain separators at their word.
func TestNew(t *testing.T) {
	for _, tt := range []struct {
		local, domain, resource, want string
		part                          Part
	}{
		{"A", "B", "C", "a@b/C", ""},
		{"", "b", "", "b", ""},
		{"", "b", "a@c/d", "b/a@c/d", ""},
		{"a@c", "b", "", "", Localpart},
		{"a/c", "b", "", "", Localpart},
		{"a", "b/c", "", "", Domainpart},
		{"a", "b@c", "", "", Domainpart},
		{"a", "", "r", "", Domainpart},
	} {
		j, err := New(tt.local, tt.domain, tt.resource)
		var e *Error
		if j.String() != tt.want || errors.As(err, &e) != (tt.part != "") || e != nil && e.Part != tt.part {
			t.Errorf("New(%q, %q, %q) = %q, %v", tt.local, tt.domain, tt.resource, j, err)
		}
	}
}

func TestMustPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Must of no address did not panic")
		}
	}()
	Must("@b")
}
