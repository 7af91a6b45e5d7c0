package jid

import "testing"

// XEP-0106 §5.1 and the examples of the later sections.
func TestEscape(t *testing.T) {
	for _, tt := range []struct{ plain, escaped string }{
		{"space cadet", `space\20cadet`},
		{`call me "ishmael"`, `call\20me\20\22ishmael\22`},
		{"at&t guy", `at\26t\20guy`},
		{"d'artagnan", `d\27artagnan`},
		{"/.fanboy", `\2f.fanboy`},
		{"::foo::", `\3a\3afoo\3a\3a`},
		{"<foo>", `\3cfoo\3e`},
		{"user@host", `user\40host`},
		{`c:\net`, `c\3a\net`},
		{`c:\\net`, `c\3a\\net`},
		{`c:\cool stuff`, `c\3a\cool\20stuff`},
		{`c:\5commas`, `c\3a\5c5commas`},
		{"here's_a_wild_&_/cr%zy/_address", `here\27s_a_wild_\26_\2fcr%zy\2f_address`},
		{`here's_a_wild_&_/cr%zy/_address_for:<wv>("IMPS")`, `here\27s_a_wild_\26_\2fcr%zy\2f_address_for\3a\3cwv\3e(\22IMPS\22)`},
		{`\3and\2is\5cool`, `\5c3and\2is\5c5cool`},
		{"CN=D'Artagnan Saint-Andr\u00e9,O=Example & Company, Inc.,DC=example,DC=com", `CN=D\27Artagnan\20Saint-Andr` + "\u00e9" + `,O=Example\20\26\20Company,\20Inc.,DC=example,DC=com`},
		// XEP-0106 §4.3: no escapes.
		{`\2plus\2is\4`, `\2plus\2is\4`},
		{`foo\bar`, `foo\bar`},
		{`foob\41r`, `foob\41r`},
		{"", ""},
		{`\`, `\`},
		{`\\`, `\\`},
		{`\2`, `\2`},
		{"plain", "plain"},
		// Preparation would turn \2F into an escape.
		{`\2F`, `\5c2F`},
		// XEP-0106 §3.2: no \20 at the ends.
		{" lead", " lead"},
		{"trail ", "trail "},
		{" ", " "},
	} {
		if got := Escape(tt.plain); got != tt.escaped {
			t.Errorf("Escape(%q) = %q, want %q", tt.plain, got, tt.escaped)
		}
		if got := Unescape(tt.escaped); got != tt.plain {
			t.Errorf("Unescape(%q) = %q, want %q", tt.escaped, got, tt.plain)
		}
	}
	for _, tt := range []struct{ escaped, plain string }{
		{`\20lead`, `\20lead`},
		{`trail\20`, `trail\20`},
		{`\2F`, `\2F`}, // XEP-0106 §3.1: case is significant
		{`\5C`, `\5C`},
		{`\5c20`, `\20`},
		{`\5c\40`, `\@`},
	} {
		if got := Unescape(tt.escaped); got != tt.plain {
			t.Errorf("Unescape(%q) = %q, want %q", tt.escaped, got, tt.plain)
		}
	}
}

// What Escape makes of a name with no space at its ends is a localpart, and
// preparing it does not change what it stands for.
func TestEscapedIsLocalpart(t *testing.T) {
	for _, plain := range []string{"d'artagnan", `c:\5commas`, "user@host", "/.fanboy", `a\2fb`} {
		j, err := New(Escape(plain), "example.org", "")
		if err != nil {
			t.Errorf("%q: %v", plain, err)
			continue
		}
		if got := Unescape(j.Local()); got != plain {
			t.Errorf("%q came back as %q", plain, got)
		}
	}
	if _, err := New(Escape(" lead"), "example.org", ""); err == nil {
		t.Error("a leading space was accepted")
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "d'artagnan", `c:\5commas`, " a ", `\20\5c`, `\2F`, "\xff\\", `\\40`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		escaped := Escape(s)
		if back := Unescape(escaped); back != s {
			t.Errorf("Unescape(Escape(%q)) = Unescape(%q) = %q", s, escaped, back)
		}
		for i := 0; i < len(escaped); i++ {
			if excluded(escaped[i]) {
				t.Errorf("Escape(%q) = %q keeps %q", s, escaped, escaped[i])
			}
		}
	})
}
