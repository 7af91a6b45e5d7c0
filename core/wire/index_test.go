package wire

import (
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

// index scans one element behind the given header (Document mode if that is
// empty) and returns its index. The scanner is returned for Canonical.
func index(t *testing.T, hdr, in string) (*Scanner, *Element) {
	t.Helper()
	s := new(Scanner)
	if hdr == "" {
		s.Reset(Document, Limits{})
	} else {
		s.Reset(Stream, Limits{})
		if kind, n, err := s.Next([]byte(hdr)); kind != KindHeader || n != len(hdr) || err != nil {
			t.Fatalf("header: %v %d %v", kind, n, err)
		}
	}
	if kind, n, err := s.Next([]byte(in)); kind != KindElement || n != len(in) || err != nil {
		t.Fatalf("%q: %v %d %v", in, kind, n, err)
	}
	return s, s.Index()
}

func TestIndex(t *testing.T) {
	const in = "<m:message xmlns='jabber:client' xmlns:m=\"urn:m\" to='a&amp;b' m:x='y' xml:lang=''> \n" +
		"<body>one<b>two</b></body><x xmlns='urn:x'/><m:y/><z xmlns=''></z>\t</m:message >"
	_, el := index(t, header, in)
	str := func(sp Span) string { return sp.Str(in) }
	if el.Len != len(in) || str(el.Prefix) != "m" || str(el.Local) != "message" || str(el.Space) != "urn:m" || el.Inherited || el.Foreign || el.Text {
		t.Errorf("element: %+v", *el)
	}
	if got := str(el.Inner); !strings.HasPrefix(got, " \n<body>") || !strings.HasSuffix(got, "</z>\t") {
		t.Errorf("inner: %q", got)
	}
	var attrs [][4]string
	for _, a := range el.Attrs {
		attrs = append(attrs, [4]string{str(a.Name), str(a.Prefix), str(a.Local), str(a.Value)})
	}
	if want := [][4]string{{"to", "", "to", "a&amp;b"}, {"m:x", "m", "x", "y"}, {"xml:lang", "xml", "lang", ""}}; !reflect.DeepEqual(attrs, want) {
		t.Errorf("attributes: %q, want %q", attrs, want)
	}
	var decls [][2]string
	for _, d := range el.Decls {
		decls = append(decls, [2]string{str(d.Prefix), string(d.Name.Bytes([]byte(in)))})
	}
	if want := [][2]string{{"", "jabber:client"}, {"m", "urn:m"}}; !reflect.DeepEqual(decls, want) {
		t.Errorf("declarations: %q, want %q", decls, want)
	}
	var children [][3]string
	for _, c := range el.Children {
		if c.Inherited {
			t.Errorf("%q inherits from outside", str(c.Local))
		}
		children = append(children, [3]string{in[c.Start:c.End], str(c.Local), str(c.Space)})
	}
	if want := [][3]string{
		{"<body>one<b>two</b></body>", "body", "jabber:client"},
		{"<x xmlns='urn:x'/>", "x", "urn:x"},
		{"<m:y/>", "y", "urn:m"},
		{"<z xmlns=''></z>", "z", ""},
	}; !reflect.DeepEqual(children, want) {
		t.Errorf("children: %q, want %q", children, want)
	}
}

func TestIndexInherited(t *testing.T) {
	const in = "<message><body/><x xmlns='u'/></message>"
	s, el := index(t, header, in)
	if !el.Inherited || !el.Space.Empty() || el.Foreign || s.DefaultSpace() != "jabber:client" {
		t.Errorf("%+v %q", *el, s.DefaultSpace())
	}
	if c := el.Children; !c[0].Inherited || !c[0].Space.Empty() || c[1].Inherited || c[1].Space.Str(in) != "u" {
		t.Errorf("%+v", c)
	}
	if _, el := index(t, "", in); el.Inherited || el.Children[0].Inherited {
		t.Errorf("inherited in a document: %+v", *el)
	}
}

func TestIndexText(t *testing.T) {
	for in, want := range map[string]bool{
		"<a/>": false, "<a></a>": false, "<a> \t\r\n</a>": false, "<a>x</a>": true, "<a><b/>x</a>": true,
		"<a><b>x</b></a>": false, "<a>&#32;&#x9;</a>": false, "<a>&amp;</a>": true, "<a><![CDATA[]]></a>": false,
		"<a><![CDATA[ ]]></a>": false, "<a><![CDATA[x]]></a>": true, "<a><![CDATA[]]]></a>": true, "<a> \u00a0</a>": true,
		"<a><b><![CDATA[x]]>&lt;</b></a>": false, "<a b='x'> </a>": false,
	} {
		if _, el := index(t, "", in); el.Text != want {
			t.Errorf("%q: Text is %v", in, el.Text)
		}
	}
}

func TestHeader(t *testing.T) {
	var s Scanner
	s.Reset(Stream, Limits{})
	in := []byte(header + "<message/>")
	kind, n, err := s.Next(in)
	if kind != KindHeader || err != nil {
		t.Fatal(kind, err)
	}
	el := s.Index()
	raw := in[n-el.Len : n]
	if string(el.Prefix.Bytes(raw)) != "stream" || string(el.Local.Bytes(raw)) != "stream" ||
		string(el.Space.Bytes(raw)) != "http://etherx.jabber.org/streams" || len(el.Attrs) != 4 || len(el.Decls) != 2 {
		t.Errorf("%+v", *el)
	}
	if s.DefaultSpace() != "jabber:client" {
		t.Errorf("default namespace %q", s.DefaultSpace())
	}
	// RFC 6120 §4.3.3: a restart forgets the stream before.
	s.Reset(Stream, Limits{})
	if s.DefaultSpace() != "" || s.Index() != nil || !s.Idle() {
		t.Error("Reset left something of the old stream")
	}
	if kind, _, err := s.Next([]byte(header)); kind != KindHeader || err != nil {
		t.Error(kind, err)
	}
}

func TestCanonical(t *testing.T) {
	const hdr = `<s:s xmlns:s='urn:s' xmlns:p='urn:p&amp;q' xmlns='v&#39;v' xmlns:unused="urn:unused">`
	for _, tt := range []struct {
		hdr, in string
		foreign bool
		want    string
	}{
		// Prefixes of the header.
		{hdr, "<s:a/>", true, "<s:a xmlns='v&apos;v' xmlns:s='urn:s'/>"},
		{hdr, "<a p:b='c'>x</a>", true, "<a xmlns='v&apos;v' xmlns:p='urn:p&amp;q' p:b='c'>x</a>"},
		{hdr, "<a xmlns='w'><p:b/><p:c xmlns:p='x'/></a>", true, "<a xmlns:p='urn:p&amp;q' xmlns='w'><p:b/><p:c xmlns:p='x'/></a>"},
		{hdr, "<a\n><s:b/><p:b/></a>", true, "<a xmlns='v&apos;v' xmlns:s='urn:s' xmlns:p='urn:p&amp;q'\n><s:b/><p:b/></a>"},
		{hdr, "<p:a xmlns:p='x'><b/></p:a>", false, "<p:a xmlns='v&apos;v' xmlns:p='x'><b/></p:a>"},
		// Namespace names.
		{hdr, "<a xmlns='&#117;r&#x6e;:a'><b xmlns:c=\"d'\ne\"/></a>", true, "<a xmlns='urn:a'><b xmlns:c=\"d&apos; e\"/></a>"},
		{"", "<a xmlns='&#117;'/>", true, "<a xmlns='u'/>"},
		{"", "<a xmlns='u&#38;&apos;&gt;'/>", true, "<a xmlns='u&amp;&apos;&gt;'/>"},
		{"", "<a><b xmlns='1&#9;&#x20;2'/></a>", true, "<a><b xmlns='1&#9; 2'/></a>"},
		// Nothing to do.
		{"", "<a xmlns='u&amp;v'><b/></a>", false, "<a xmlns='u&amp;v'><b/></a>"},
		{"", "<xml:a/>", false, "<xml:a/>"},
	} {
		s, el := index(t, tt.hdr, tt.in)
		if el.Foreign != tt.foreign {
			t.Errorf("%q: Foreign is %v", tt.in, el.Foreign)
		}
		got, err := s.Canonical([]byte("<"), []byte(tt.in))
		if string(got) != "<"+tt.want || err != nil {
			t.Errorf("%q: %q %v, want %q", tt.in, got[1:], err, tt.want)
		}
		if _, el := index(t, "", tt.want); el.Foreign {
			t.Errorf("%q is still foreign", tt.want)
		}
	}
	s, _ := index(t, "", "<a/>")
	if _, err := s.Canonical(nil, []byte("<ab/>")); err == nil {
		t.Error("no error for another element's octets")
	}
	if _, _, err := s.Next(nil); err != nil {
		t.Error(err)
	}
	if _, err := s.Canonical(nil, []byte("<a/>")); err == nil {
		t.Error("no error without an element")
	}
}

// More attributes than are compared each with each.
func TestManyAttributes(t *testing.T) {
	tag := func(last string) string {
		in := "<a xmlns:p='u' xmlns:q='u' xmlns:r='v'"
		for _, c := range "bcdefghijklmnopqrstuvwxyz" {
			in += " " + string(c) + "='' p:" + string(c) + "='' r:" + string(c) + "=''"
		}
		return in + " " + last + "=''/>"
	}
	limits := Limits{Attrs: 100}
	for _, last := range []string{"a", "p:a", "r:a", "xml:b", "B"} {
		if _, err := scan(t, Document, limits, tag(last)); err != nil {
			t.Errorf("%s: %v", last, err)
		}
	}
	for _, last := range []string{"b", "z", "p:b", "q:c", "q:z", "r:m"} {
		checkRefused(t, Document, limits, tag(last), NotWellFormed)
	}
}

func TestScannerAllocatesNothing(t *testing.T) {
	in := mixedStream(readSize)
	in = append(in, "<a xmlns:p='u' xmlns:q='v' p:b='' q:b='' c='' d='' e='' f='' g='' h='' i='' j='' k='' l='' m='' n='' o='' p='' q='' r=''/>"...)
	in = append(in, "<a xmlns:b='u&#39;'><stream:c/></a>"...)
	var s Scanner
	s.Reset(Stream, Limits{})
	_, at, err := s.Next(in)
	if err != nil {
		t.Fatal(err)
	}
	body := in[at:]
	scanBody := func() {
		for rest := body; ; {
			kind, n, err := s.Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			if rest = rest[n:]; kind == KindMore {
				return
			}
		}
	}
	// An idle scanner gives its working memory to a pool, which the garbage
	// collector may empty and the race detector does at random. So the body ends
	// within an element, which the next round completes.
	body = append(body, "<a"...)
	scanBody()
	body = append([]byte("<a/>"), body...)
	if n := testing.AllocsPerRun(100, scanBody); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// The idle scanner is what every connection keeps.
func TestScannerIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Scanner{}); size > 128 {
		t.Errorf("a Scanner takes %d octets", size)
	}
	var s Scanner
	s.Reset(Stream, Limits{})
	for _, in := range []string{header, "<a/>", " "} {
		if _, n, err := s.Next([]byte(in)); n != len(in) || err != nil {
			t.Fatal(n, err)
		}
	}
	if s.work != nil {
		t.Error("an idle scanner keeps its working memory")
	}
}
