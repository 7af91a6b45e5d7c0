package commands_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/commands"
	"trivium/core/mod/disco"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/stanza"
)

type contacts struct{}

func (contacts) Subscribed(context.Context, jid.JID, jid.JID) (bool, error) { return false, nil }

type service struct {
	Name  string     `json:"service"`
	Level int        `json:"run_level"`
	On    bool       `json:"on"`
	Since *time.Time `json:"since,omitempty"`
	Ports []string   `json:"ports"`
	none  int
}

var since = time.Date(2002, 9, 23, 21, 36, 16, 0, time.UTC)

// offer is what the tests' server can do: the examples of XEP-0050.
func offer(user jid.JID, operator bool) []commands.Command {
	services := []service{{"httpd", 3, true, &since, []string{"80", "443"}, 0}, {"jabberd", 5, false, nil, nil, 0}}
	list := []commands.Command{
		{Node: "list", Name: "List Services", Run: func(context.Context, map[string]string) (any, error) { return services, nil }},
		{Node: "none", Name: "List Nothing", Run: func(context.Context, map[string]string) (any, error) { return []service{}, nil }},
		{Node: "names", Name: "Names", Run: func(context.Context, map[string]string) (any, error) { return []string{"httpd", "jabberd"}, nil }},
		{Node: "show", Name: "Show", Run: func(context.Context, map[string]string) (any, error) { return &services[0], nil }},
		{Node: "who", Name: "Who", Run: func(context.Context, map[string]string) (any, error) { return user.String(), nil }},
		{Node: "broken", Name: "Broken", Run: func(context.Context, map[string]string) (any, error) { return nil, errors.New("a bug") }},
	}
	if !operator {
		return list
	}
	list = append(list, commands.Command{
		Node: "kick", Name: "End a Session",
		Args: []commands.Arg{{Name: "resource", Label: "Resource", Choices: func(context.Context, map[string]string) ([]commands.Choice, error) {
			return []commands.Choice{{"balcony", "balcony, Gajim"}}, nil
		}}},
		Run: func(_ context.Context, args map[string]string) (any, error) { return fmt.Sprintf("%q", args), nil },
	})
	return append(list, commands.Command{
		Node: "config", Name: "Configure Service",
		Args: []commands.Arg{
			{Name: "runlevel", Label: "Run Level", Required: true, Choices: func(_ context.Context, args map[string]string) ([]commands.Choice, error) {
				switch args["service"] {
				case "httpd":
					return []commands.Choice{{"3", "Full Multi-User"}, {"5", "X-Window"}}, nil
				case "jabberd":
					return nil, nil
				}
				return nil, &commands.Error{Text: "no such service"}
			}},
			{Name: "service", Label: "Service", Required: true},
			{Name: "owner", Label: "Owner", Address: true},
			{Name: "secret", Label: "Secret", Secret: true},
			{Name: "ports", Label: "Ports", Repeated: true},
		},
		Run: func(_ context.Context, args map[string]string) (any, error) {
			if args["secret"] != "sesame" {
				return nil, &commands.Error{Text: "not so"}
			}
			return fmt.Sprintf("%s at %s on %q for %s", args["service"], args["runlevel"], args["ports"], args["owner"]), nil
		},
	})
}

type world struct {
	*modtest.Server
	module *commands.Module
	juliet *modtest.Client // an ordinary user
	romeo  *modtest.Client // an operator
}

func start(t *testing.T, o commands.Options) *world {
	o.Admins, o.Commands = []jid.JID{jid.Must("romeo@example.org")}, offer
	m := commands.New(o)
	s := modtest.New(t, m, disco.New(contacts{}, disco.Options{Nodes: []disco.Nodes{m}}))
	return &world{s, m, s.Connect("juliet@example.org/balcony"), s.Connect("romeo@example.org/orchard")}
}

// ask sends <command/> with these attributes and payload.
func ask(c *modtest.Client, attrs, payload string) string {
	c.Send(`<iq type='set' to='example.org' id='1'><command xmlns='http://jabber.org/protocol/commands' ` + attrs + `>` + payload + `</command></iq>`)
	return c.Next()
}

func result(c *modtest.Client, attrs, payload string) string {
	return `<iq type='result' id='1' from='example.org' to='` + c.JID.String() + `'><command xmlns='http://jabber.org/protocol/commands' ` +
		attrs + ` sessionid='*' xml:lang='en'>` + payload + `</command></iq>`
}

