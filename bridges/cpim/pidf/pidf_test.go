package pidf

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"trivium/core/stanza"
)

const decl = `<?xml version="1.0" encoding="UTF-8"?>`

// example1 and example2 are those of RFC 3863 §4.3.1 and §4.3.2.
const (
	example1 = decl + `
   <presence xmlns="urn:ietf:params:xml:ns:pidf"
        xmlns:im="urn:ietf:params:xml:ns:pidf:im"
        xmlns:myex="http://id.example.com/presence/"
        entity="pres:someone@example.com">
     <tuple id="bs35r9">
       <status>
         <basic>open</basic>
         <im:im>busy</im:im>
         <myex:location>home</myex:location>
       </status>
       <contact priority="0.8">im:someone@mobilecarrier.net</contact>
       <note xml:lang="en">Don't Disturb Please!</note>
       <note xml:lang="fr">Ne derangez pas, s'il vous plait</note>
       <timestamp>2001-10-27T16:49:29Z</timestamp>
     </tuple>
     <tuple id="eg92n8">
       <status>
         <basic>open</basic>
       </status>
       <contact priority="1.0">mailto:someone@example.com</contact>
     </tuple>
     <note>I'll be in Tokyo next week</note>
   </presence>
`
	example2 = decl + `
   <impp:presence xmlns:impp="urn:ietf:params:xml:ns:pidf"
        xmlns:myex="http://id.example.com/presence/"
        entity="pres:someone@example.com">
     <impp:tuple id="ck38g9">
       <impp:status>
         <impp:basic>open</impp:basic>
       </impp:status>
       <myex:mytupletag>Extended value in tuple</myex:mytupletag>
       <impp:contact priority="0.65">tel:+09012345678</impp:contact>
     </impp:tuple>
     <impp:tuple id="md66je">
       <impp:status>
         <impp:basic>open</impp:basic>
       </impp:status>
       <impp:contact priority="1.0">
          im:someone@mobilecarrier.net</impp:contact>
     </impp:tuple>
     <myex:mytag>My extended presentity information</myex:mytag>
   </impp:presence>`
)

func TestExamples(t *testing.T) {
	const myex = "http://id.example.com/presence/"
	for _, tt := range []struct {
		in   string
		want *Presence
	}{
		{example1, &Presence{
			Entity: "pres:someone@example.com",
			Tuples: []Tuple{
				{
					ID: "bs35r9", Basic: Open, IM: "busy",
					Status:    []*stanza.Element{stanza.TextEl(myex, "location", "home")},
					Contact:   Contact{URI: "im:someone@mobilecarrier.net", Priority: 800, Ranked: true},
					Notes:     []Note{{"en", "Don't Disturb Please!"}, {"fr", "Ne derangez pas, s'il vous plait"}},
					Timestamp: time.Date(2001, 10, 27, 16, 49, 29, 0, time.UTC),
				},
				{ID: "eg92n8", Basic: Open, Contact: Contact{URI: "mailto:someone@example.com", Priority: 1000, Ranked: true}},
			},
			Notes: []Note{{"", "I'll be in Tokyo next week"}},
		}},
		{example2, &Presence{
			Entity: "pres:someone@example.com",
			Tuples: []Tuple{
				{
					ID: "ck38g9", Basic: Open,
					Extensions: []*stanza.Element{stanza.TextEl(myex, "mytupletag", "Extended value in tuple")},
					Contact:    Contact{URI: "tel:+09012345678", Priority: 650, Ranked: true},
				},
				{ID: "md66je", Basic: Open, Contact: Contact{URI: "im:someone@mobilecarrier.net", Priority: 1000, Ranked: true}},
			},
			Extensions: []*stanza.Element{stanza.TextEl(myex, "mytag", "My extended presentity information")},
		}},
	} {
		for _, strict := range []bool{true, false} {
			got, err := Parse(tt.in, Options{Strict: strict})
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v\ngot  %+v\nwant %+v", err, got, tt.want)
			}
		}
		roundTrip(t, tt.want)
	}
}

