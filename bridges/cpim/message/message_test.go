package message

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"trivium/bridges/cpim/entity"
)

const plain = "\r\nContent-Type: text/plain\r\n\r\nhi"

// example is composed of the examples in RFC 3862 §2 to §4.
const example = "Content-type: Message/CPIM\r\n\r\n" +
	"From: MR SANDERS <im:piglet@100akerwood.com>\r\n" +
	"To: Depressed Donkey <im:eeyore@100akerwood.com>\r\n" +
	"cc: <im:tigger@100akerwood.com>\r\n" +
	"DateTime: 2000-12-13T13:40:00-08:00\r\n" +
	"Subject: the weather will be fine today\r\n" +
	"Subject:;lang=fr beau temps prevu pour aujourd'hui\r\n" +
	"NS: MyFeatures <mid:MessageFeatures@id.foo.com>\r\n" +
	"Require: MyFeatures.VitalMessageOption\r\n" +
	"MyFeatures.VitalMessageOption: Confirmation-requested\r\n" +
	"MyFeatures.WackyMessageOption: Use-silly-font\r\n" +
	"\r\n" +
	"Content-type: text/xml; charset=utf-8\r\nContent-ID: <1234567890@foo.com>\r\n\r\n" +
	"<body>\r\nHere is the text of my message.\r\n</body>"

func TestExample(t *testing.T) {
	for _, strict := range []bool{true, false} {
		m, err := Parse(example, Options{Strict: strict})
		if err != nil {
			t.Fatal(err)
		}
		const features = "mid:MessageFeatures@id.foo.com"
		vital := Name{features, "VitalMessageOption", "MyFeatures"}
		want := &Message{
			From:     Address{"MR SANDERS", "im:piglet@100akerwood.com"},
			To:       []Address{{"Depressed Donkey", "im:eeyore@100akerwood.com"}},
			Cc:       []Address{{"", "im:tigger@100akerwood.com"}},
			DateTime: time.Date(2000, 12, 13, 21, 40, 0, 0, time.UTC),
			Subjects: []Subject{{"", "the weather will be fine today"}, {"fr", "beau temps prevu pour aujourd'hui"}},
			Headers: []Header{
				{Name: vital, Value: "Confirmation-requested"},
				{Name: Name{features, "WackyMessageOption", "MyFeatures"}, Value: "Use-silly-font"},
			},
			Require: []Name{vital},
		}
		same(t, m, want)
		if got := m.Content.Get("content-id"); got != "<1234567890@foo.com>" {
			t.Errorf("Content-ID %q", got)
		}
		if got := m.Content.Body; got != "<body>\r\nHere is the text of my message.\r\n</body>" {
			t.Errorf("body %q", got)
		}
		if h, ok := m.Header(features, "WackyMessageOption"); !ok || h.Text() != "Use-silly-font" {
			t.Errorf("Header: %v, %v", h, ok)
		}
	}
}

// same compares messages but for prefixes, which are spelling (RFC 3862 §3.4), and
// the content's source.
func same(t *testing.T, got, want *Message) {
	t.Helper()
	norm := func(m *Message) Message {
		n := Message{From: m.From, DateTime: m.DateTime}
		n.To, n.Cc = append(n.To, m.To...), append(n.Cc, m.Cc...)
		n.Subjects = append(n.Subjects, m.Subjects...)
		for _, h := range m.Headers {
			h.Prefix = ""
			h.Params = append([]Param(nil), h.Params...)
			n.Headers = append(n.Headers, h)
		}
		for _, r := range m.Require {
			r.Prefix = ""
			n.Require = append(n.Require, r)
		}
		return n
	}
	if g, w := norm(got), norm(want); !reflect.DeepEqual(g, w) {
		t.Errorf("got  %+v\nwant %+v", g, w)
	}
}