func failure(c *modtest.Client, typ, condition, app string) string {
	if app != "" {
		app = `<` + app + ` xmlns='http://jabber.org/protocol/commands'/>`
	}
	return `<iq type='error' id='1' from='example.org' to='` + c.JID.String() + `'><error type='` + typ + `'>` +
		`<` + condition + ` xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>` + app + `</error></iq>`
}

func check(t *testing.T, want, got string) {
	t.Helper()
	if d := modtest.Diff(want, got); d != "" {
		t.Errorf("%s\n got %s\nwant %s", d, got, want)
	}
}

var sessionID = regexp.MustCompile(`sessionid='([^']+)'`)

func id(t *testing.T, answer string) string {
	t.Helper()
	m := sessionID.FindStringSubmatch(answer)
	if m == nil {
		t.Fatalf("no session in %s", answer)
	}
	return m[1]
}

// XEP-0050 §2.4.1.
func TestSimpleExecution(t *testing.T) {
	w := start(t, commands.Options{})
	for _, tt := range []struct{ node, want string }{
		{"list", `<x xmlns='jabber:x:data' type='result'><title>List Services</title>
			<reported><field var='service' label='service' type='text-single'/><field var='run_level' label='run level' type='text-single'/>
				<field var='on' label='on' type='boolean'/><field var='since' label='since' type='text-single'/><field var='ports' label='ports' type='text-single'/></reported>
			<item><field var='service'><value>httpd</value></field><field var='run_level'><value>3</value></field><field var='on'><value>1</value></field>
				<field var='since'><value>2002-09-23T21:36:16Z</value></field><field var='ports'><value>80, 443</value></field></item>
			<item><field var='service'><value>jabberd</value></field><field var='run_level'><value>5</value></field><field var='on'><value>0</value></field>
				<field var='since'><value/></field><field var='ports'><value/></field></item></x>`},
		{"none", `<note type='info'>There are none.</note>`},
		{"names", `<x xmlns='jabber:x:data' type='result'><title>Names</title><reported><field var='value' label='value' type='text-single'/></reported>
			<item><field var='value'><value>httpd</value></field></item><item><field var='value'><value>jabberd</value></field></item></x>`},
		{"show", `<x xmlns='jabber:x:data' type='result'><title>Show</title>
			<field var='service' label='service' type='text-single'><value>httpd</value></field><field var='run_level' label='run level' type='text-single'><value>3</value></field>
			<field var='on' label='on' type='boolean'><value>1</value></field><field var='since' label='since' type='text-single'><value>2002-09-23T21:36:16Z</value></field>
			<field var='ports' label='ports' type='text-multi'><value>80</value><value>443</value></field></x>`},
		{"who", `<note type='info'>juliet@example.org</note>`},
	} {
		for _, action := range []string{"", " action='execute'"} {
			got := ask(w.juliet, `node='`+tt.node+`'`+action, "")
			got = regexp.MustCompile(`(<item>.*?</item>)`).ReplaceAllStringFunc(got, untyped)
			check(t, result(w.juliet, `node='`+tt.node+`' status='completed'`, tt.want), got)
		}
	}
}

// untyped takes out what XEP-0004 §3.4 leaves open in the fields of an item.
func untyped(item string) string {
	return regexp.MustCompile(` (type|label)='[^']*'`).ReplaceAllString(item, "")
}

const first = `<actions execute='next'><next/></actions><x xmlns='jabber:x:data' type='form'><title>Configure Service</title>
	<field var='service' label='Service' type='text-single'><required/>%s</field>
	<field var='owner' label='Owner' type='jid-single'>%s</field>
	<field var='secret' label='Secret' type='text-private'/>
	<field var='ports' label='Ports' type='text-multi'>%s</field></x>`

const second = `<actions execute='complete'><prev/><complete/></actions><x xmlns='jabber:x:data' type='form'><title>Configure Service</title>
	<field var='runlevel' label='Run Level' type='list-single'><required/>
	<option label='Full Multi-User'><value>3</value></option><option label='X-Window'><value>5</value></option></field></x>`

