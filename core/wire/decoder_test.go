package wire

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// tokens writes what a Decoder says in one line each.
func tokens(d *Decoder) ([]string, error) {
	var out []string
	for {
		tok, err := d.Next()
		if err != nil {
			return out, err
		}
		switch tok.Kind {
		case EndOfInput:
			return out, nil
		case Text:
			out = append(out, fmt.Sprintf("text %q", tok.Text))
		case EndElement:
			out = append(out, fmt.Sprintf("end {%s}%s", tok.Name.Space, tok.Name.Local))
		case StartElement:
			line := fmt.Sprintf("start {%s}%s", tok.Name.Space, tok.Name.Local)
			for _, a := range tok.Attrs {
				line += fmt.Sprintf(" {%s}%s=%q", a.Space, a.Local, a.Value)
			}
			for _, d := range tok.Decls {
				line += fmt.Sprintf(" [%s=%s]", d.Prefix, d.Name)
			}
			out = append(out, line)
		}
	}
}

func TestDecoder(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"a&lt;b", []string{`text "a<b"`}},
		{"<a/>", []string{"start {urn:out}a", "end {urn:out}a"}},
		{"<a x='1' xml:lang = \"e&#x6e;\"\n y='a\nb&#10;>' ></a\t>", []string{`start {urn:out}a {}x="1" {http://www.w3.org/XML/1998/namespace}lang="en" {}y="a b\n>"`, "end {urn:out}a"}},
		{"<p:a p:x='1' xmlns:p='u'><b xmlns='v'><p:c xmlns:p='w'/></b><d xmlns=''/><e/></p:a>", []string{
			`start {u}a {u}x="1" [p=u]`, "start {v}b [=v]", "start {w}c [p=w]", "end {w}c", "end {v}b",
			"start {}d [=]", "end {}d", "start {urn:out}e", "end {urn:out}e", "end {u}a",
		}},
		{"x<a>1<![CDATA[<2>&amp;\r\n]]>3&gt;<b/>4\r</a><c/>y", []string{
			`text "x"`, "start {urn:out}a", `text "1<2>&amp;\n3>"`, "start {urn:out}b", "end {urn:out}b", `text "4\n"`,
			"end {urn:out}a", "start {urn:out}c", "end {urn:out}c", `text "y"`,
		}},
		{"<a><![CDATA[]]><![CDATA[]]></a>", []string{"start {urn:out}a", "end {urn:out}a"}},
		{"<o:a/>", []string{"start {urn:o}a", "end {urn:o}a"}},
	} {
		got, err := tokens(NewDecoder(tt.in, "urn:out", TokenDecl{"o", "urn:o"}))
		if err != nil || strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("%q: %v\n%s\nwant\n%s", tt.in, err, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

func TestDecoderShares(t *testing.T) {
	in := "<a b='value'>some text</a>"
	d := NewDecoder(in, "")
	start, _ := d.Next()
	text, err := d.Next()
	if err != nil || unsafe.StringData(text.Text) != unsafe.StringData(in[13:]) || unsafe.StringData(start.Attrs[0].Value) != unsafe.StringData(in[6:]) {
		t.Error("a string that needs no decoding was copied", err)
	}
	if in[start.Start:start.End] != "<a b='value'>" || in[text.Start:text.End] != "some text" {
		t.Error("offsets are wrong")
	}
}

// Octets that no scanner has accepted give an error, not a panic or a loop.
func TestDecoderRefuses(t *testing.T) {
	for _, in := range []string{"<", "<a", "<a b", "<a b=", "<a b='", "<a b='c'", "<>", "</a>", "<a>", "<a></b>", "<a", "<p:a/>", "<a p:b=''/>", "<![CDATA[", "<a", "<a =''/>", "<!-- -->", "<?a?>", "<a/", "<p:/>"} {
		if got, err := tokens(NewDecoder(in, "")); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}
