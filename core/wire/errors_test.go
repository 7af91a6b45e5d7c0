package wire

import (
	"fmt"
	"strings"
	"testing"
)

// checkRefused scans in whole, cut once anywhere and octet by octet, and wants
// the same condition at the same offset each time.
func checkRefused(t *testing.T, m Mode, l Limits, in, condition string) {
	t.Helper()
	_, err := scan(t, m, l, in)
	if err == nil || err.Condition != condition {
		t.Fatalf("%q: %v, want %s", clip(in), err, condition)
	}
	if err.Offset < 0 || err.Offset > int64(len(in)) {
		t.Errorf("%q: offset %d of %d", clip(in), err.Offset, len(in))
	}
	all := make([]int, len(in))
	for k := range len(in) {
		all[k] = k
	}
	for k := 0; k < len(in); k += 1 + len(in)/512 {
		if _, got := scan(t, m, l, in, k); got == nil || *got != *err {
			t.Fatalf("%q cut at %d: %v, want %v", clip(in), k, got, err)
		}
	}
	if _, got := scan(t, m, l, in, all...); got == nil || *got != *err {
		t.Fatalf("%q octet by octet: %v, want %v", clip(in), got, err)
	}
}

func clip(s string) string { return s[:min(len(s), 120)] }

// Within an element, in either mode.
func TestRefusedInElement(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		// RFC 6120 §11.1 and §4.9.3.18.
		{"<message to='juliet@im.example.com'>\n<!--<subject/>-->\n<body>This message has no subject.</body></message>", RestrictedXML},
		{"<a><?foo bar?></a>", RestrictedXML},
		{"<a><?xml version='1.0'?></a>", RestrictedXML},
		{"<a><!DOCTYPE a></a>", RestrictedXML},
		{"<a><!ENTITY b 'c'></a>", RestrictedXML},
		{"<a>&nbsp;</a>", RestrictedXML},
		{"<a b='&foo;'/>", RestrictedXML},
		{"<a>&AMP;</a>", RestrictedXML},
		{"<a>&\u00e9t\u00e9;</a>", RestrictedXML},
		// RFC 6120 §4.9.3.13 and §4.9.4: examples.
		{"<message><foo:body>What is this foo?</foo:body></message>", NotWellFormed},
		{"<message><body>ASDFGHJKL:\"ZXCVBNM<>?</body></message>", NotWellFormed},
		{"<message><body>No closing tag!</message>", NotWellFormed}, // §4.9.3.1, which prefers this
		// XML §2.1, §3.1: tags nest and match.
		{"<a></b>", NotWellFormed},
		{"<a><b></a></b>", NotWellFormed},
		{"<a></a b='c'>", NotWellFormed},
		{"<a></ab>", NotWellFormed},
		{"<ab></a>", NotWellFormed},
		{"<a></ a>", NotWellFormed},
		{"<a></>", NotWellFormed},
		{"<p:a xmlns:p='u' xmlns:q='u'></q:a>", NotWellFormed},
		{"<a xmlns='u' xmlns:q='u'></q:a>", NotWellFormed},
		{"< a/>", NotWellFormed},
		{"<a/ >", NotWellFormed},
		{"<a / >", NotWellFormed},
		{"<a//>", NotWellFormed},
		{"<a<b/>", NotWellFormed},
		{"<>", NotWellFormed},
		{"<a><></a>", NotWellFormed},
		{"<a>< b/></a>", NotWellFormed},
		{"<a =''/>", NotWellFormed},
		// XML §2.3, Names; Namespaces in XML §4, QName.
		{"<1a/>", NotWellFormed},
		{"<-a/>", NotWellFormed},
		{"<.a/>", NotWellFormed},
		{"<\u00b7a/>", NotWellFormed},
		{"<a\u00d7/>", NotWellFormed},
		{"<a\u2028/>", NotWellFormed},
		{"<a\u3000b/>", NotWellFormed},
		{"<\u0300a/>", NotWellFormed},
		{"<a\U000f0000/>", NotWellFormed},
		{"<a\x00/>", NotWellFormed},
		{"<a\xff/>", NotWellFormed},
		{"<a$/>", NotWellFormed},
		{"<:a/>", NotWellFormed},
		{"<a:/>", NotWellFormed},
		{"<a:b:c xmlns:a='u'/>", NotWellFormed},
		{"<a::b xmlns:a='u'/>", NotWellFormed},
		{"<a:1 xmlns:a='u'/>", NotWellFormed},
		{"<a:\u00b7b xmlns:a='u'/>", NotWellFormed},
		{"<a :b='c'/>", NotWellFormed},
		{"<a b:='c'/>", NotWellFormed},
		{"<a xmlns:='c'/>", NotWellFormed},
		{"<a xmlns:b:c='c'/>", NotWellFormed},
		{"<a xmlns:1='c'/>", NotWellFormed},
		// Names of XML's Fifth Edition that earlier parsers refuse.
		{"<\U00010000/>", PolicyViolation},
		{"<a\u203f/>", PolicyViolation},
		{"<a \u0250\u0220='b'/>", PolicyViolation},
		// XML §3.1: attributes.
		{"<a b/>", NotWellFormed},
		{"<a b=c/>", NotWellFormed},
		{"<a b='c'd='e'/>", NotWellFormed},
		{"<a b='c\"/><d e=\"'/>\x00", NotWellFormed},
		{"<a b='<'/>", NotWellFormed},
		{"<a b='c' b='c'/>", NotWellFormed},
		{"<a b='c' d='' b=\"e\"/>", NotWellFormed},
		{"<a b='\x01'/>", NotWellFormed},
		{"<a b='\xc3'/>", NotWellFormed},
		{"<a b='&'/>", NotWellFormed},
		{"<a b 'c'/>", NotWellFormed},
		{"<a b=='c'/>", NotWellFormed},
		// XML §2.4, §2.7, §4.1: text, CDATA, references.
		{"<a>]]></a>", NotWellFormed},
		{"<a>b]]]></a>", NotWellFormed},
		{"<a>0123456789]]>0123456789</a>", NotWellFormed},
		{"<a><![CDATA[ \x02 ]]></a>", NotWellFormed},
		{"<a><![CDATA[ \xed\xa0\x80 ]]></a>", NotWellFormed},
		{"<a><![cdata[ ]]></a>", NotWellFormed},
		{"<a><![IGNORE[ ]]></a>", NotWellFormed},
		{"<a>& </a>", NotWellFormed},
		{"<a>&;</a>", NotWellFormed},
		{"<a>&amp</a>", NotWellFormed},
		{"<a>&1;</a>", NotWellFormed},
		{"<a>&#;</a>", NotWellFormed},
		{"<a>&#x;</a>", NotWellFormed},
		{"<a>&#X41;</a>", NotWellFormed},
		{"<a>&#4a;</a>", NotWellFormed},
		{"<a>&#xg;</a>", NotWellFormed},
		{"<a>&# 65;</a>", NotWellFormed},
		// XML §2.2: Char, also by reference.
		{"<a>&#0;</a>", NotWellFormed},
		{"<a>&#x8;</a>", NotWellFormed},
		{"<a>&#11;</a>", NotWellFormed},
		{"<a>&#xD800;</a>", NotWellFormed},
		{"<a>&#xdfff;</a>", NotWellFormed},
		{"<a>&#xFFFE;</a>", NotWellFormed},
		{"<a>&#65535;</a>", NotWellFormed},
		{"<a>&#x110000;</a>", NotWellFormed},
		{"<a>&#99999999999999999999;</a>", NotWellFormed},
		{"<a>&#x100000041;</a>", NotWellFormed},
		{"<a b='&#1;'/>", NotWellFormed},
		{"<a>\x00</a>", NotWellFormed},
		{"<a>\x0b</a>", NotWellFormed},
		{"<a>01234567\x1f</a>", NotWellFormed},
		{"<a>\uFFFE</a>", NotWellFormed},
		{"<a>\uFFFF</a>", NotWellFormed},
		// RFC 3629 §3, §4, §10; RFC 6120 §11.3 rule 2.
		{"<a>\x80</a>", NotWellFormed},
		{"<a>\xc0\x80</a>", NotWellFormed},
		{"<a>\xc1\xbf</a>", NotWellFormed},
		{"<a>\xc3(</a>", NotWellFormed},
		{"<a>\xc3</a>", NotWellFormed},
		{"<a>\xe0\x9f\xbf</a>", NotWellFormed},
		{"<a>\xe2\x82</a>", NotWellFormed},
		{"<a>\xed\xa0\x80\xed\xb0\x80</a>", NotWellFormed},
		{"<a>\xed\xbf\xbf</a>", NotWellFormed},
		{"<a>\xf0\x8f\xbf\xbf</a>", NotWellFormed},
		{"<a>\xf0\x9f\x98</a>", NotWellFormed},
		{"<a>\xf4\x90\x80\x80</a>", NotWellFormed},
		{"<a>\xf5\x80\x80\x80</a>", NotWellFormed},
		{"<a>\xf8\x88\x80\x80\x80</a>", NotWellFormed},
		{"<a>\xfe</a>", NotWellFormed},
		{"<a>\xff</a>", NotWellFormed},
		{"<a>caf\xe9</a>", NotWellFormed},
		// Namespaces in XML §3: reserved prefixes and names; §5: prefixes.
		{"<a xmlns:xml='u'/>", NotWellFormed},
		{"<a xmlns:xmlns='u'/>", NotWellFormed},
		{"<a xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>", NotWellFormed},
		{"<a xmlns:b='http://www.w3.org/2000/xmlns/'/>", NotWellFormed},
		{"<a xmlns='http://www.w3.org/2000/xmlns/'/>", NotWellFormed},
		{"<a xmlns:b='http://www.w3.org/XML/1998/namespace'/>", NotWellFormed},
		{"<a xmlns='http://www.w3.org/XML/1998/namespace'/>", NotWellFormed},
		{"<a xmlns='http://www.w3.org/XML/1998/n&#97;mespace'/>", NotWellFormed},
		{"<xmlns:a/>", NotWellFormed},
		{"<a xmlns:b=''/>", NotWellFormed},
		{"<a xmlns:b='u'><b xmlns:b=''/></a>", NotWellFormed},
		{"<b:a/>", NotWellFormed},
		{"<a b:c='d'/>", NotWellFormed},
		{"<a><c xmlns:b='u'/><b:d/></a>", NotWellFormed},
		{"<a><c xmlns:b='u'></c><d b:e=''/></a>", NotWellFormed},
		{"<XML:a/>", NotWellFormed},
		{"<a xmlns='u' xmlns='u'/>", NotWellFormed},
		{"<a xmlns:b='u' xmlns:b='v'/>", NotWellFormed},
		{"<a xmlns:b='u' xmlns:c='u' b:d='' c:d=''/>", NotWellFormed}, // §6.3
		{"<a xmlns:b='u' b:d=''><e xmlns:c='&#117;' b:d='' c:d=''/></a>", NotWellFormed},
		{"<a xml:lang='en' xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang='en'/>", NotWellFormed},
	} {
		t.Run(fmt.Sprintf("%.60q", tt.in), func(t *testing.T) {
			checkRefused(t, Document, Limits{}, tt.in, tt.want)
			checkRefused(t, Stream, Limits{}, header+tt.in, tt.want)
		})
	}
}

