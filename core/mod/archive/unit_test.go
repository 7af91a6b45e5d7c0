package archive

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"trivium/core/jid"
	"trivium/core/stanza"
)

// Ids hold times and keep their order.
func TestIDs(t *testing.T) {
	day := time.Date(2010, 7, 10, 23, 8, 25, 123456000, time.UTC)
	id := idAt(day)
	if got := stamp(id); !got.Equal(day) {
		t.Errorf("%v became %v", day, got)
	}
	if got := stamp(id | 1<<randomBits - 1); !got.Equal(day) {
		t.Errorf("the random bits change the time: %v", got)
	}
	last := int64(-1)
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Unix(0, 1000), day, day.Add(time.Microsecond), time.Date(2111, 1, 1, 0, 0, 0, 0, time.UTC)} {
		id := idAt(at)
		if id < 0 || id < last {
			t.Errorf("%v: %d is below %d", at, id, last)
		}
		last = id
	}
	for _, at := range []time.Time{time.Date(2113, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.Unix(math.MaxInt64/2, 0)} {
		if id := idAt(at); id <= last {
			t.Errorf("%v: %d", at, id)
		}
	}
	for s, ok := range map[string]bool{
		"1": true, "3676554756299167198": true, "9223372036854775807": true,
		"": false, "0": false, "-1": false, "+1": false, "01": false, " 1": false, "9223372036854775808": false, "09af3-cc343-b409f": false,
	} {
		if id, got := parseID(s); got != ok || ok && text(id) != s {
			t.Errorf("%q: %d, %v", s, id, got)
		}
	}
}

// The hashes are in databases: they may not change.
func TestHashesStay(t *testing.T) {
	if p, n := peerOf(jid.Must("romeo@example.net/x")), nameOf("m1"); p != peerOf(jid.Must("romeo@example.net")) || p != 88870031736703 || n != 3327310322 {
		t.Errorf("romeo@example.net is %d, m1 is %d", p, n)
	}
}

// What a row says of its addresses is what the message said.
func FuzzAddresses(f *testing.F) {
	f.Add("romeo@example.net/orchard", "juliet@example.com", "romeo@example.net")
	f.Add("romeo@example.net/o'&<>\"", "juliet@example.com/b", "romeo@example.net/o'&<>\"")
	f.Add("romeo@example.network", "romeo@example.net", "romeo@example.net")
	f.Fuzz(func(t *testing.T, from, to, other string) {
		var j [3]jid.JID
		for i, s := range []string{from, to, other} {
			var err error
			if j[i], err = jid.Parse(s); err != nil {
				t.Skip()
			}
		}
		me := jid.Must("juliet@example.com")
		doc := stanza.New(stanza.Message, "chat", j[0], j[1], "x", stanza.TextEl(stanza.NSClient, "body", "y")).AppendDocument(nil)
		is := func(a jid.JID) bool { return a == j[2] || j[2].IsBare() && a.Bare() == j[2] }
		want := is(j[0]) || is(j[1])
		if j[2] == me {
			want = is(j[0]) && is(j[1])
		}
		w := newWith(j[2], me)
		if got := w.match(doc); got != want {
			t.Errorf("from %q to %q with %q: %v, want %v", j[0], j[1], j[2], got, want)
		}
	})
}

// Whatever is asked, the answer is a query within the limits or a stanza error.
func FuzzQuery(f *testing.F) {
	const form = `<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>`
	f.Add(`<query xmlns='urn:xmpp:mam:2' queryid='f27'/>`)
	f.Add(`<query xmlns='urn:xmpp:mam:2'>` + form + `<field var='start'><value>2010-06-07T00:00:00Z</value></field><field var='end'><value>2010-07-07T13:23:54Z</value></field></x></query>`)
	f.Add(`<query xmlns='urn:xmpp:mam:2'>` + form + `<field var='ids'><value>2</value><value>1</value></field><field var='with'><value>a@b</value></field></x><flip-page/></query>`)
	f.Add(`<query xmlns='urn:xmpp:mam:2'>` + form + `<field var='{urn:xmpp:fulltext:0}fulltext'><value>a "b c</value></field></x><set xmlns='http://jabber.org/protocol/rsm'><max>10</max><before/></set></query>`)
	m := New(Options{FullText: true})
	f.Fuzz(func(t *testing.T, in string) {
		el, err := stanza.ParseElement(in)
		if err != nil {
			t.Skip()
		}
		q, err := m.parse(el, jid.Must("juliet@example.com"))
		var e *stanza.Error
		switch {
		case errors.As(err, &e):
		case err != nil:
			t.Errorf("%v", err)
		case q.limit < 0 || q.limit > m.opt.PageMax || len(q.ids) > m.opt.PageMax || len(q.words) > maxWords || q.lo < -1 || !slices.IsSorted(q.ids):
			t.Errorf("%+v", q)
		}
	})
}

func TestSplit(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"But, soft! what light", "But soft what light"},
		{"e-mail a@b.c 3.14 it's", "e mail a b c 3 14 it s"},
		{"Çà et là", "Çà et là"},
		{"e\u0301te\u0301", "e\u0301te\u0301"}, // combining accents
		{"我们去 Rome", "我 们 去 Rome"},
		{"ひらカタ", "ひ ら カ タ"},
		{"👍 \u0301", ""},
		{strings.Repeat("x", 200), strings.Repeat("x", maxWordSize)},
		{strings.Repeat("é", 100), strings.Repeat("é", maxWordSize/2)},
		{"", ""},
	} {
		if got := strings.Join(split(tt.in), " "); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
	for _, tt := range []struct{ in, want string }{
		{`sun`, `"7xsun"*`},
		{`sun moon`, `"7xsun"* AND "7xmoon"*`},
		{`"the sun" mo`, `"7xthe 7xsun" AND "7xmo"*`},
		{`e-mail`, `"7xe 7xmail"*`},
		{`AND "OR" NOT* a:b (c`, `"7xAND"* AND "7xOR" AND "7xNOT"* AND "7xa 7xb"* AND "7xc"*`},
	} {
		words, err := searchWords(tt.in)
		if got := match(7, words); err != nil || got != tt.want {
			t.Errorf("%q: %s, want %s (%v)", tt.in, got, tt.want, err)
		}
	}
	if words, err := searchWords(`?! ""`); words == nil || len(words) != 0 || err != nil {
		t.Errorf("nothing to look for: %q, %v", words, err)
	}
	if _, err := searchWords(strings.Repeat("a ", 17)); err == nil {
		t.Error("17 words")
	}
}

// Words are within bounds and what they came from has them in this order.
func FuzzSplit(f *testing.F) {
	f.Add("But, soft! what light 我们")
	f.Add("a\u0301\u0301 \xff")
	f.Fuzz(func(t *testing.T, in string) {
		rest := in
		for _, w := range split(in) {
			i := strings.Index(rest, w)
			if w == "" || len(w) > maxWordSize || strings.ContainsAny(w, "\" *\n") || i < 0 || utf8.ValidString(in) && !utf8.ValidString(w) {
				t.Fatalf("%q in %q", w, in)
			}
			rest = rest[i+len(w):]
		}
	})
}