func submit(pairs ...string) string {
	b := `<x xmlns='jabber:x:data' type='submit'>`
	for i := 0; i < len(pairs); i += 2 {
		b += `<field var='` + pairs[i] + `'>`
		for _, v := range strings.Split(pairs[i+1], "|") {
			b += `<value>` + v + `</value>`
		}
		b += `</field>`
	}
	return b + `</x>`
}

// XEP-0050 §2.4.2.
func TestStages(t *testing.T) {
	w := start(t, commands.Options{})
	const node = `node='config'`
	one := submit("service", "httpd", "secret", "sesame", "ports", "80|443", "owner", "Juliet@Example.org")
	executing := func(payload string) string { return result(w.romeo, node+` status='executing'`, payload) }

	got := ask(w.romeo, node, "")
	sid := ` sessionid='` + id(t, got) + `'`
	check(t, executing(fmt.Sprintf(first, "", "", "")), got)
	check(t, executing(second), ask(w.romeo, node+sid, one))
	remembered := executing(fmt.Sprintf(first, "<value>httpd</value>", "<value>juliet@example.org</value>", "<value>80</value><value>443</value>"))
	check(t, remembered, ask(w.romeo, node+sid+` action='prev'`, ""))
	check(t, executing(second), ask(w.romeo, node+sid+` action='next'`, one))
	for _, bad := range []string{"", submit(), submit("runlevel", "4"), submit("runlevel", "3|5"), `<x xmlns='jabber:x:data' type='result'/>`} {
		got := ask(w.romeo, node+sid, bad)
		if !strings.Contains(got, "<bad-payload ") || !strings.Contains(got, "<bad-request ") {
			t.Errorf("%s: %s", bad, got)
		}
	}
	check(t, result(w.romeo, node+` status='completed'`, `<note type='info'>httpd at 3 on "80\n443" for juliet@example.org</note>`),
		ask(w.romeo, node+sid+` action='complete'`, submit("runlevel", "3")))
	check(t, failure(w.romeo, "cancel", "not-allowed", "session-expired"), ask(w.romeo, node+sid, submit("runlevel", "3"))) // §3.3: it has ended
}

// What need not be chosen may be left out, one way or the other (XEP-0004 §3.6).
func TestOptionalChoice(t *testing.T) {
	w := start(t, commands.Options{})
	for _, tt := range []struct{ form, want string }{
		{submit("resource", "balcony"), `map["resource":"balcony"]`},
		{submit("resource", ""), `map[]`},
		{submit(), `map[]`},
	} {
		got := ask(w.romeo, `node='kick'`, "")
		check(t, result(w.romeo, `node='kick' status='executing'`, `<actions execute='complete'><complete/></actions><x xmlns='jabber:x:data' type='form'>
			<title>End a Session</title><field var='resource' label='Resource' type='list-single'><option label='balcony, Gajim'><value>balcony</value></option></field></x>`), got)
		check(t, result(w.romeo, `node='kick' status='completed'`, `<note type='info'>`+tt.want+`</note>`), ask(w.romeo, `node='kick' sessionid='`+id(t, got)+`'`, tt.form))
	}
}

// XEP-0050 §3.6: a failure is told by a note.
func TestFailures(t *testing.T) {
	w := start(t, commands.Options{})
	const node = `node='config'`
	for _, tt := range []struct{ form, want string }{
		{submit("service", "smtpd"), "no such service"},
		{submit("service", "jabberd"), "Run Level: there is nothing to choose from"},
	} {
		sid := ` sessionid='` + id(t, ask(w.romeo, node, "")) + `'`
		check(t, result(w.romeo, node+` status='completed'`, `<note type='error'>`+tt.want+`</note>`), ask(w.romeo, node+sid, tt.form))
		check(t, failure(w.romeo, "cancel", "not-allowed", "session-expired"), ask(w.romeo, node+sid, tt.form))
	}
	sid := ` sessionid='` + id(t, ask(w.romeo, node, "")) + `'`
	ask(w.romeo, node+sid, submit("service", "httpd"))
	check(t, result(w.romeo, node+` status='completed'`, `<note type='error'>not so</note>`), ask(w.romeo, node+sid, submit("runlevel", "3")))
}