// roundTrip writes p and reads it strictly.
func roundTrip(t *testing.T, p *Presence) {
	t.Helper()
	b, err := p.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(string(b), Options{Strict: true, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if !reflect.DeepEqual(got, p) {
		t.Fatalf("%s\ngot  %+v\nwant %+v", b, got, p)
	}
}

func TestWritten(t *testing.T) {
	p := &Presence{
		Entity: "pres:a@x'y",
		Tuples: []Tuple{{
			ID: "ID-b", Basic: Open, Show: "dnd", IM: "busy",
			Status:    []*stanza.Element{stanza.TextEl(stanza.NSClient, "x", "<"), stanza.El("", "bare")},
			Contact:   Contact{URI: "im:a@x", Priority: 7, Ranked: true},
			Notes:     []Note{{"cs", "čaj & \x00"}},
			Timestamp: time.Date(2026, 3, 1, 13, 0, 0, 5e6, time.FixedZone("", 3600)),
		}},
	}
	b, err := p.AppendTo(nil)
	const want = `<?xml version='1.0' encoding='UTF-8'?><presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:a@x&apos;y'>` +
		`<tuple id='ID-b'><status><basic>open</basic><show xmlns='jabber:client'>dnd</show>` +
		`<im:im xmlns:im='urn:ietf:params:xml:ns:pidf:im'>busy</im:im><x xmlns='jabber:client'>&lt;</x><bare xmlns=''/></status>` +
		`<contact priority='0.007'>im:a@x</contact><note xml:lang='cs'>čaj &amp; �</note><timestamp>2026-03-01T12:00:00.005Z</timestamp></tuple></presence>`
	if err != nil || string(b) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, b, want)
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Presence){
		"entity":         func(p *Presence) { p.Entity = "" },
		"id":             func(p *Presence) { p.Tuples[0].ID = "4" },
		"colon":          func(p *Presence) { p.Tuples[0].ID = "a:b" },
		"id twice":       func(p *Presence) { p.Tuples = append(p.Tuples, p.Tuples[0]) },
		"empty status":   func(p *Presence) { p.Tuples[0].Basic = "" },
		"basic":          func(p *Presence) { p.Tuples[0].Basic = "ajar" },
		"priority":       func(p *Presence) { p.Tuples[0].Contact = Contact{"im:a@x", 1001, true} },
		"PIDF extension": func(p *Presence) { p.Extensions = []*stanza.Element{stanza.El(NS, "tuple")} },
		"year":           func(p *Presence) { p.Tuples[0].Timestamp = time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		p := &Presence{Entity: "pres:a@x", Tuples: []Tuple{{ID: "a", Basic: Open}}}
		spoil(p)
		var typed *Error
		if b, err := p.AppendTo(nil); !errors.As(err, &typed) {
			t.Errorf("%s: %v, wrote %s", name, err, b)
		}
	}
}

func TestSyntax(t *testing.T) {
	doc := func(inner string) string {
		return decl + `<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:a@x'>` + inner + `</presence>`
	}
	const open = `<status><basic>open</basic></status>`
	for _, tt := range []struct {
		name, in        string
		strict, lenient int // tuples, -1 for an error
	}{
		{"nothing", doc(``), 0, 0},
		{"one", doc(`<tuple id='a'>` + open + `</tuple>`), 1, 1},
		{"no declaration", strings.TrimPrefix(doc(``), decl), -1, 0},
		{"byte order mark", "\uFEFF" + doc(``), 0, 0},
		{"other encoding declared", strings.Replace(doc(`<note>é</note>`), "UTF-8", "ISO-8859-1", 1), 0, 0},
		{"Latin-1", doc("<note>\xe9</note>"), -1, -1},
		{"comment", doc(`<!-- x --><tuple id='a'><status><basic>op<!-- y -->en</basic></status></tuple>`) + "<!-- z -->", 1, 1},
		{"instruction", doc(`<?x y?><tuple id='a'>` + open + `</tuple>`), 1, 1},
		{"CDATA", doc(`<tuple id='a'><status><basic><![CDATA[open]]></basic></status></tuple>`), 1, 1},
		{"DTD", decl + `<!DOCTYPE presence [<!ENTITY a "b">]>` + strings.TrimPrefix(doc(``), decl), -1, -1},
		{"entity", doc(`<note>&nbsp;</note>`), -1, -1},
		{"two roots", doc(``) + strings.TrimPrefix(doc(``), decl), -1, -1},
		{"cut", doc(``)[:100], -1, -1},
		{"empty", ``, -1, -1},
		{"colon in the namespace", strings.Replace(doc(``), "pidf'", "pidf:'", 1), -1, -1},
		{"no namespace", decl + `<presence entity='pres:a@x'/>`, -1, -1},
		{"no entity", decl + `<presence xmlns='urn:ietf:params:xml:ns:pidf'/>`, -1, -1},
		{"no id", doc(`<tuple>` + open + `</tuple>`), -1, 0},
		{"number as id", doc(`<tuple id='42'>` + open + `</tuple>`), -1, 1},
		{"id twice", doc(strings.Repeat(`<tuple id='a'>`+open+`</tuple>`, 2)), -1, 1},
		{"no status", doc(`<tuple id='a'/>`), -1, 0},
		{"no basic", doc(`<tuple id='a'><status><where xmlns='urn:g'/></status></tuple>`), 1, 1},
		{"odd basic", doc(`<tuple id='a'><status><basic> Open </basic></status></tuple>`), -1, 1},
		{"unknown basic", doc(`<tuple id='a'><status><basic>ajar</basic></status></tuple>`), -1, 0},
		{"foreign basic", doc(`<tuple id='a'><status><basic xmlns='urn:x'>open</basic></status></tuple>`), 1, 1},
		{"order", doc(`<tuple id='a'><contact>im:a@x</contact>` + open + `</tuple>`), -1, 1},
		{"note before tuple", doc(`<note>n</note><tuple id='a'>` + open + `</tuple>`), -1, 1},
		{"two contacts", doc(`<tuple id='a'>` + open + `<contact>im:a@x</contact><contact>im:b@x</contact></tuple>`), -1, 1},
		{"timestamp", doc(`<tuple id='a'>` + open + `<timestamp>now</timestamp></tuple>`), -1, 1},
		{"priority", doc(`<tuple id='a'>` + open + `<contact priority='1.5'>im:a@x</contact></tuple>`), -1, 1},
		{"unknown PIDF", doc(`<tuple id='a'>` + open + `<what/></tuple><tuples><tuple id='b'>` + open + `</tuple></tuples>`), -1, 1},
		{"familiar inside unknown", doc(`<x xmlns='urn:x' xmlns:p='urn:ietf:params:xml:ns:pidf'><p:tuple id='a'><p:status><p:basic>open</p:basic></p:status></p:tuple></x>`), 0, 0},
		{"64 tuples", doc(strings.Repeat(`<tuple id='a'>`+open+`</tuple>`, 64)), -1, 1},
		{"too deep", doc(strings.Repeat(`<x xmlns='urn:x'>`, 16) + strings.Repeat(`</x>`, 16)), -1, -1},
		{"too long", doc(`<note>` + strings.Repeat("x", 1<<16) + `</note>`), -1, -1},
	} {
		for _, strict := range []bool{true, false} {
			want := tt.lenient
			if strict {
				want = tt.strict
			}
			p, err := Parse(tt.in, Options{Strict: strict})
			if (err != nil) != (want < 0) || err == nil && len(p.Tuples) != want {
				t.Errorf("%s, strict %v: %+v, %v, want %d tuples", tt.name, strict, p, err, want)
			}
			var typed *Error
			if err != nil && !errors.As(err, &typed) {
				t.Errorf("%s: error is a %T", tt.name, err)
			}
			if err != nil && errors.Is(err, ErrTooLarge) != strings.HasPrefix(tt.name, "too ") {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	}
	var many strings.Builder
	for i := range 65 {
		many.WriteString(`<tuple id='a` + strings.Repeat("x", i) + `'>` + open + `</tuple>`)
	}
	if _, err := Parse(doc(many.String()), Options{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("65 tuples: %v", err)
	}
}

func TestPriority(t *testing.T) {
	for _, tt := range []struct {
		in      string
		n       int
		strict  bool
		lenient bool
	}{
		{"0", 0, true, true},
		{"1", 1000, true, true},
		{"0.8", 800, true, true},
		{"0.007", 7, true, true},
		{"1.000", 1000, true, true},
		{"0.000", 0, true, true},
		{"0.9999", 999, false, true},
		{"0.", 0, false, true},
		{"1.0000", 1000, false, true},
		{"1.001", 0, false, false},
		{"1.5", 0, false, false},
		{"-0.2", 0, false, false},
		{"0x8", 0, false, false},
		{"0.8e1", 0, false, false},
		{".5", 0, false, false},
		{"2", 0, false, false},
		{"", 0, false, false},
	} {
		for _, strict := range []bool{true, false} {
			want := tt.lenient
			if strict {
				want = tt.strict
			}
			if n, ok := qvalue(tt.in, strict); ok != want || ok && n != tt.n {
				t.Errorf("%q, strict %v: %d, %v", tt.in, strict, n, ok)
			}
		}
	}
}

// TestMustUnderstand: RFC 3863 §4.2.3.
func TestMustUnderstand(t *testing.T) {
	parse := func(status string) *Tuple {
		t.Helper()
		p, err := Parse(decl+`<p:presence xmlns:p='urn:ietf:params:xml:ns:pidf' xmlns:r='`+NSRPID+`' xmlns:x='urn:x' entity='pres:a@x'><p:tuple id='a'><p:status><p:basic>open</p:basic>`+
			status+`</p:status></p:tuple></p:presence>`, Options{Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		return &p.Tuples[0]
	}
	for _, tt := range []struct{ status, show, activities string }{
		{`<show xmlns='jabber:client'>dnd</show>`, "dnd", ""},
		{`<show xmlns='jabber:client' p:mustUnderstand='1'>dnd</show>`, "dnd", ""}, // it is understood
		{`<show xmlns='jabber:client'>dnd<x:y/></show>`, "dnd", ""},
		{`<show xmlns='jabber:client'>dnd<x:y p:mustUnderstand='false'/></show>`, "dnd", ""},
		{`<show xmlns='jabber:client'>dnd<x:y p:mustUnderstand='1'/></show>`, "", ""},
		{`<show xmlns='jabber:client'>dnd<x:y><x:z p:mustUnderstand='true'/></x:y></show>`, "", ""},
		{`<show xmlns='jabber:client'>dnd<x:y mustUnderstand='true'/></show>`, "dnd", ""}, // not PIDF's attribute
		{`<show>dnd</show>`, "", ""}, // in no namespace
		{`<r:activities><r:away/><x:y/></r:activities>`, "", "away"},
		{`<r:activities><r:away/><x:y p:mustUnderstand='1'/></r:activities>`, "", ""},
	} {
		tuple := parse(tt.status)
		if got := strings.Join((&Presence{}).Activities(tuple), " "); tuple.Show != tt.show || got != tt.activities {
			t.Errorf("%s: show %q, activities %q", tt.status, tuple.Show, got)
		}
		if tuple.Show == "" && len(tuple.Status) != 1 {
			t.Errorf("%s: not kept", tt.status)
		}
	}
}

func TestActivitiesOfPerson(t *testing.T) {
	p, err := Parse(decl+`<presence xmlns='`+NS+`' xmlns:dm='`+NSDataModel+`' xmlns:r='`+NSRPID+`' entity='pres:a@x'>`+
		`<tuple id='a'><status><basic>open</basic></status></tuple><tuple id='b'><status><basic>open</basic></status><r:activities><r:busy/></r:activities></tuple>`+
		`<dm:person id='p'><r:activities><r:note>x</r:note><r:vacation/></r:activities></dm:person></presence>`, Options{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Activities(&p.Tuples[0]); !reflect.DeepEqual(got, []string{"note", "vacation"}) {
		t.Errorf("of the person: %v", got)
	}
	if got := p.Activities(&p.Tuples[1]); !reflect.DeepEqual(got, []string{"busy"}) {
		t.Errorf("of the tuple: %v", got)
	}
}

func TestNewest(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	p := &Presence{Tuples: []Tuple{{Timestamp: at}, {}, {Timestamp: at.Add(-time.Hour)}}}
	if got := p.Newest(); got != at {
		t.Errorf("got %v", got)
	}
}

// FuzzParse: what strict reading accepts, lenient reading reads alike, and it can
// be written and read again.
func FuzzParse(f *testing.F) {
	f.Add(example1)
	f.Add(example2)
	f.Add(decl + `<presence xmlns='` + NS + `' entity='&#x9;'><!-- - --><tuple id='é'><status><show xmlns='jabber:client'>x</show><x xmlns="urn:&#x20;" a='b' xmlns:q='u' q:c=''><y xmlns=''/></x></status><note xml:lang=''> </note></tuple></presence>`)
	f.Fuzz(func(t *testing.T, in string) {
		lenient, err := Parse(in, Options{})
		strict, strictErr := Parse(in, Options{Strict: true})
		if strictErr != nil {
			return
		}
		if err != nil || !reflect.DeepEqual(strict, lenient) {
			t.Fatalf("strict %+v\nlenient %+v, %v", strict, lenient, err)
		}
		b, err := strict.AppendTo(nil)
		if err != nil {
			t.Fatalf("%q cannot be written: %v", in, err)
		}
		again, err := Parse(string(b), Options{Strict: true, MaxBytes: 1 << 20})
		if err != nil {
			t.Fatalf("%q was written %q: %v", in, b, err)
		}
		c, err := again.AppendTo(nil)
		if err != nil || string(b) != string(c) {
			t.Fatalf("%q was written %q, then %q, %v", in, b, c, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(example1, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTo(b *testing.B) {
	p, err := Parse(example1, Options{})
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = p.AppendTo(buf[:0])
	}
}
