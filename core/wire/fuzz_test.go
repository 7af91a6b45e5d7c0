package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
)

// seeds are inputs that reach every state of the scanner.
var seeds = append([]string{
	"<a/>", "<a></a>", "<a b='c' d=\"e\"/>", "<a>t&amp;&#x41;<![CDATA[<x>]]></a>",
	"<p:a xmlns:p='u' xmlns='v' p:b='c' b='d'><p:b/><c xmlns=''/></p:a>",
	"<a xmlns='&#117;&amp;\"'><b xml:lang='en'>é\U0001f600</b></a>",
	"<s:a/>", "<a p:b='c'><s:d xmlns:s='w'/></a>",
	"<?xml version='1.0' encoding='UTF-8'?><a/>", "<a><!-- c --></a>", "<a>&foo;</a>", "<a>]]></a>",
	"<a\xff/>", "<a>\xe2\x82</a>", "<a b='\r\n\t'>\r\n\r</a>", "<a xmlns:b='u' xmlns:c='u' b:d='' c:d=''/>",
	"<é:à xmlns:é='u'/>", "<a>]]]]></a>", "text", " <a/> <b/> ", "</a>",
}, mixed...)

// FuzzCut: cutting the input anywhere changes nothing.
func FuzzCut(f *testing.F) {
	for k, in := range seeds {
		f.Add([]byte(in), k, 1+k/2, k%2 == 0)
	}
	f.Fuzz(func(t *testing.T, in []byte, first, second int, document bool) {
		if len(in) > 4096 {
			return
		}
		mode, doc := Document, string(in)
		if !document {
			mode, doc = Stream, "<s:s xmlns:s='urn:s' xmlns='urn:d' xmlns:p='urn:p'>"+doc
		}
		for _, limits := range []Limits{{}, {Bytes: 100, Depth: 3, Attrs: 2, NSDecls: 2, Name: 6, NSName: 5, Children: 2}} {
			want, wantErr := scan(t, mode, limits, doc)
			cuts := []int{0, 0}
			if n := len(doc) + 1; n > 0 {
				cuts[0], cuts[1] = int(uint(first)%uint(n)), int(uint(second)%uint(n))
			}
			if cuts[0] > cuts[1] {
				cuts[0], cuts[1] = cuts[1], cuts[0]
			}
			all := make([]int, len(doc))
			for k := range all {
				all[k] = k
			}
			for _, c := range [][]int{cuts, all} {
				got, err := scan(t, mode, limits, doc, c...)
				if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(err, wantErr) {
					t.Fatalf("%q cut at %v:\n%v %v\nwant\n%v %v", doc, c, got, err, want, wantErr)
				}
			}
		}
	})
}