// XEP-0050 §2.4.3.
func TestCancel(t *testing.T) {
	w := start(t, commands.Options{})
	sid := ` sessionid='` + id(t, ask(w.romeo, `node='config'`, "")) + `'`
	check(t, result(w.romeo, `node='config' status='canceled'`, ""), ask(w.romeo, `node='config'`+sid+` action='cancel'`, ""))
	check(t, failure(w.romeo, "cancel", "not-allowed", "session-expired"), ask(w.romeo, `node='config'`+sid, ""))
	// §3.5.1: a canceled form is taken for a submitted one.
	sid = ` sessionid='` + id(t, ask(w.romeo, `node='config'`, "")) + `'`
	got := ask(w.romeo, `node='config'`+sid, strings.Replace(submit("service", "httpd"), "'submit'", "'cancel'", 1))
	check(t, result(w.romeo, `node='config' status='executing'`, second), got)
}

// XEP-0050 §4.4.
func TestErrors(t *testing.T) {
	w := start(t, commands.Options{})
	sid := ` sessionid='` + id(t, ask(w.romeo, `node='config'`, "")) + `'`
	for _, tt := range []struct {
		name           string
		from           *modtest.Client
		attrs          string
		typ, cond, app string
	}{
		{"unknown action", w.romeo, `node='list' action='dance'`, "modify", "bad-request", "malformed-action"},
		{"unknown command", w.romeo, `node='dance'`, "cancel", "item-not-found", ""},
		{"no command", w.romeo, ``, "cancel", "item-not-found", ""},
		{"operators only", w.juliet, `node='config'`, "cancel", "forbidden", ""},
		{"unknown to all", w.juliet, `node='dance'`, "cancel", "item-not-found", ""},
		{"next before the beginning", w.romeo, `node='config' action='next'`, "modify", "bad-request", "bad-action"},
		{"cancel before the beginning", w.romeo, `node='config' action='cancel'`, "modify", "bad-request", "bad-action"},
		{"back from the first stage", w.romeo, `node='config' action='prev'` + sid, "modify", "bad-request", "bad-action"},
		{"complete before the last stage", w.romeo, `node='config' action='complete'` + sid, "modify", "bad-request", "bad-action"},
		{"another command's session", w.romeo, `node='list'` + sid, "modify", "bad-request", "bad-sessionid"},
		{"no such session", w.romeo, `node='config' sessionid='x'`, "modify", "bad-request", "bad-sessionid"},
		{"another's session", w.juliet, `node='list'` + sid, "modify", "bad-request", "bad-sessionid"},
	} {
		got := ask(tt.from, tt.attrs, "")
		got = regexp.MustCompile(`<text .*?</text>`).ReplaceAllString(got, "")
		if d := modtest.Diff(failure(tt.from, tt.typ, tt.cond, tt.app), got); d != "" {
			t.Errorf("%s: %s in %s", tt.name, d, got)
		}
	}
	// The operator's own other resource is another requester, §3.3.
	other := w.Connect("romeo@example.org/cell")
	check(t, failure(other, "modify", "bad-request", "bad-sessionid"), ask(other, `node='config'`+sid, ""))
	// And he still can go on.
	check(t, result(w.romeo, `node='config' status='executing'`, second), ask(w.romeo, `node='config'`+sid, submit("service", "httpd")))
}

// Nobody from elsewhere runs a command, nor learns of them.
func TestStrangers(t *testing.T) {
	w := start(t, commands.Options{})
	peer := w.Peer("example.edu")
	peer.Send(`<iq type='set' from='romeo@example.edu/x' to='example.org' id='1'><command xmlns='http://jabber.org/protocol/commands' node='list'/></iq>`)
	if got := peer.Next(); !strings.Contains(got, "<forbidden ") {
		t.Errorf("got %s", got)
	}
	peer.Send(`<iq type='get' from='romeo@example.edu/x' to='example.org' id='1'><query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/></iq>`)
	if got := peer.Next(); strings.Contains(got, "<item ") || !strings.Contains(got, "type='result'") {
		t.Errorf("got %s", got)
	}
}