func TestRefusedOutsideElement(t *testing.T) {
	const open = "<s:s xmlns:s='u' xmlns='v'>"
	utf16 := func(s string, order int) string {
		var out strings.Builder
		for _, c := range []byte(s) {
			pair := [2]byte{}
			pair[order] = c
			out.Write(pair[:])
		}
		return out.String()
	}
	for _, tt := range []struct {
		in   string
		want string
	}{
		// RFC 6120 §4.9.3.22, §11.6: encodings.
		{"<?xml version='1.0' encoding='UTF-16'?>" + open, UnsupportedEncoding},
		{"<?xml version='1.0' encoding='ISO-8859-1'?>" + open, UnsupportedEncoding},
		{"<?xml version='1.0' encoding=\"us-ascii\"?>" + open, UnsupportedEncoding},
		{"\xff\xfe" + utf16(open, 0), UnsupportedEncoding},
		{"\xfe\xff" + utf16(open, 1), UnsupportedEncoding},
		{utf16("<?xml version='1.0'?>", 0), UnsupportedEncoding},
		{utf16("<?xml version='1.0'?>", 1), UnsupportedEncoding},
		// §11.6: U+FEFF is a character, not a byte order mark; so it is text.
		{"\uFEFF" + open, NotWellFormed},
		{open + "\uFEFF", BadFormat},
		{open + "<a>\uFEFF</a>\uFEFF", BadFormat},
		// XML §2.8: the declaration.
		{"<?xml version='1.1'?>" + open, NotWellFormed},
		{"<?xml version='2.0'?>" + open, NotWellFormed},
		{"<?xml?>" + open, NotWellFormed},
		{"<?xml ?>" + open, NotWellFormed},
		{"<?xml encoding='UTF-8'?>" + open, NotWellFormed},
		{"<?xml encoding='UTF-8' version='1.0'?>" + open, NotWellFormed},
		{"<?xml version='1.0'encoding='UTF-8'?>" + open, NotWellFormed},
		{"<?xml version='1.0\"?>" + open, NotWellFormed},
		{"<?xml version=1.0?>" + open, NotWellFormed},
		{"<?xml version='1.0' standalone='maybe'?>" + open, NotWellFormed},
		{"<?xml version='1.0' standalone='yes' encoding='UTF-8'?>" + open, NotWellFormed},
		{"<?xml version='1.0' encoding='&#85;TF-8'?>" + open, NotWellFormed},
		{"<?xml version='1.0' foo='bar'?>" + open, NotWellFormed},
		{"<?xml version='1.0' ? >" + open + "?>", NotWellFormed},
		{"<?xml version='1.0'" + strings.Repeat(" ", 300) + "?>" + open, PolicyViolation},
		{"<?xml version='1.0'?><?xml version='1.0'?>" + open, RestrictedXML},
		{" <?xml version='1.0'?>" + open, RestrictedXML},
		{"<?XML version='1.0'?>" + open, RestrictedXML},
		{"<?xml-stylesheet href='a'?>" + open, RestrictedXML},
		{"<?foo?>" + open, RestrictedXML},
		{open + "<?xml version='1.0'?>", RestrictedXML},
		{open + "<a/><?foo bar?>", RestrictedXML},
		// RFC 6120 §11.1.
		{"<!DOCTYPE s:s [<!ENTITY a 'b'>]>" + open, RestrictedXML},
		{"<!-- c -->" + open, RestrictedXML},
		{open + "<!-- c -->", RestrictedXML},
		{open + "<!DOCTYPE a>", RestrictedXML},
		// RFC 6120 §4.9.3.1: character data where only elements can be.
		{open + "text", BadFormat},
		{open + "<a/>&amp;", BadFormat},
		{open + "<![CDATA[text]]>", BadFormat},
		{open + "\u00e9", BadFormat},
		{open + "<a/>>", BadFormat},
		{open + "\x00", NotWellFormed},
		{open + "\xc0\x80", NotWellFormed},
		{open + "\x1b[A", NotWellFormed},
		{"text" + open, NotWellFormed},
		{"<![CDATA[text]]>" + open, NotWellFormed},
		{"&lt;" + open, NotWellFormed},
		{"GET / HTTP/1.1\r\n\r\n", NotWellFormed},
		{"\x16\x03\x01\x02\x00\x01\x00\x01", NotWellFormed}, // a TLS hello
		// The end of the stream.
		{"</s:s>", NotWellFormed},
		{open + "</s:t>", NotWellFormed},
		{open + "</s>", NotWellFormed},
		{open + "</s:s a='b'>", NotWellFormed},
		{open + "</s:sa>", NotWellFormed},
		{open + "</v:s>", NotWellFormed},
		{open + "</s:s>text", NotWellFormed},
		{open + "</s:s><a/>", NotWellFormed},
		{open + "</s:s></s:s>", NotWellFormed},
		{open + "</s:s>" + open, NotWellFormed},
		{"<s/><a/>", NotWellFormed},
		{"<s:s>", NotWellFormed},
		// A stream header inside the stream would swallow what follows.
		{open + open, UnsupportedStanzaType},
		{open + "<x:s xmlns:x='u'>", UnsupportedStanzaType},
		{open + "<s xmlns='u'/>", UnsupportedStanzaType},
	} {
		t.Run(fmt.Sprintf("%.60q", tt.in), func(t *testing.T) {
			checkRefused(t, Stream, Limits{}, tt.in, tt.want)
		})
	}
	for _, tt := range []struct{ in, want string }{
		{"text", NotWellFormed},
		{"<a/>text", NotWellFormed},
		{"</a>", NotWellFormed},
		{"<a/></a>", NotWellFormed},
		{"<![CDATA[]]>", NotWellFormed},
		{" <?xml version='1.0'?><a/>", RestrictedXML},
		{"<a/> <?xml version='1.0'?><a/>", RestrictedXML},
		{"<?xml version='1.0' encoding='KOI8-R'?><a/>", UnsupportedEncoding},
		{"<!DOCTYPE a><a/>", RestrictedXML},
		{"<a/><!---->", RestrictedXML},
		{"<stream:features/>", NotWellFormed}, // RFC 7395 §3.3.3: nothing declares the prefix
	} {
		t.Run(fmt.Sprintf("document %.60q", tt.in), func(t *testing.T) {
			checkRefused(t, Document, Limits{}, tt.in, tt.want)
		})
	}
}

