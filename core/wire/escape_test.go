package wire

import (
	"strings"
	"testing"
	"unsafe"
)

func TestEscape(t *testing.T) {
	for _, tt := range []struct{ in, text, attr string }{
		{"", "", ""},
		{"plain", "plain", "plain"},
		{"a<b>&c]]>", "a&lt;b&gt;&amp;c]]&gt;", "a&lt;b&gt;&amp;c]]&gt;"},
		{`'"`, `'"`, "&apos;&quot;"},
		{"\t\n\r", "\t\n&#13;", "&#9;&#10;&#13;"}, // XML §2.11, §3.3.3
		{"é\U0001f600", "é\U0001f600", "é\U0001f600"},
	} {
		if got := string(AppendText([]byte("x"), tt.in)); got != "x"+tt.text {
			t.Errorf("AppendText(%q) = %q, want %q", tt.in, got[1:], tt.text)
		}
		if got := string(AppendAttr([]byte("x"), tt.in)); got != "x"+tt.attr {
			t.Errorf("AppendAttr(%q) = %q, want %q", tt.in, got[1:], tt.attr)
		}
		if got := Unescape(tt.text); got != tt.in {
			t.Errorf("Unescape(%q) = %q, want %q", tt.text, got, tt.in)
		}
		if got := UnescapeAttr(tt.attr); got != tt.in {
			t.Errorf("UnescapeAttr(%q) = %q, want %q", tt.attr, got, tt.in)
		}
	}
}

func TestUnescape(t *testing.T) {
	for _, tt := range []struct{ in, text, attr string }{
		{"&lt;&gt;&amp;&apos;&quot;", `<>&'"`, `<>&'"`},
		{"&#65;&#x42;&#x1F600;", "AB\U0001f600", "AB\U0001f600"},
		{"&amp;lt;", "&lt;", "&lt;"},                      // XML Appendix D: once
		{"a\r\nb\rc\nd\te", "a\nb\nc\nd\te", "a b c d e"}, // XML §2.11, §3.3.3
		{"\r\r\n\n", "\n\n\n", "   "},
		{"&#13;\n&#10;&#9;", "\r\n\n\t", "\r \n\t"},
	} {
		if got := Unescape(tt.in); got != tt.text {
			t.Errorf("Unescape(%q) = %q, want %q", tt.in, got, tt.text)
		}
		if got := UnescapeAttr(tt.in); got != tt.attr {
			t.Errorf("UnescapeAttr(%q) = %q, want %q", tt.in, got, tt.attr)
		}
	}
	s := strings.Repeat("nothing to do ", 3)
	if got := Unescape(s); unsafe.StringData(got) != unsafe.StringData(s) {
		t.Error("Unescape copied")
	}
	if got := UnescapeAttr(s); unsafe.StringData(got) != unsafe.StringData(s) {
		t.Error("UnescapeAttr copied")
	}
}

func TestValidText(t *testing.T) {
	for in, want := range map[string]bool{
		"": true, "a\tb\r\n<>&": true, "\u00e9\u0085\ufffd\U0010ffff": true, "\ufeff": true,
		"\x00": false, "a\x1f": false, "\ufffe": false, "\uffff": false, "\xff": false, "\xc0\x80": false, "\xed\xa0\x80": false, "\xe2\x82": false,
	} {
		if ValidText(in) != want {
			t.Errorf("ValidText(%q) is not %v", in, want)
		}
	}
}
