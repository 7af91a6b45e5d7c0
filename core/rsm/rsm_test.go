package rsm_test

import (
	"errors"
	"testing"

	"trivium/core/rsm"
	"trivium/core/stanza"
)

func set(inner string) string {
	return `<set xmlns='http://jabber.org/protocol/rsm'>` + inner + `</set>`
}

// The requests are those of XEP-0059 §2.
func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want rsm.Request
	}{
		{``, rsm.Request{}},
		{`<max>10</max>`, rsm.Request{Max: 10, HasMax: true}},
		{`<max> 10 </max>`, rsm.Request{Max: 10, HasMax: true}}, // xs:int collapses white space
		{`<max>10</max><after>peterpan@neverland.lit</after>`, rsm.Request{Max: 10, HasMax: true, After: "peterpan@neverland.lit"}},
		{`<max>10</max><before>peter@pixyland.org</before>`, rsm.Request{Max: 10, HasMax: true, Backwards: true, Before: "peter@pixyland.org"}},
		{`<max>10</max><before/>`, rsm.Request{Max: 10, HasMax: true, Backwards: true}},
		{`<max>10</max><index>371</index>`, rsm.Request{Max: 10, HasMax: true, Index: 371, HasIndex: true}},
		{`<max>0</max>`, rsm.Request{HasMax: true}},
		{`<after/>`, rsm.Request{}}, // the first page, as some clients ask for it
		{`<other xmlns='urn:x'>y</other>`, rsm.Request{}},
	} {
		el, err := stanza.ParseElement(set(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := rsm.Parse(el); err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
		if got, err := rsm.Find(stanza.El("urn:x", "query", el)); err != nil || got != tt.want {
			t.Errorf("%s in a query: %+v, %v", tt.in, got, err)
		}
	}
	if got, err := rsm.Find(stanza.El("urn:x", "query")); err != nil || got != (rsm.Request{}) {
		t.Errorf("without a set: %+v, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{
		`<max/>`, `<max>ten</max>`, `<max>-1</max>`, `<max>1.5</max>`, `<max>99999999999</max>`, `<index>-2</index>`,
		`<after>a</after><before>b</before>`, `<after>a</after><before/>`, `<index>1</index><after>a</after>`,
	} {
		el, err := stanza.ParseElement(set(in))
		if err != nil {
			t.Fatal(err)
		}
		var e *stanza.Error
		if _, err := rsm.Parse(el); !errors.As(err, &e) || e.Condition != stanza.BadRequest {
			t.Errorf("%s: %v", in, err)
		}
	}
	if _, err := rsm.Parse(stanza.El("urn:x", "set")); err == nil {
		t.Error("another <set/> was read")
	}
}

func TestLimit(t *testing.T) {
	for _, tt := range []struct {
		r    rsm.Request
		want int
	}{
		{rsm.Request{}, 50},
		{rsm.Request{HasMax: true}, 0},
		{rsm.Request{HasMax: true, Max: 10}, 10},
		{rsm.Request{HasMax: true, Max: 10000}, 250},
	} {
		if got := tt.r.Limit(50, 250); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.r, got, tt.want)
		}
	}
}

// XEP-0059 §2.2, §2.6, §2.7.
func TestPage(t *testing.T) {
	for _, tt := range []struct {
		p    rsm.Page
		want string
	}{
		{
			rsm.Page{First: "stpeter@jabber.org", Last: "peterpan@neverland.lit", HasIndex: true, Count: 800, HasCount: true},
			`<first index='0'>stpeter@jabber.org</first><last>peterpan@neverland.lit</last><count>800</count>`,
		},
		{rsm.Page{First: "a", Last: "b"}, `<first>a</first><last>b</last>`},
		{rsm.Page{Count: 790, HasCount: true}, `<count>790</count>`},
		{rsm.Page{First: "<", Last: "&"}, `<first>&lt;</first><last>&amp;</last>`},
	} {
		if got := string(tt.p.AppendXML(nil)); got != set(tt.want) {
			t.Errorf("got %s, want %s", got, set(tt.want))
		}
	}
	if got := string(rsm.Page{}.AppendXML(nil)); got != `<set xmlns='http://jabber.org/protocol/rsm'/>` {
		t.Error(got)
	}
}

// What is read is in range and names one place at most.
func FuzzParse(f *testing.F) {
	f.Add(set(`<max>10</max><after>a</after>`))
	f.Add(set(`<index>371</index>`))
	f.Add(set(`<before/>`))
	f.Fuzz(func(t *testing.T, in string) {
		el, err := stanza.ParseElement(in)
		if err != nil {
			t.Skip()
		}
		r, err := rsm.Parse(el)
		if err != nil {
			if r != (rsm.Request{}) {
				t.Errorf("%+v with an error", r)
			}
			return
		}
		if r.Max < 0 || r.Index < 0 || r.Backwards && r.After != "" || r.Limit(50, 250) > 250 {
			t.Errorf("%+v", r)
		}
	})
}