func TestSyntax(t *testing.T) {
	const fromTo = "From: <im:a@x>\r\nTo: <im:b@y>\r\n"
	for _, tt := range []struct {
		name, in        string
		strict, lenient bool // accepted
	}{
		{"least", fromTo + plain, true, true},
		{"bare LF", strings.ReplaceAll(fromTo+plain, "\r", ""), false, true},
		{"no separator", fromTo + plain[2:], false, true},
		{"lower case content header", fromTo + "content-type: text/plain\r\n\r\nhi", false, true},
		{"MIME-Version first", fromTo + "MIME-Version: 1.0" + plain, false, true},
		{"two spaces", "From:  <im:a@x>\r\nTo: <im:b@y>\r\n" + plain, false, true},
		{"no space", "From:<im:a@x>\r\nTo: <im:b@y>\r\n" + plain, false, true},
		{"space at the end", "From: <im:a@x> \r\nTo: <im:b@y>\r\n" + plain, false, true},
		{"folded", "From: <im:a@x>\r\n To: <im:b@y>\r\n" + plain, false, false},
		{"no To", "From: <im:a@x>\r\n" + plain, false, false},
		{"no From", "To: <im:a@x>\r\n" + plain, false, false},
		{"two From", "From: <im:a@x>\r\n" + fromTo + plain, false, false},
		{"from", "from: <im:a@x>\r\nTo: <im:b@y>\r\n" + plain, false, false},
		{"tab", fromTo + "X: a\tb\r\n" + plain, false, false},
		{"DEL", fromTo + "X: a\x7fb\r\n" + plain, false, false},
		{"CR inside", fromTo + "X: a\rb\r\n" + plain, false, false},
		{"NUL", fromTo + "X: \x00\r\n" + plain, false, false},
		{"Latin-1", fromTo + "X: caf\xe9\r\n" + plain, false, false},
		{"cut surrogate in UTF-8", fromTo + "X: \xed\xa0\x80\r\n" + plain, false, false},
		{"no brackets", "From: im:a@x\r\nTo: <im:b@y>\r\n" + plain, false, false},
		{"relative address", "From: <a@x>\r\nTo: <im:b@y>\r\n" + plain, false, false},
		{"String and bracket", "From: \"A\"<im:a@x>\r\nTo: <im:b@y>\r\n" + plain, true, true},
		{"String and space", "From: \"A\" <im:a@x>\r\nTo: <im:b@y>\r\n" + plain, false, true},
		{"String without end", "From: \"A <im:a@x>\r\nTo: <im:b@y>\r\n" + plain, false, false},
		{"comma in a name", "From: B, A <im:a@x>\r\nTo: <im:b@y>\r\n" + plain, false, true},
		{"name without space", "From: A<im:a@x>\r\nTo: <im:b@y>\r\n" + plain, false, true},
		{"raw non-ASCII in an address", "From: <im:é@x>\r\nTo: <im:b@y>\r\n" + plain, false, true},
		{"fragment", "From: <im:a@x#f>\r\nTo: <im:b@y>\r\n" + plain, false, true},
		{"gr outside", "From: <sip:a@x>;gr=1\r\nTo: <im:b@y>\r\n" + plain, false, true},
		{"CC", fromTo + "CC: nobody\r\n" + plain, true, false}, // unknown header or broken cc
		{"date", fromTo + "DateTime: yesterday\r\n" + plain, false, true},
		{"leap second", fromTo + "DateTime: 2016-12-31T23:59:60Z\r\n" + plain, true, true},
		{"lower case date", fromTo + "DateTime: 2016-12-31t23:59:59z\r\n" + plain, true, true},
		{"two dates", fromTo + strings.Repeat("DateTime: 2016-12-31T23:59:59Z\r\n", 2) + plain, false, true},
		{"lang", fromTo + "Subject:;lang=zh-Hant-TW x\r\n" + plain, true, true},
		{"bad lang", fromTo + "Subject:;lang=12345678901 x\r\n" + plain, false, true},
		{"parameters", fromTo + "X:;a=1;b=\"\\\"; \";lang=en x\r\n" + plain, true, true},
		{"parameter twice", fromTo + "X:;a=1;a=2 x\r\n" + plain, false, false},
		{"parameter without value", fromTo + "X:;a x\r\n" + plain, false, false},
		{"NS without space", fromTo + "NS: p<urn:x>\r\n" + plain, true, true},
		{"NS relative", fromTo + "NS: p <x>\r\n" + plain, false, false},
		{"two dots", fromTo + "a.b.c: x\r\n" + plain, false, false},
		{"no name", fromTo + ": x\r\n" + plain, false, false},
		{"no colon", fromTo + "hello\r\n" + plain, false, false},
		{"unknown prefix", fromTo + "p.x: 1\r\n" + plain, true, true},
		{"no content type", fromTo + "\r\nX: 1\r\n\r\nhi", false, false},
		{"no content", fromTo + "\r\n", false, false},
		{"no end", fromTo, false, false},
		{"outer text/cpim", "Content-Type: text/cpim\r\n\r\n" + fromTo + plain, false, true},
		{"outer text/plain", "Content-Type: text/plain\r\n\r\n" + fromTo + plain, false, false},
		{"outer extra", "MIME-Version: 1.0\r\ncontent-type: message/cpim\r\n\r\n" + fromTo + plain, true, true},
		{"empty", "", false, false},
		{"64 headers", fromTo + strings.Repeat("X: 1\r\n", 62) + plain, true, true},
		{"65 headers", fromTo + strings.Repeat("X: 1\r\n", 63) + plain, false, false},
		{"64 KiB", fromTo + "X: " + strings.Repeat("x", 1<<16) + "\r\n" + plain, false, false},
	} {
		for _, strict := range []bool{true, false} {
			_, err := Parse(tt.in, Options{Strict: strict})
			want := tt.lenient
			if strict {
				want = tt.strict
			}
			if (err == nil) != want {
				t.Errorf("%s, strict %v: %v, want accepted %v", tt.name, strict, err, want)
			}
			var typed *Error
			if err != nil && !errors.As(err, &typed) {
				t.Errorf("%s: error is a %T", tt.name, err)
			}
			if large := strings.HasPrefix(tt.name, "6"); err != nil && errors.Is(err, ErrTooLarge) != large {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	}
	if _, err := Parse("From: <im:a@x>\r\n"+plain, Options{NoRecipient: true}); err != nil {
		t.Errorf("recipient from elsewhere: %v", err)
	}
	if _, err := Parse(fromTo+plain, Options{MaxBytes: 20}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("MaxBytes: %v", err)
	}
}

// TestNamespaces follows RFC 3862 §3.4: the prefix does not matter, its binding does.
func TestNamespaces(t *testing.T) {
	const base = "From: <im:a@x>\r\nTo: <im:b@y>\r\n"
	want, err := Parse(base+"NS: acme <urn:widgets>\r\nacme.runner-trap: set\r\n"+plain, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{
		"NS: widget <urn:widgets>\r\nwidget.runner-trap: set\r\n",
		"NS: <urn:widgets>\r\nrunner-trap: set\r\n",
		"NS: widget <urn:other>\r\nNS: widget <urn:widgets>\r\nwidget.runner-trap: set\r\n",
		"acme.early: 1\r\nNS: acme <urn:widgets>\r\nacme.runner-trap: set\r\n", // not declared: ignored
	} {
		m, err := Parse(base+in+plain, Options{Strict: true})
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		same(t, m, want)
	}
	// The headers of the format by another name, and other headers by theirs.
	m, err := Parse("NS: c <"+NS+">\r\nc.From: <im:a@x>\r\nc.To: <im:b@y>\r\nNS: <urn:z>\r\nSubject: mine\r\nc.Subject: yours\r\n"+plain, Options{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	same(t, m, &Message{
		From: Address{URI: "im:a@x"}, To: []Address{{URI: "im:b@y"}},
		Subjects: []Subject{{Text: "yours"}},
		Headers:  []Header{{Name: Name{Space: "urn:z", Local: "Subject"}, Value: "mine"}},
	})
	roundTrip(t, m)
}

func TestEscapes(t *testing.T) {
	for _, tt := range []struct{ text, value string }{
		{`a\b`, `a\\b`},
		{"\b\t\n\r", `\b\t\n\r`},
		{"\x00\x07\x1f\x7f", `\u0000\u0007\u001f\u007f`},
		{`say "hi", it's Oběd ☃ 😀`, `say "hi", it's Oběd ☃ 😀`}, // nothing else is escaped
	} {
		if got := Escape(tt.text); got != tt.value {
			t.Errorf("Escape(%q) = %s, want %s", tt.text, got, tt.value)
		}
		if got := unescape(tt.value); got != tt.text {
			t.Errorf("unescape(%s) = %q, want %q", tt.value, got, tt.text)
		}
	}
	for _, tt := range []struct{ value, text string }{
		{`\"\'\q\(`, `"'q(`},
		{`\u0041\u00e9\u00E9`, "Aéé"},
		{`\ud83d\ude00`, "😀"},
		{`\ud83d\u0041`, "\uFFFDA"},
		{`\ude00\ud83d`, "\uFFFD\uFFFD"},
		{`\ud83dx`, "\uFFFDx"},
		{`\u12`, "u12"},
		{`\u12g4`, "u12g4"},
		{`end\`, "end"},
		{`\\u0041`, `\u0041`},
	} {
		if got := unescape(tt.value); got != tt.text {
			t.Errorf("unescape(%s) = %q, want %q", tt.value, got, tt.text)
		}
	}
}

// TestWriterRefuses: what the format cannot hold is not written.
func TestWriterRefuses(t *testing.T) {
	good := func() *Message {
		return &Message{
			From: Address{"A", "im:a@x"}, To: []Address{{"", "im:b@y"}},
			Content: *entity.New("text/plain", "hi"),
		}
	}
	if _, err := good().AppendTo(nil); err != nil {
		t.Fatal(err)
	}
	ext := Name{"urn:x", "n", "p"}
	for name, spoil := range map[string]func(*Message){
		"no From":           func(m *Message) { m.From = Address{} },
		"no To":             func(m *Message) { m.To = nil },
		"relative":          func(m *Message) { m.From.URI = "a@x" },
		"bracket":           func(m *Message) { m.From.URI = "im:a>@x" },
		"injection":         func(m *Message) { m.To[0].URI = "im:a\r\nX: y" },
		"space":             func(m *Message) { m.From.URI = "im:a b" },
		"name":              func(m *Message) { m.From.Name = "\xff" },
		"empty subject":     func(m *Message) { m.Subjects = []Subject{{}} },
		"subject with edge": func(m *Message) { m.Subjects = []Subject{{Text: "a "}} },
		"subject in Latin":  func(m *Message) { m.Subjects = []Subject{{Text: "\xe9"}} },
		"lang":              func(m *Message) { m.Subjects = []Subject{{Lang: "a b", Text: "x"}} },
		"year":              func(m *Message) { m.DateTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"header name":       func(m *Message) { m.Headers = []Header{{Name: Name{"urn:x", "a:b", ""}}} },
		"header value":      func(m *Message) { m.Headers = []Header{{Name: ext, Value: "a\r\nb"}} },
		"core header":       func(m *Message) { m.Headers = []Header{{Name: Name{NS, "From", ""}, Value: "<im:c@z>"}} },
		"content header":    func(m *Message) { m.Headers = []Header{{Name: Name{NS, "content-x", ""}, Value: "1"}} },
		"no namespace":      func(m *Message) { m.Headers = []Header{{Name: Name{"", "n", "p"}, Value: "1"}} },
		"bad namespace":     func(m *Message) { m.Headers = []Header{{Name: Name{"x", "n", "p"}, Value: "1"}} },
		"param":             func(m *Message) { m.Headers = []Header{{Name: ext, Params: []Param{{"", "1"}}}} },
		"require":           func(m *Message) { m.Require = []Name{{"", "n", ""}} },
		"no content type":   func(m *Message) { m.Content.Fields = nil },
		"content field":     func(m *Message) { m.Content.Add("X", "a\nb") },
	} {
		m := good()
		spoil(m)
		out, err := m.AppendTo(nil)
		var typed *Error
		if !errors.As(err, &typed) {
			t.Errorf("%s: error %v, wrote %q", name, err, out)
		}
	}
}

func TestPrefixesAreUnique(t *testing.T) {
	m := &Message{
		From: Address{"", "im:a@x"}, To: []Address{{"", "im:b@y"}},
		Headers: []Header{
			{Name: Name{"urn:1", "n", "p"}, Value: "1"},
			{Name: Name{"urn:2", "n", "p"}, Value: "2"},
			{Name: Name{"urn:3", "n", ""}, Value: "3"},
			{Name: Name{"urn:4", "n", "ns1"}, Value: "4", Params: []Param{{"lang", "en"}, {"x", `a "b"` + "\n"}}},
			{Name: Name{NS, "X", "whatever"}, Value: "5"},
		},
		Require: []Name{{"urn:5", "m", "p"}, {"urn:1", "m", "q"}, {NS, "X", ""}},
		Content: *entity.New("text/plain", "hi"),
	}
	roundTrip(t, m)
}

// roundTrip writes m and reads it strictly.
func roundTrip(t *testing.T, m *Message) {
	t.Helper()
	b, err := m.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(string(b), Options{Strict: true, MaxHeaders: 1000, MaxHeaderBytes: 1 << 20})
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	same(t, again, m)
	if again.Content.Body != m.Content.Body || !reflect.DeepEqual(append([]entity.Field{}, again.Content.Fields...), append([]entity.Field{}, m.Content.Fields...)) {
		t.Errorf("content %q, want %q", again.Content.Source(), m.Content.Source())
	}
}

// TestOuterEncoding: RFC 3862 §5.2, a transport of seven bits.
func TestOuterEncoding(t *testing.T) {
	in := "Content-Type: message/cpim\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		"RnJvbTogPGltOmFAeD4NClRvOiA8aW06YkB5Pg0KDQpDb250ZW50LVR5cGU6IHRleHQvcGxhaW4N\r\nCg0KaGk="
	m, err := Parse(in, Options{Strict: true})
	if err != nil || m.Content.Body != "hi" || m.From.URI != "im:a@x" {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestNested: RFC 3862 §2.1, a relay wraps what it wants to add to.
func TestNested(t *testing.T) {
	m, err := Parse("From: <im:relay@z>\r\nTo: <im:b@y>\r\n\r\n"+example, Options{Strict: true})
	if err != nil || m.Content.ContentType().Name != "message/cpim" {
		t.Fatalf("%+v, %v", m, err)
	}
	inner, err := Parse(m.Content.Source(), Options{Strict: true})
	if err != nil || inner.From.Name != "MR SANDERS" {
		t.Errorf("%+v, %v", inner, err)
	}
}