// Each limit at its last good value and one beyond.
func TestLimits(t *testing.T) {
	attrs := func(n int, name string) string {
		var b strings.Builder
		for k := range n {
			fmt.Fprintf(&b, " "+name+"='u'", k)
		}
		return b.String()
	}
	for _, tt := range []struct {
		name      string
		limits    Limits
		good, bad string
	}{
		{"bytes", Limits{Bytes: 20}, "<a>0123456789012</a>", "<a>01234567890123</a>"},
		{"bytes in a tag", Limits{Bytes: 10}, "<a b='c'/>", "<a b='0123456789"},
		{"bytes of spaces in tag", Limits{Bytes: 100}, "<a" + strings.Repeat(" ", 96) + "/>", "<a" + strings.Repeat(" ", 97) + "/>"},
		{"depth", Limits{Depth: 3}, "<a><b><c/></b></a>", "<a><b><c><d/></c></b></a>"},
		{"depth default", Limits{}, strings.Repeat("<a>", 64) + strings.Repeat("</a>", 64), strings.Repeat("<a>", 65)},
		{"attributes", Limits{Attrs: 2}, "<a b='' c='' xmlns='u' xmlns:d='v'/>", "<a b='' c='' d=''/>"},
		{"attributes default", Limits{}, "<a" + attrs(64, "b%d") + "/>", "<a" + attrs(65, "b%d") + "/>"},
		{"attributes of a child", Limits{Attrs: 1}, "<a b=''><c d=''/><c d=''/></a>", "<a b=''><c d='' e=''/></a>"},
		{"declarations", Limits{NSDecls: 3}, "<a xmlns='u'><b xmlns='v'/><b xmlns:c='w'/></a>", "<a xmlns='u'><b xmlns='v'/><b xmlns:c='w' xmlns:d='w'/></a>"},
		{"declarations default", Limits{}, "<a" + attrs(64, "xmlns:b%d") + "/>", "<a" + attrs(65, "xmlns:b%d") + "/>"},
		{"name", Limits{Name: 8}, "<n2345678 a:b45678='' xmlns:a='u'></n2345678>", "<n23456789/>"},
		{"name of an attribute", Limits{Name: 8}, "<a/>", "<a n23456789=''/>"},
		{"name in several octets", Limits{Name: 8}, "<n\u00e9456\u00e9/>", "<n\u00e94567\u00e9/>"},
		{"name cut by the limit", Limits{Name: 8}, "<n23456\u00e9/>", "<n234567\u00e9/>"},
		{"reference", Limits{Name: 8}, "<a>&#00065;</a>", "<a>&#000065;</a>"},
		{"namespace name", Limits{NSName: 4}, "<a xmlns='abcd' xmlns:b=\"efgh\" c='abcdef'/>", "<a xmlns='abcde'/>"},
		{"namespace name raw", Limits{NSName: 8}, "<a xmlns='b&#39;cd'/>", "<a xmlns='b&#x0027;cd'/>"},
		{"children", Limits{Children: 2}, "<a><b><c/><c/><c/></b><b/></a>", "<a><b/><b/><b/></a>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if ev, err := scan(t, Document, tt.limits, tt.good); err != nil || len(ev) != 1 {
				t.Errorf("%q: %v %v", clip(tt.good), ev, err)
			}
			checkRefused(t, Document, tt.limits, tt.bad, PolicyViolation)
		})
	}
	// A limit holds before the element is complete: nothing is buffered beyond it.
	var s Scanner
	s.Reset(Document, Limits{Bytes: 1000})
	in := "<a>" + strings.Repeat("b", 997)
	if _, _, err := s.Next([]byte(in[:999])); err != nil {
		t.Errorf("below the limit: %v", err)
	}
	if _, _, err := s.Next([]byte(in)); err == nil {
		t.Error("an element cannot end within its limit any more, and no error")
	}
	// The stream header is under the same limit.
	checkRefused(t, Stream, Limits{Bytes: 50}, header, PolicyViolation)
}