// FuzzAgrees: what we accept, encoding/xml accepts with the same tokens.
func FuzzAgrees(f *testing.F) {
	for _, in := range seeds {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		raw := accepted(t, in)
		if raw == "" {
			return
		}
		got, err := tokens(NewDecoder(raw, ""))
		if err != nil {
			t.Fatalf("%q: decoder: %v", raw, err)
		}
		want, err := reference(raw)
		if err != nil {
			t.Fatalf("%q: encoding/xml: %v", raw, err)
		}
		if !reflect.DeepEqual(plainSpace(got), want) {
			t.Fatalf("%q:\n%s\nencoding/xml:\n%s", raw, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// accepted returns the first element of in if a Document scanner accepts it.
func accepted(t *testing.T, in string) string {
	events, _ := scan(t, Document, Limits{}, in)
	if len(events) == 0 {
		return ""
	}
	return events[0].raw
}

// plainSpace removes declarations, which encoding/xml does not tell apart by
// scope, and turns white space in attribute values into spaces, which
// encoding/xml does not normalise.
func plainSpace(lines []string) []string {
	out := make([]string, len(lines))
	for k, line := range lines {
		if !strings.HasPrefix(line, "text ") {
			line = spaces.Replace(line)
		}
		out[k] = line
	}
	return out
}

var spaces = strings.NewReplacer(`\\`, `\\`, `\n`, " ", `\t`, " ", `\r`, " ", "\n", " ", "\t", " ", "\r", " ")

// reference is tokens by encoding/xml.
func reference(in string) ([]string, error) {
	var out []string
	text := ""
	flush := func() {
		if text != "" {
			out = append(out, fmt.Sprintf("text %q", text))
			text = ""
		}
	}
	d := xml.NewDecoder(strings.NewReader(in))
	for {
		tok, err := d.Token()
		if err == io.EOF {
			flush()
			return plainSpace(out), nil
		}
		if err != nil {
			return nil, err
		}
		switch tok := tok.(type) {
		case xml.CharData:
			text += string(tok)
		case xml.EndElement:
			flush()
			out = append(out, fmt.Sprintf("end {%s}%s", tok.Name.Space, tok.Name.Local))
		case xml.StartElement:
			flush()
			line := fmt.Sprintf("start {%s}%s", tok.Name.Space, tok.Name.Local)
			decls := ""
			for _, a := range tok.Attr {
				switch {
				case a.Name.Space == "xmlns":
					decls += fmt.Sprintf(" [%s=%s]", a.Name.Local, a.Value)
				case a.Name.Space == "" && a.Name.Local == "xmlns":
					decls += fmt.Sprintf(" [=%s]", a.Value)
				default:
					line += fmt.Sprintf(" {%s}%s=%q", a.Name.Space, a.Name.Local, a.Value)
				}
			}
			out = append(out, line+decls)
		}
	}
}

// FuzzDecoder: octets decoded and written anew are accepted and decode to the
// same tokens, and the Decoder survives octets that nobody has checked.
func FuzzDecoder(f *testing.F) {
	for _, in := range seeds {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		tokens(NewDecoder(in, "urn:d")) // any result, but one
		raw := accepted(t, in)
		if raw == "" {
			return
		}
		want, err := tokens(NewDecoder(raw, ""))
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		written := rewrite(t, raw)
		wide := Limits{Bytes: 1 << 26}
		if events, err := scan(t, Document, wide, written); err != nil || len(events) != 1 || events[0].raw != written {
			t.Fatalf("%q written as %q: %v %v", raw, written, events, err)
		}
		if got, err := tokens(NewDecoder(written, "")); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q written as %q: %v\n%s\nwant\n%s", raw, written, err, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// rewrite writes the tokens of raw anew.
func rewrite(t *testing.T, raw string) string {
	var out []byte
	d := NewDecoder(raw, "")
	for {
		tok, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch tok.Kind {
		case EndOfInput:
			return string(out)
		case Text:
			if !ValidText(tok.Text) {
				t.Fatalf("%q: text %q is not valid", raw, tok.Text)
			}
			out = AppendText(out, tok.Text)
		case EndElement:
			out = append(append(append(out, "</"...), tok.Name.qualified()...), '>')
		case StartElement:
			out = append(append(out, '<'), tok.Name.qualified()...)
			for _, d := range tok.Decls {
				out = appendDecl(out, d.Prefix, d.Name)
			}
			for _, a := range tok.Attrs {
				out = append(append(append(out, ' '), a.Name.qualified()...), '=', '"')
				out = append(AppendAttr(out, a.Value), '"')
			}
			out = append(out, '>')
		}
	}
}

// FuzzCanonical: what Canonical writes means the same to a Document scanner, in
// every name, and is not Foreign.
func FuzzCanonical(f *testing.F) {
	for _, in := range seeds {
		f.Add(in)
	}
	outer := []TokenDecl{{"s", "urn:s"}, {"p", "urn:p&'"}}
	f.Fuzz(func(t *testing.T, in string) {
		var s Scanner
		s.Reset(Stream, Limits{})
		data := append([]byte("<s:s xmlns:s='urn:s' xmlns='urn:d' xmlns:p=\"urn:p&amp;'\">"), in...)
		_, n, err := s.Next(data)
		if err != nil {
			t.Fatal(err)
		}
		kind, size, err := s.Next(data[n:])
		if kind != KindElement || err != nil {
			return
		}
		foreign := s.Index().Foreign
		raw := data[n+size-s.Index().Len : n+size]
		canon, err := s.Canonical(nil, raw)
		if err != nil {
			t.Fatal(err)
		}
		var doc Scanner
		doc.Reset(Document, Limits{Bytes: 1 << 26, NSDecls: 100})
		kind, size, err = doc.Next(canon)
		if kind != KindElement || size != len(canon) || err != nil || doc.Index().Foreign {
			t.Fatalf("%q canonical %q: %v %d %v %+v", raw, canon, kind, size, err, doc.Index())
		}
		want, err := tokens(NewDecoder(string(raw), "urn:d", outer...))
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		got, err := tokens(NewDecoder(string(canon), ""))
		if err != nil || !reflect.DeepEqual(undeclared(got), undeclared(want)) {
			t.Fatalf("%q canonical %q: %v\n%q\nwant\n%q", raw, canon, err, got, want)
		}
		if again, err := doc.Canonical(nil, canon); err != nil || !bytes.Equal(again, canon) {
			t.Fatalf("canonical %q again: %q %v", canon, again, err)
		}
		if foreign {
			return
		}
		// Not Foreign: the octets stand alone but for the default namespace.
		alone, err := tokens(NewDecoder(string(raw), "urn:d"))
		if err != nil || !reflect.DeepEqual(alone, want) {
			t.Fatalf("%q is not foreign: %v %q", raw, err, alone)
		}
	})
}

// undeclared removes the declarations from lines of tokens.
func undeclared(lines []string) []string {
	out := make([]string, len(lines))
	for k, line := range lines {
		if strings.HasPrefix(line, "start ") {
			line, _, _ = strings.Cut(line, " [")
		}
		out[k] = line
	}
	return out
}