// What waits for its user does not wait for ever, nor does it pile up.
func TestLifetime(t *testing.T) {
	w := start(t, commands.Options{PerAccount: 2, Lifetime: time.Minute})
	open := func(c *modtest.Client) string { return ` sessionid='` + id(t, ask(c, `node='config'`, "")) + `'` }
	goOn := func(c *modtest.Client, sid string) bool {
		got := ask(c, `node='config'`+sid, submit("service", "httpd"))
		if strings.Contains(got, "<session-expired ") {
			return false
		}
		check(t, result(c, `node='config' status='executing'`, second), got)
		return true
	}
	old := open(w.romeo)
	w.Advance(time.Second)
	middle := open(w.romeo)
	w.Advance(time.Second)
	recent := open(w.romeo)
	if goOn(w.romeo, old) || !goOn(w.romeo, middle) || !goOn(w.romeo, recent) {
		t.Error("not the oldest execution has made room")
	}
	w.Advance(59 * time.Second)
	if !goOn(w.romeo, open(w.romeo)) {
		t.Error("a new execution has expired")
	}
	w.Advance(2 * time.Minute)
	if goOn(w.romeo, recent) {
		t.Error("an execution lives for ever")
	}
	// A session that ends takes its executions along.
	again := open(w.romeo)
	w.romeo.Close()
	if goOn(w.Connect("romeo@example.org/orchard"), again) {
		t.Error("an execution has outlived its session")
	}
}

func TestTotal(t *testing.T) {
	w := start(t, commands.Options{Total: 3})
	var sids []string
	for range 5 {
		sids = append(sids, id(t, ask(w.romeo, `node='config'`, "")))
		w.Advance(time.Second)
	}
	for i, sid := range sids {
		got := ask(w.romeo, `node='config' sessionid='`+sid+`'`, submit("service", "httpd"))
		if expired := strings.Contains(got, "session-expired"); expired != (i < 2) {
			t.Errorf("execution %d: %s", i, got)
		}
	}
}

// XEP-0050 §2.1, §2.2.
func TestDisco(t *testing.T) {
	w := start(t, commands.Options{})
	query := func(c *modtest.Client, what, node string) string {
		c.Send(`<iq type='get' to='example.org' id='1'><query xmlns='http://jabber.org/protocol/disco#` + what + `' node='` + node + `'/></iq>`)
		return c.Next()
	}
	answer := func(c *modtest.Client, what, node, payload string) string {
		return `<iq type='result' id='1' from='example.org' to='` + c.JID.String() + `'><query xmlns='http://jabber.org/protocol/disco#` + what +
			`' node='` + node + `'>` + payload + `</query></iq>`
	}
	if features := w.Host.Disco().ServerFeatures; !strings.Contains(strings.Join(features, " "), commands.NS) {
		t.Errorf("features %v", features)
	}
	check(t, answer(w.juliet, "info", commands.NS, `<identity category='automation' type='command-list' name='Commands'/><feature var='http://jabber.org/protocol/commands'/>`),
		query(w.juliet, "info", commands.NS))
	items := ""
	for _, c := range offer(jid.JID{}, true) {
		if c.Node == "kick" {
			check(t, answer(w.juliet, "items", commands.NS, items), query(w.juliet, "items", commands.NS))
		}
		items += `<item jid='example.org' node='` + c.Node + `' name='` + c.Name + `'/>`
	}
	check(t, answer(w.romeo, "items", commands.NS, items), query(w.romeo, "items", commands.NS))
	check(t, answer(w.romeo, "info", "config", `<identity category='automation' type='command-node' name='Configure Service'/>
		<feature var='http://jabber.org/protocol/commands'/><feature var='jabber:x:data'/>`), query(w.romeo, "info", "config"))
	check(t, answer(w.romeo, "items", "config", ""), query(w.romeo, "items", "config"))
	check(t, failure(w.juliet, "cancel", "forbidden", ""), query(w.juliet, "info", "config"))
	for _, what := range []string{"info", "items"} {
		if got := query(w.romeo, what, "dance"); !strings.Contains(got, "<item-not-found ") {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// A bug is one of ours: it is no answer of the command.
func TestBug(t *testing.T) {
	w := start(t, commands.Options{})
	var turn module.Turn
	st := modtest.Parse(t, `<iq type='set' to='example.org' from='juliet@example.org/balcony' id='1'><command xmlns='http://jabber.org/protocol/commands' node='broken'/></iq>`)
	err := w.Host.Out(t.Context(), &module.Packet{Stanza: st, Session: w.juliet.Session, Turn: &turn})
	if err == nil {
		err = w.Router.Route(t.Context(), &module.Packet{Stanza: st, Session: w.juliet.Session, Turn: &turn})
	}
	var e *stanza.Error
	if err == nil || errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}