// RFC 6120 §13.12: a limit after authentication may be wider than before it.
func TestSetLimits(t *testing.T) {
	var s Scanner
	s.Reset(Stream, Limits{Bytes: 300})
	if kind, n, err := s.Next([]byte(header)); err != nil || kind != KindHeader || n != len(header) {
		t.Fatal(kind, n, err)
	}
	s.SetLimits(Limits{})
	big := "<a>" + strings.Repeat("b", 10000) + "</a>"
	if kind, n, err := s.Next([]byte(big)); err != nil || kind != KindElement || n != len(big) {
		t.Fatal(kind, n, err)
	}
}

// Narrower limits that come while an element is pending end it at the latest
// where its octets run out.
func TestSetLimitsWithin(t *testing.T) {
	const in = "<abc b='c' xmlns='d'>e&amp;<![CDATA[f]]><g/></abc >"
	for k := 1; k < len(in); k++ {
		var s Scanner
		s.Reset(Document, Limits{})
		if kind, _, err := s.Next([]byte(in[:k])); kind != KindMore || err != nil {
			t.Fatal(k, kind, err)
		}
		s.SetLimits(Limits{Bytes: 1, Depth: 1, Attrs: 1, NSDecls: 1, Name: 1, NSName: 1, Children: 1})
		_, _, err := s.Next([]byte(in))
		if e, ok := err.(*Error); err != nil && (!ok || e.Condition != PolicyViolation) {
			t.Errorf("cut at %d: %v", k, err)
		} else if err == nil && k < len(in)-len("c >") {
			t.Errorf("cut at %d: no error", k)
		}
	}
}

