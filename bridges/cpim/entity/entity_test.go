package entity

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	in := "Content-type: text/plain;\r\n\tcharset=\"UTF-8\"\r\nContent-ID: <1@x>\r\nX-Empty:\r\n\r\nbody\r\n\r\nmore"
	e, err := Parse(in, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Get("CONTENT-TYPE"); got != `text/plain; charset="UTF-8"` {
		t.Errorf("unfolded: %q", got)
	}
	m := e.ContentType()
	if cs, ok := m.Param("Charset"); m.Name != "text/plain" || !ok || cs != "UTF-8" {
		t.Errorf("%+v, charset %q, %v", m, cs, ok)
	}
	if e.Body != "body\r\n\r\nmore" || e.Source() != in || len(e.Fields) != 3 {
		t.Errorf("%+v", e)
	}
	for _, tt := range []struct {
		in              string
		strict, lenient bool
	}{
		{"A: b\r\n\r\n", true, true},
		{"\r\nbody", true, true},
		{"A: b\n\nbody", false, true},
		{"A : b\r\n\r\n", false, true},
		{"A: b\r\n", true, true}, // RFC 2045 §2.4: no body
		{"A: b", false, false},
		{"A b\r\n\r\n", false, false},
		{" A: b\r\n\r\n", false, false},
		{"A: \x00\r\n\r\n", false, false},
		{"A: b\r\n \x00\r\n\r\n", false, false},
		{"", false, false},
		{strings.Repeat("A: b\r\n", MaxFields) + "\r\n", true, true},
		{strings.Repeat("A: b\r\n", MaxFields+1) + "\r\n", false, false},
		{"A: b\r\n" + strings.Repeat(" c\r\n", 1000) + "\r\n", false, false},
		{"A: " + strings.Repeat("b", MaxHeaderBytes) + "\r\n\r\n", false, false},
	} {
		for _, lenient := range []bool{false, true} {
			want := tt.strict
			if lenient {
				want = tt.lenient
			}
			_, err := Parse(tt.in, lenient)
			if (err == nil) != want {
				t.Errorf("%.40q, lenient %v: %v", tt.in, lenient, err)
			}
			if large := len(tt.in) > 300; err != nil && errors.Is(err, ErrTooLarge) != large {
				t.Errorf("%.40q: %v", tt.in, err)
			}
		}
	}
}

