package xdata_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"trivium/core/stanza"
	"trivium/core/xdata"
)

func parse(t testing.TB, xml string) *xdata.Form {
	t.Helper()
	el, err := stanza.ParseElement(xml)
	if err != nil {
		t.Fatal(err)
	}
	f, err := xdata.Parse(el)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// XEP-0004 §5.1, the form to be filled in.
const botForm = `<x xmlns='jabber:x:data' type='form'>
  <title>Bot Configuration</title>
  <instructions>Fill out this form to configure your new bot!</instructions>
  <field type='hidden' var='FORM_TYPE'><value>jabber:bot</value></field>
  <field type='fixed'><value>Section 1: Bot Info</value></field>
  <field type='text-single' label='The name of your bot' var='botname'/>
  <field type='text-multi' label='Helpful description of your bot' var='description'/>
  <field type='boolean' label='Public bot?' var='public'><required/></field>
  <field type='text-private' label='Password for special access' var='password'/>
  <field type='fixed'><value>Section 2: Features</value></field>
  <field type='list-multi' label='What features will the bot support?' var='features'>
    <option label='Contests'><value>contests</value></option>
    <option label='News'><value>news</value></option>
    <option label='Polls'><value>polls</value></option>
    <option label='Reminders'><value>reminders</value></option>
    <option label='Search'><value>search</value></option>
    <value>news</value>
    <value>search</value>
  </field>
  <field type='fixed'><value>Section 3: Subscriber List</value></field>
  <field type='list-single' label='Maximum number of subscribers' var='maxsubs'>
    <value>20</value>
    <option label='10'><value>10</value></option>
    <option label='20'><value>20</value></option>
    <option label='50'><value>50</value></option>
    <option label='None'><value>none</value></option>
  </field>
  <field type='fixed'><value>Section 4: Invitations</value></field>
  <field type='jid-multi' label='People to invite' var='invitelist'>
    <desc>Tell all your friends about your new bot!</desc>
  </field>
</x>`

// XEP-0004 §5.1, the form filled in.
const botSubmission = `<x xmlns='jabber:x:data' type='submit'>
  <field type='hidden' var='FORM_TYPE'><value>jabber:bot</value></field>
  <field type='text-single' var='botname'><value>The Jabber Google Bot</value></field>
  <field type='text-multi' var='description'>
    <value>This bot enables you to send requests to</value>
    <value>Google and receive the search results right</value>
    <value>in your Jabber client. It' really cool!</value>
    <value>It even supports Google News!</value>
  </field>
  <field type='boolean' var='public'><value>0</value></field>
  <field type='text-private' var='password'><value>v3r0na</value></field>
  <field type='list-multi' var='features'><value>news</value><value>search</value></field>
  <field type='list-single' var='maxsubs'><value>50</value></field>
  <field type='jid-multi' var='invitelist'>
    <value>juliet@capulet.com</value>
    <value>benvolio@montague.net</value>
  </field>
</x>`

func TestParse(t *testing.T) {
	f := parse(t, botForm)
	if f.Type != xdata.Ask || f.About() != "jabber:bot" || f.Title != "Bot Configuration" ||
		!slices.Equal(f.Instructions, []string{"Fill out this form to configure your new bot!"}) {
		t.Errorf("got %+v", f)
	}
	if len(f.Fields) != 12 {
		t.Errorf("%d fields, want 12", len(f.Fields))
	}
	want := xdata.Field{
		Var: "features", Type: xdata.ListMulti, Label: "What features will the bot support?", Values: []string{"news", "search"},
		Options: []xdata.Option{{"Contests", "contests"}, {"News", "news"}, {"Polls", "polls"}, {"Reminders", "reminders"}, {"Search", "search"}},
	}
	if d := cmp.Diff(want, *f.Field("features")); d != "" {
		t.Error(d)
	}
	if !f.Field("public").Required || f.Field("botname").Required {
		t.Error("required")
	}
	if f.Field("invitelist").Desc != "Tell all your friends about your new bot!" {
		t.Error("desc")
	}
	if f.Field("nothing") != nil || f.Value("nothing") != "" || f.Value("botname") != "" {
		t.Error("a field that is not there has a value")
	}
}

// XEP-0004 §5.2: a result with several items.
func TestParseItems(t *testing.T) {
	f := parse(t, `<x xmlns='jabber:x:data' type='result'>
  <title>Joogle Search: verona</title>
  <reported><field var='name'/><field var='url'/></reported>
  <item>
    <field var='name'><value>Comune di Verona - Benvenuti nel sito ufficiale</value></field>
    <field var='url'><value>http://www.comune.verona.it/</value></field>
  </item>
  <item>
    <field var='name'><value>benvenuto!</value></field>
    <field var='url'><value>http://www.hellasverona.it/</value></field>
  </item>
</x>`)
	if len(f.Reported) != 2 || len(f.Items) != 2 || f.Items[1][1].Value() != "http://www.hellasverona.it/" {
		t.Errorf("got %+v", f)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{
		`<x xmlns='jabber:x:data'/>`,
		`<x xmlns='jabber:x:data' type='error'/>`,
		`<x xmlns='urn:x' type='submit'/>`,
		`<y xmlns='jabber:x:data' type='submit'/>`,
		`<x xmlns='jabber:x:data' type='submit'><field><value>1</value></field></x>`,
		`<x xmlns='jabber:x:data' type='result'><item><field/></item></x>`,
	} {
		el, err := stanza.ParseElement(in)
		if err != nil {
			t.Fatal(err)
		}
		var e *stanza.Error
		if _, err := xdata.Parse(el); !errors.As(err, &e) || e.Condition != stanza.BadRequest {
			t.Errorf("%s: %v", in, err)
		}
	}
	if _, err := xdata.Parse(nil); err == nil {
		t.Error("nothing was read as a form")
	}
	if f, err := xdata.Find(stanza.El("urn:x", "query")); f != nil || err != nil {
		t.Errorf("found %v, %v", f, err)
	}
}

func TestWrite(t *testing.T) {
	for _, in := range []string{botForm, botSubmission} {
		f := parse(t, in)
		if d := cmp.Diff(f, parse(t, f.Element().String())); d != "" {
			t.Error(d)
		}
	}
	// XEP-0313 §4.1.5: the list of ids is open (XEP-0122).
	got := xdata.New(xdata.Ask, "urn:xmpp:mam:2", xdata.Field{Var: "ids", Type: xdata.ListMulti, Open: true}).Element().String()
	want := `<x xmlns='jabber:x:data' type='form'>` +
		`<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>` +
		`<field var='ids' type='list-multi'><validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:string'><open/></validate></field></x>`
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestAccept(t *testing.T) {
	got, err := parse(t, botForm).Accept(parse(t, botSubmission))
	if err != nil {
		t.Fatal(err)
	}
	want := parse(t, botSubmission)
	want.Fields[0].Type = xdata.Hidden
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if name, found := parse(t, botForm).Unknown(parse(t, botSubmission)); found {
		t.Errorf("the field %s is unknown", name)
	}
}

func TestAcceptFields(t *testing.T) {
	form := parse(t, botForm)
	const none = "-"
	for _, tt := range []struct {
		name, field string
		want        string // the values of what the field is read as, or the condition
		values      []string
		err         stanza.Condition
	}{
		{name: "boolean in words", field: `<field var='public'><value>true</value></field>`, want: "public", values: []string{"1"}},
		{name: "false in words", field: `<field var='public'><value>false</value></field>`, want: "public", values: []string{"0"}},
		{name: "no boolean", field: `<field var='public'><value>yes</value></field>`, err: stanza.NotAcceptable},
		{name: "required and empty", field: `<field var='public'><value/></field>`, err: stanza.NotAcceptable},
		{name: "required and without value", field: `<field var='public'/>`, err: stanza.NotAcceptable},
		{name: "required and left out", field: ``, err: stanza.NotAcceptable},
		{name: "twice", field: ok + ok, err: stanza.BadRequest},
		{name: "two values of one", field: ok + `<field var='botname'><value>a</value><value>b</value></field>`, err: stanza.NotAcceptable},
		{name: "no option", field: ok + `<field var='maxsubs'><value>11</value></field>`, err: stanza.NotAcceptable},
		{name: "no option of several", field: ok + `<field var='features'><value>news</value><value>sports</value></field>`, err: stanza.NotAcceptable},
		{name: "no address", field: ok + `<field var='invitelist'><value>@</value></field>`, err: stanza.NotAcceptable},
		{
			name: "one address twice", field: ok + `<field var='invitelist'><value>Juliet@Capulet.com</value><value>juliet@capulet.com</value></field>`,
			want: "invitelist", values: []string{"juliet@capulet.com"},
		},
		{name: "no address at all", field: ok + `<field var='invitelist'><value/></field>`, want: "invitelist"},
		{name: "another type", field: ok + `<field var='botname' type='jid-multi'><value>x y</value></field>`, want: "botname", values: []string{"x y"}},
		{name: "unknown", field: ok + `<field var='nothing'><value>x</value></field>`, want: none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := parse(t, `<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>jabber:bot</value></field>`+tt.field+`</x>`)
			got, err := form.Accept(in)
			var e *stanza.Error
			switch {
			case tt.err != "":
				if !errors.As(err, &e) || e.Condition != tt.err {
					t.Errorf("got %v, want %s", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case tt.want == none:
				if name, found := form.Unknown(in); !found || name != "nothing" || got.Field(name) != nil {
					t.Errorf("unknown: %q, %v", name, found)
				}
			case got.Field(tt.want) == nil || !slices.Equal(got.Field(tt.want).Values, tt.values):
				t.Errorf("got %v, want %q", got.Field(tt.want), tt.values)
			}
		})
	}
}

const ok = `<field var='public'><value>1</value></field>`

func TestAcceptForms(t *testing.T) {
	form := parse(t, botForm)
	for _, in := range []string{
		`<x xmlns='jabber:x:data' type='cancel'/>`,
		`<x xmlns='jabber:x:data' type='result'>` + ok + `</x>`,
		`<x xmlns='jabber:x:data' type='submit'>` + ok + `</x>`, // XEP-0068: says not what it is about
		`<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:x</value></field>` + ok + `</x>`,
	} {
		var e *stanza.Error
		if _, err := form.Accept(parse(t, in)); !errors.As(err, &e) || e.Condition != stanza.BadRequest {
			t.Errorf("%s: %v", in, err)
		}
	}
	if _, err := form.Accept(nil); err == nil {
		t.Error("nothing was accepted")
	}
	// A hidden field comes back as it was.
	hidden := xdata.New(xdata.Ask, "", xdata.Field{Var: "challenge", Type: xdata.Hidden, Values: []string{"x"}})
	if _, err := hidden.Accept(parse(t, `<x xmlns='jabber:x:data' type='submit'><field var='challenge'><value>y</value></field></x>`)); err == nil {
		t.Error("a hidden field was changed")
	}
}

// What is written is read as the same form, and what is accepted is accepted again.
func FuzzParse(f *testing.F) {
	f.Add(botForm)
	f.Add(botSubmission)
	f.Add(`<x xmlns='jabber:x:data' type='result'><reported><field var='n'/></reported><item><field var='n'><value>&lt;</value></field></item></x>`)
	form := parse(f, botForm)
	f.Fuzz(func(t *testing.T, in string) {
		el, err := stanza.ParseElement(in)
		if err != nil {
			t.Skip()
		}
		x, err := xdata.Parse(el)
		if err != nil {
			t.Skip()
		}
		if d := cmp.Diff(x, parse(t, x.Element().String())); d != "" {
			t.Error(d)
		}
		got, err := form.Accept(x)
		if err != nil {
			return
		}
		again, err := form.Accept(got)
		if d := cmp.Diff(got, again); err != nil || d != "" {
			t.Error(err, d)
		}
	})
}