// What peers do write, and what only looks wrong.
func TestAccepted(t *testing.T) {
	for _, in := range []string{
		"<a/>", "<a />", "<a></a>", "<a></a >", "<a\t\r\n/>", "<a></a\n\n>",
		"<a b = 'c'\nd=\"e\"/>", "<a b='\"' c=\"'\"/>", "<a b='>' c='a]]>b'/>",
		"<a b='\n\t\r'/>", "<a>\x7f\u0080\u0085\u2028\ufffd\U0001f600\U0010ffff</a>",
		"<a>]] > ]>]] ]]&gt; ></a>", "<a><![CDATA[]]></a>", "<a><![CDATA[<b>&foo;]]]]></a>", "<a><![CDATA[a]]>></a>",
		"<a>&amp;&lt;&gt;&apos;&quot;&#65;&#x41;&#x0000041;&#x10FFFF;&#xD;&#9;</a>",
		"<a-b.c_1/>", "<_/>", "<\u00e9l\u00e9ment attribut\u00e9='\u00e9'/>", "<\u540d \u0434\u0430='1'/>", "<a\u00b7\u0300/>",
		"<a xml:lang='en' xml:foo='1'/>", "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>", "<xml:a/>", "<xmla xmlb='c'/>",
		"<a xmlnsb='c'/>", "<xmlns/>", "<a xmlns:xmlb='u' xmlb:c=''/>",
		"<a xmlns='u'><b xmlns=''/></a>", "<b:a xmlns:b='u' b:c='' c=''/>", "<a c='' b:c='' xmlns:b='u' xmlns='u'/>",
		"<a xmlns:b='u' xmlns:c='U' b:d='' c:d=''/>",
		"<a xmlns:b='u'><b:c xmlns:b='v'><b:d/></b:c><b:e/></a>",
		"<a xmlns='&#117;&amp;\"'/>", "<a xmlns:b='  '/>",
	} {
		ev, err := scan(t, Document, Limits{}, in)
		if err != nil || len(ev) != 1 || ev[0].raw != in {
			t.Errorf("%q: %v %v", in, ev, err)
		}
		if _, err := scan(t, Stream, Limits{}, header+in); err != nil {
			t.Errorf("in a stream: %q: %v", in, err)
		}
	}
	for _, in := range []string{
		"<?xml version='1.0'?><s/>", "<?xml version=\"1.0\" encoding='utf-8'?>\n<s/>", "<?xml\tversion = '1.0' ?><s/>",
		"<?xml version='1.0' encoding='UTF-8' standalone='yes'?><s/>", "<?xml version='1.0' standalone='no'?> <s></s>",
		"\n<s/>", "<s></s>\n",
	} {
		ev, err := scan(t, Stream, Limits{}, in)
		if err != nil || len(ev) != 2 || ev[0].kind != KindHeader || ev[1].kind != KindTrailer {
			t.Errorf("%q: %v %v", in, ev, err)
		}
		if ev, err := scan(t, Document, Limits{}, in); err != nil || len(ev) != 1 {
			t.Errorf("document %q: %v %v", in, ev, err)
		}
	}
}