func TestMediaType(t *testing.T) {
	for _, tt := range []struct{ in, name, param, value string }{
		{`TEXT/Plain; Charset="UTF-8"`, "text/plain", "charset", "UTF-8"},
		{`text/plain;charset=us-ascii;format=flowed`, "text/plain", "format", "flowed"},
		{`text/plain ; a ; b = "x;\"y\"" ; c=z`, "text/plain", "b", `x;"y"`},
		{`text/plain; a="b;c=d"; c=e`, "text/plain", "c", "e"},
		{`text/plain`, "text/plain", "charset", ""},
		{`text/plain;`, "text/plain", "charset", ""},
		{`text/plain; charset="utf`, "text/plain", "charset", ""},
		{`text`, "", "charset", ""},
		{`te xt/plain`, "", "charset", ""},
		{``, "", "charset", ""},
	} {
		m := ParseMediaType(tt.in)
		if v, _ := m.Param(tt.param); m.Name != tt.name || v != tt.value {
			t.Errorf("%s: %q, %s=%q", tt.in, m.Name, tt.param, v)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct{ coding, body, want string }{
		{"", "a=3D", "a=3D"},
		{"8BIT", "é", "é"},
		{"binary", "\x00", "\x00"},
		{"Base64", "4piDIHNu\r\nb3c=\r\n", "☃ snow"},
		{"base64", "4piDIHNub3c", "☃ snow"},
		{"quoted-printable", "caf=C3=A9 =\r\nau lait", "café au lait"},
	} {
		e := New("text/plain", tt.body).Add("Content-Transfer-Encoding", tt.coding)
		if got, err := e.Decode(100); err != nil || got != tt.want {
			t.Errorf("%s %q: %q, %v", tt.coding, tt.body, got, err)
		}
		if _, err := e.Decode(len(tt.want) - 1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s %q: no limit: %v", tt.coding, tt.body, err)
		}
	}
	for _, tt := range []struct{ coding, body string }{
		{"base64", "a*b"}, {"base64", "a"}, {"quoted-printable", "a\x00b"}, {"x-uuencode", "begin"},
	} {
		if got, err := New("text/plain", tt.body).Add("Content-Transfer-Encoding", tt.coding).Decode(100); err == nil {
			t.Errorf("%s %q: %q, want an error", tt.coding, tt.body, got)
		}
	}
}

// TestParts splits the example of RFC 2046 §5.1.1.
func TestParts(t *testing.T) {
	e := New(`multipart/mixed; boundary="simple boundary"`, "This is the preamble.\r\n\r\n--simple boundary\r\n\r\n"+
		"This is implicitly typed plain US-ASCII text.\r\nIt does NOT end with a linebreak.\r\n--simple boundary  \r\nContent-type: text/plain; charset=us-ascii\r\n\r\n"+
		"This is explicitly typed plain US-ASCII text.\r\nIt DOES end with a linebreak.\r\n\r\n--simple boundary--\r\n\r\nThis is the epilogue.\r\n--simple boundary\r\n\r\nno part")
	parts, err := e.Parts(false)
	if err != nil || len(parts) != 2 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	if p := parts[0]; len(p.Fields) != 0 || p.Body != "This is implicitly typed plain US-ASCII text.\r\nIt does NOT end with a linebreak." {
		t.Errorf("%q", p)
	}
	if p := parts[1]; p.ContentType().Name != "text/plain" || p.Body != "This is explicitly typed plain US-ASCII text.\r\nIt DOES end with a linebreak.\r\n" {
		t.Errorf("%q", p)
	}
	for _, tt := range []struct {
		contentType, body string
		strict, lenient   int // parts, -1 for an error
	}{
		{"multipart/mixed; boundary=b", "--b\r\n\r\nx\r\n--b--", 1, 1},
		{"multipart/mixed; boundary=b", "--b\r\n\r\n\r\n--b--", 1, 1}, // an empty body
		{"multipart/mixed; boundary=b", "--b\r\nA: b\r\n\r\n--bc\r\n\r\n--b--", 1, 1},
		{"multipart/mixed; boundary=b", "--b\n\nx\n--b--", 1, 1},
		{"multipart/mixed; boundary=b", "--b\r\n\r\nx", -1, 1},
		{"multipart/mixed; boundary=b", "x --b\r\n\r\ny\r\n--b--", -1, -1},
		{"multipart/mixed; boundary=b", "--b--", -1, -1},
		{"multipart/mixed; boundary=b", "", -1, -1},
		{"multipart/mixed", "--b\r\n\r\nx\r\n--b--", -1, -1},
		{"text/plain; boundary=b", "--b\r\n\r\nx\r\n--b--", -1, -1},
		{"multipart/mixed; boundary=b", strings.Repeat("--b\r\n\r\nx\r\n", MaxParts+1) + "--b--", -1, -1},
	} {
		for i, want := range []int{tt.strict, tt.lenient} {
			got, err := New(tt.contentType, tt.body).Parts(i == 1)
			if (err != nil) != (want < 0) || err == nil && len(got) != want {
				t.Errorf("%s %.40q: %d parts, %v, want %d", tt.contentType, tt.body, len(got), err, want)
			}
		}
	}
}

func TestMultipart(t *testing.T) {
	in := []*Entity{New("text/plain", "a--part-0"), New("text/html", "\r\n--part-1--\r\n")}
	e, err := Multipart("alternative", in...)
	if err != nil {
		t.Fatal(err)
	}
	if e.ContentType().Name != "multipart/alternative" {
		t.Errorf("type %q", e.Get("Content-Type"))
	}
	out, err := e.Parts(false)
	if err != nil || len(out) != 2 {
		t.Fatalf("%d parts, %v", len(out), err)
	}
	for i := range in {
		if out[i].Body != in[i].Body || out[i].ContentType() != in[i].ContentType() {
			t.Errorf("part %d: %q, want %q", i, out[i], in[i])
		}
	}
	if _, err := Multipart("mixed", &Entity{Body: "untyped"}); err == nil {
		t.Error("a part without type was written")
	}
}

// FuzzEntity: no part is larger than its whole, and what is read can be written.
func FuzzEntity(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\n--a b\r\nA: b\r\n c\r\n\r\nx\r\n--a b--", false)
	f.Add("content-type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A9=\n", true)
	f.Fuzz(func(t *testing.T, in string, lenient bool) {
		e, err := Parse(in, lenient)
		if err != nil {
			return
		}
		if out, err := e.AppendTo(nil); err == nil {
			again, err := Parse(string(out), false)
			if err != nil || again.Body != e.Body || len(again.Fields) != len(e.Fields) {
				t.Fatalf("%q became %q: %v", in, out, err)
			}
		} else if e.Get("Content-Type") != "" {
			t.Fatalf("%q cannot be written: %v", in, err)
		}
		if s, err := e.Decode(64); err == nil && len(s) > 64 {
			t.Fatalf("%d octets", len(s))
		}
		parts, _ := e.Parts(lenient)
		total := 0
		for _, p := range parts {
			total += len(p.Source())
		}
		if total > len(e.Body) {
			t.Fatalf("parts of %d octets in %d", total, len(e.Body))
		}
	})
}
