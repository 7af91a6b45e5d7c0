package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trivium/bridges/kit"
	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	sms   = "sms.example.org"
	plus1 = "+1@sms.example.org"
	romeo = "romeo@example.org/orchard"
)

type world struct {
	*modtest.Server
	t   *testing.T
	log *event.Log
	reg *gateway.Registry
	end func()
}

func modules(more ...module.Module) []module.Module {
	contacts := roster.New(roster.Options{})
	here := presence.New(contacts, presence.Options{})
	contacts.ShowWith(here)
	return append([]module.Module{here, contacts}, more...)
}

func start(t *testing.T, o gateway.Options) *world {
	t.Helper()
	w := &world{Server: modtest.New(t, modules()...), t: t}
	w.serve(o)
	return w
}

// serve makes the registry a part of the server, and runs it.
func (w *world) serve(o gateway.Options) {
	w.t.Helper()
	var err error
	if w.log, err = event.NewLog(context.Background(), event.Options{Store: w.Store, Now: w.Now}); err != nil {
		w.t.Fatal(err)
	}
	o.Router, o.Store, o.Log, o.Now = w.Router, w.Store, w.log, w.Now
	if w.reg, err = gateway.New(context.Background(), o); err != nil {
		w.t.Fatal(err)
	}
	w.log.OnFollow(w.reg.Followers)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.reg.Run(ctx) })
	w.end = sync.OnceFunc(func() { cancel(); wg.Wait() })
	w.t.Cleanup(w.end)
}

func (w *world) restart(o gateway.Options) *world {
	w.t.Helper()
	w.end()
	n := &world{Server: w.Server.Restart(modules()...), t: w.t}
	n.serve(o)
	return n
}

// events returns what was logged behind a number.
func (w *world) events(after int64) (list []*event.Event) {
	w.t.Helper()
	if err := w.Store.Sync(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	list, _, err := w.log.Read(context.Background(), &event.Filter{}, after, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// next waits for an event behind a number.
func (w *world) next(after int64) *event.Event {
	w.t.Helper()
	r := w.log.Follow(&event.Filter{}, after)
	defer r.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := r.Next(ctx)
	if err != nil || len(list) == 0 {
		w.t.Fatalf("no event: %v", err)
	}
	return list[0]
}

func (w *world) put(d gateway.Define) gateway.Resource {
	w.t.Helper()
	res, _, err := w.reg.Put(context.Background(), d, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

var texting = gateway.Define{Domain: sms, Owner: "60f7e4686ae84f3d", Definition: kit.Definition{
	Type: "sms", Name: "Text messages",
	Registration: &kit.Form{Fields: []kit.Field{{Name: "phone", Required: true}, {Name: "password", Kind: kit.KindSecret}}},
}}

// Gateways are declared, changed and removed while the server runs, and survive it.
func TestRegistry(t *testing.T) {
	w := start(t, gateway.Options{Configured: []gateway.Define{{Domain: "bot.example.org"}}, MaxGateways: 1})
	ctx := context.Background()
	for name, tt := range map[string]struct {
		d       gateway.Define
		version string
		want    error
	}{
		"a virtual host": {d: gateway.Define{Domain: "example.org"}, want: gateway.ErrTaken},
		"of the file":    {d: gateway.Define{Domain: "Bot.example.org"}, want: gateway.ErrReadOnly},
		"to be replaced": {d: texting, version: "*", want: gateway.ErrVersion},
	} {
		if _, _, err := w.reg.Put(ctx, tt.d, tt.version); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for field, d := range map[string]gateway.Define{
		"domain":        {Domain: "a b"},
		"type":          {Domain: sms, Definition: kit.Definition{Type: "S M S"}},
		"give_up_after": {Domain: sms, GiveUpAfter: 1},
		"owner":         {Domain: sms, Owner: strings.Repeat("x", 256)},
	} {
		var e *kit.DefinitionError
		if _, _, err := w.reg.Put(ctx, d, ""); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	first := w.put(texting)
	if first.Source != gateway.Declared || first.Up || first.Client != "pc" || !w.Router.Serves(sms) {
		t.Errorf("%+v", first)
	}
	if _, _, err := w.reg.Put(ctx, gateway.Define{Domain: "irc.example.org"}, ""); !errors.Is(err, gateway.ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	if owner, ok := w.reg.Serves(sms); owner != texting.Owner || !ok {
		t.Error(owner, ok)
	}
	other := texting
	other.Name = "SMS"
	if _, _, err := w.reg.Put(ctx, other, "0000"); !errors.Is(err, gateway.ErrVersion) {
		t.Errorf("another version: %v", err)
	}
	second, created, err := w.reg.Put(ctx, other, first.Version)
	if err != nil || created || second.Version == first.Version || second.Name != "SMS" {
		t.Fatalf("%+v, %v, %v", second, created, err)
	}
	c := w.Connect(romeo)
	name := func(want string) {
		t.Helper()
		c.Send(`<iq type='get' to='sms.example.org' id='1'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>`)
		if got := c.Next(); !strings.Contains(got, "category='gateway' type='sms' name='"+want+"'") {
			t.Error(got)
		}
	}
	name("SMS")

	w = w.restart(gateway.Options{})
	c = w.Connect(romeo)
	name("SMS")
	list := w.reg.List()
	if len(list) != 1 || list[0].Version != second.Version {
		t.Fatalf("after a restart: %+v", list)
	}
	if err := w.reg.Remove(ctx, sms, first.Version); !errors.Is(err, gateway.ErrVersion) {
		t.Error(err)
	}
	if err := w.reg.Remove(ctx, sms, second.Version); err != nil || w.Router.Serves(sms) {
		t.Error(err)
	}
	if err := w.reg.Remove(ctx, sms, ""); !errors.Is(err, gateway.ErrNotFound) {
		t.Error(err)
	}
	w = w.restart(gateway.Options{Configured: []gateway.Define{texting}})
	if err := w.reg.Remove(ctx, sms, ""); !errors.Is(err, gateway.ErrReadOnly) {
		t.Error(err)
	}
}

// Who knew a gateway that is removed is told, and one of the same name knows nobody.
func TestRemoved(t *testing.T) {
	w := start(t, gateway.Options{})
	d := gateway.Define{Domain: sms, Definition: kit.Definition{Subscriptions: "accept", Presence: "assumed"}}
	w.put(d)
	w.reg.WebhookState(sms, true)
	c := w.Connect(romeo)
	c.Send(`<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>`)
	c.Send(`<presence/>`).Send(`<presence type='subscribe' to='+1@sms.example.org'/>`)
	seen := func(word string) {
		t.Helper()
		for got := ""; !strings.Contains(got, word); got = c.Next() {
		}
	}
	seen("<c ")
	if err := w.reg.Remove(context.Background(), sms, "*"); err != nil {
		t.Fatal(err)
	}
	seen("type='unavailable'")
	seen("type='unsubscribed'")
	w.Peer(sms).Take() // what the user's server has said to it when it was gone
	c.Send(`<iq type='get' id='d' to='sms.example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>`)
	w.Peer(sms).Expect(`<iq type='get' id='d' from='romeo@example.org/orchard' to='sms.example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>`)
	w.put(d)
	list, err := w.reg.Contacts(context.Background(), sms, jid.JID{}, jid.JID{}, jid.JID{}, jid.JID{}, 10)
	if err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// Everything that is sent to a gateway is an event.
func TestEvents(t *testing.T) {
	w := start(t, gateway.Options{})
	w.put(texting)
	w.reg.WebhookState(sms, true)
	c := w.Connect(romeo)
	after := w.log.Last()
	safe := make(chan error, 1)
	c.SendStanza(modtest.Parse(t, `<message to='+1@sms.example.org' type='chat' id='m1'><body>Hi</body></message>`), nil)
	rc := router.NewReceipt(func(err error) { safe <- err })
	c.SendStanza(modtest.Parse(t, `<message to='+1@sms.example.org' type='error'><body>Hi</body></message>`), rc)
	rc.Release(nil)
	if err := <-safe; err != nil {
		t.Fatal(err)
	}
	c.Send(`<presence to='sms.example.org'/>`)
	c.Send(`<presence type='subscribe' to='+1@sms.example.org'/>`)
	c.Send(`<iq type='get' to='+1@sms.example.org' id='q'><query xmlns='urn:x'/></iq>`)
	c.Send(`<iq type='set' to='sms.example.org' id='r'><query xmlns='jabber:iq:register'><phone>15551234</phone><password>secret</password></query></iq>`)
	for got := ""; !strings.Contains(got, "'r'"); got = c.Next() {
	}
	var got []string
	list := w.events(after)
	for _, e := range list {
		got = append(got, fmt.Sprintf("%s %s %s %s", e.Type, e.Host, e.From, e.To))
		if strings.Contains(string(e.Data), "secret\"") || strings.Contains(string(e.Stanza), "secret") {
			t.Errorf("a secret is in the log: %s%s", e.Data, e.Stanza)
		}
	}
	want := []string{
		"message sms.example.org romeo@example.org/orchard +1@sms.example.org",
		"message sms.example.org romeo@example.org/orchard +1@sms.example.org",
		"presence sms.example.org romeo@example.org/orchard sms.example.org",
		"subscription sms.example.org romeo@example.org +1@sms.example.org",
		"iq sms.example.org romeo@example.org/orchard +1@sms.example.org",
		"registration sms.example.org romeo@example.org sms.example.org",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	var data map[string]any
	if err := json.Unmarshal(list[len(list)-1].Data, &data); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%v %v %v", data["change"], data["fields"], data["secrets"]) != "registered map[phone:15551234] [password]" {
		t.Errorf("%v", data)
	}
	r, err := w.reg.Registration(context.Background(), sms, jid.Must("romeo@example.org"))
	if err != nil || r.Fields["password"] != "secret" {
		t.Errorf("%+v, %v", r, err)
	}
	all, err := w.reg.Registrations(context.Background(), sms, jid.JID{}, 10)
	if err != nil || len(all) != 1 || all[0].Fields["password"] != "" || all[0].Fields["phone"] != "15551234" {
		t.Errorf("%+v, %v", all, err)
	}
}

// A synchronous webhook answers requests and has its say on registrations.
func TestSync(t *testing.T) {
	var mu sync.Mutex
	var asked []*event.Event
	hook := func(_ context.Context, e *event.Event) ([]*stanza.Stanza, bool, error) {
		mu.Lock()
		asked = append(asked, e)
		mu.Unlock()
		if e.Type == event.Registration {
			if strings.Contains(string(e.Data), "wrong") {
				return nil, true, stanza.Err(stanza.NotAcceptable, "wrong PIN")
			}
			return nil, true, nil
		}
		st, err := stanza.ParseDocument(e.Stanza)
		if err != nil {
			return nil, true, err
		}
		switch st.ID {
		case "later":
			return nil, false, nil
		case "broken":
			return nil, true, errors.New("connection refused")
		}
		return []*stanza.Stanza{st.Result(stanza.El("urn:x", "query"))}, true, nil
	}
	w := start(t, gateway.Options{Sync: hook})
	w.put(texting)
	w.reg.WebhookState(sms, true)
	c := w.Connect(romeo)
	after := w.log.Last()
	c.Send(`<iq type='get' to='+1@sms.example.org' id='q'><query xmlns='urn:x'/></iq>`)
	c.Expect(`<iq type='result' id='q' from='+1@sms.example.org' to='romeo@example.org/orchard'><query xmlns='urn:x'/></iq>`)
	c.Send(`<iq type='get' to='+1@sms.example.org' id='broken'><query xmlns='urn:x'/></iq>`)
	if got := c.Next(); !strings.Contains(got, "<remote-server-timeout ") {
		t.Error(got)
	}
	c.Send(`<iq type='get' to='+1@sms.example.org' id='later'><query xmlns='urn:x'/></iq>`)
	if e := w.next(after); e.Type != event.IQ || !strings.Contains(string(e.Stanza), "'later'") {
		t.Errorf("%+v", e)
	}
	for _, tt := range []struct{ pin, want string }{{"wrong", "<not-acceptable "}, {"right", "type='result'"}} {
		c.Send(`<iq type='set' to='sms.example.org' id='` + tt.pin + `'><query xmlns='jabber:iq:register'><phone>1</phone><password>` + tt.pin + `</password></query></iq>`)
		if got := c.Next(); !strings.Contains(got, tt.want) || !strings.Contains(got, "'"+tt.pin+"'") {
			t.Error(tt.pin, got)
		}
	}
}

// Requests that nobody takes are refused at once.
func TestUnwanted(t *testing.T) {
	w := start(t, gateway.Options{Wants: func(_ string, typ event.Type) bool { return typ == event.Message }})
	w.put(texting)
	w.reg.WebhookState(sms, true)
	c := w.Connect(romeo)
	c.Send(`<iq type='get' to='+1@sms.example.org' id='q'><query xmlns='urn:x'/></iq>`)
	c.Expect(`<iq type='error' id='q' from='+1@sms.example.org' to='romeo@example.org/orchard'><error type='cancel'>
		<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>`)
}

// The loss of the program is told when it lasts.
func TestGrace(t *testing.T) {
	t.Run("over before", func(t *testing.T) { testGrace(t, time.Hour) })
	t.Run("it lasts", func(t *testing.T) { testGrace(t, time.Nanosecond) })
}

func testGrace(t *testing.T, grace time.Duration) {
	w := start(t, gateway.Options{Grace: grace})
	d := texting
	d.Registration = nil
	w.put(d)
	c := w.Connect(romeo)
	up := func() bool {
		res, err := w.reg.Get(sms)
		if err != nil {
			t.Fatal(err)
		}
		return res.Up
	}
	if up() {
		t.Error("up without anybody")
	}
	w.reg.Followers(sms, 1)
	if !up() {
		t.Error("down with a follower")
	}
	c.Send(`<presence to='sms.example.org'/>`)
	if got := c.Next(); !strings.HasPrefix(got, "<presence ") || strings.Contains(got, " type='") {
		t.Error(got)
	}
	w.reg.Followers(sms, 0)
	if grace == time.Hour {
		if !up() {
			t.Error("no grace")
		}
		w.reg.WebhookState(sms, true)
		w.reg.WebhookState(sms, false)
		if !up() {
			t.Error("no grace after the webhook")
		}
		w.reg.Followers(sms, 1)
		c.Quiet() // nobody hears of it
		return
	}
	c.Expect(`<presence type='unavailable' from='sms.example.org' to='romeo@example.org/orchard'/>`)
	if up() {
		t.Error("up")
	}
	w.reg.WebhookState(sms, true)
	if got := c.Next(); !strings.HasPrefix(got, "<presence ") || strings.Contains(got, " type='") {
		t.Error(got)
	}
	w.reg.WebhookState("nobody.example.org", true)
	w.reg.Followers("nobody.example.org", 1)
}

// Messages that nobody has taken go back, also after restarts, and whoever has come
// since; errors do not, nor does what a program has read or acknowledged.
func TestGiveUp(t *testing.T) {
	o := gateway.Options{Sweep: 5 * time.Millisecond, Grace: time.Millisecond}
	w := start(t, o)
	d := texting
	d.Registration, d.GiveUpAfter = nil, 3600
	w.put(d)
	c := w.Connect(romeo)
	say := func(id string) {
		c.Send(`<message to='+1@sms.example.org' id='` + id + `' type='chat'><body>Hi</body></message>`)
	}
	back := func(id string) string {
		return `<message type='error' id='` + id + `' from='+1@sms.example.org' to='romeo@example.org/orchard'><error type='wait'>
			<recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></message>`
	}
	say("m1")
	c.Send(`<message to='+1@sms.example.org' id='e1' type='error'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`)
	w.Advance(50 * time.Minute)
	say("m2")
	w.Advance(11 * time.Minute)
	c.Expect(back("m1"))
	w.Advance(50 * time.Minute)
	c.Expect(back("m2"))
	say("m3")
	w.Advance(61 * time.Minute)
	c.Expect(back("m3")) // by now it is written that m2 has gone back
	c.Quiet()

	w = w.restart(o)
	c = w.Connect(romeo)
	say("m4") // the program has been away all the time
	w.Advance(61 * time.Minute)
	got := c.Next()
	if modtest.Diff(back("m3"), got) == "" { // that may not have been written
		got = c.Next()
	}
	if diff := modtest.Diff(back("m4"), got); diff != "" {
		t.Fatal(diff, got)
	}
	if w.reg.GivenUp(sms) == 0 {
		t.Error("what was given up is not known")
	}
	// A program that only reads what comes from now on has not taken what was there.
	say("m5")
	w.stream(event.FromNow, func() { say("m6") }, "m6")
	w.Advance(61 * time.Minute)
	c.Expect(back("m5"))
	// One that begins where it was has.
	say("m7")
	w.stream(0, func() {}, "m7")
	say("m8")
	w.Advance(61 * time.Minute)
	c.Expect(back("m8"))
	// So has one that says so.
	say("m9")
	if err := w.Store.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := w.log.Ack(context.Background(), gateway.Consumer(sms), w.log.Last()); err != nil {
		t.Fatal(err)
	}
	say("m10")
	w.Advance(61 * time.Minute)
	c.Expect(back("m10"))
	// Nothing waits for a gateway that is not there any more.
	say("m11")
	if err := w.reg.Remove(context.Background(), sms, ""); err != nil {
		t.Fatal(err)
	}
	c.Expect(back("m11"))
	c.Quiet()
	if list := w.log.Waiting(); len(list) > 0 {
		t.Errorf("events of %v wait", list)
	}
}

// stream is a program that reads its gateway's events until it has seen the one that
// has an id, and then breaks off.
func (w *world) stream(after int64, meanwhile func(), until string) {
	w.t.Helper()
	if err := w.Store.Sync(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s := event.Stream{Log: w.log, Encoder: &event.Encoder{}}
		s.Serve(rw, r, event.Filter{Hosts: []string{sms}}, event.JSON, after)
	}))
	defer server.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	for !w.log.Follows(sms, event.Message) {
		time.Sleep(time.Millisecond)
	}
	meanwhile()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if strings.Contains(lines.Text(), `"`+until+`"`) {
			break
		}
	}
	res.Body.Close()
	server.CloseClientConnections()
	for w.log.Follows(sms, event.Message) {
		time.Sleep(time.Millisecond)
	}
}

// What REST says of contacts.
func TestContacts(t *testing.T) {
	w := start(t, gateway.Options{})
	d := texting
	d.Registration = nil
	w.put(d)
	w.reg.WebhookState(sms, true)
	ctx := context.Background()
	contact := jid.Must(plus1)
	err := w.reg.PutContact(ctx, contact, gateway.ContactSpec{
		User: "romeo@example.org", Name: "Juliet", Groups: []string{"Verona"},
		Avatar: &gateway.Avatar{Type: "image/png", Data: []byte{1, 2, 3}}, Capabilities: &kit.Capabilities{Edits: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.reg.PutContact(ctx, contact, gateway.ContactSpec{Name: "Jule"}); err != nil { // the rest stays
		t.Fatal(err)
	}
	if err := w.reg.SetPresence(ctx, modtest.Parse(t, `<presence from='+1@sms.example.org'><show>away</show></presence>`)); err != nil {
		t.Fatal(err)
	}
	p, err := w.reg.Profile(ctx, contact)
	if err != nil || p.Name != "+1" || !p.Own || !p.Capabilities.Edits || len(p.Presence) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	const vcard = `<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>AQID</BINVAL></PHOTO><FN>Jule</FN></vCard>`
	if diff := modtest.Diff(vcard, p.VCard); diff != "" {
		t.Error(diff, p.VCard)
	}
	list, err := w.reg.Contacts(ctx, sms, jid.Must("romeo@example.org"), jid.JID{}, jid.JID{}, jid.JID{}, 10)
	if err != nil || len(list) != 1 || list[0].Name != "Juliet" || !list[0].Listed || !list[0].Approved || list[0].Subscription != "none" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err = w.reg.Contacts(ctx, sms, jid.JID{}, jid.Must("+2@"+sms), jid.JID{}, jid.JID{}, 10); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	for _, user := range []string{"romeo@example.org", ""} {
		var j jid.JID
		if user != "" {
			j = jid.Must(user)
		}
		for _, want := range []bool{true, false} {
			if had, err := w.reg.RemoveContact(ctx, contact, j); err != nil || had != want {
				t.Errorf("%q: %v, %v", user, had, err)
			}
		}
	}
	elsewhere := jid.Must("a@elsewhere.example")
	if _, err := w.reg.Profile(ctx, elsewhere); !errors.Is(err, gateway.ErrNotFound) {
		t.Error(err)
	}
	var turn router.Turn
	if ok, err := w.reg.Send(ctx, &turn, stanza.New(stanza.Message, "", elsewhere, contact, ""), nil); ok || err != nil {
		t.Error(ok, err)
	}
}

// An account that is removed has left its gateways, and who gets its name next finds
// nothing.
func TestAccountRemoved(t *testing.T) {
	w := start(t, gateway.Options{})
	w.put(texting)
	m := modtest.NewWith(t, modtest.Options{}, w.reg)
	gw, err := w.reg.Gateway(sms)
	if err != nil {
		t.Fatal(err)
	}
	user := jid.Must("romeo@example.org")
	if err := gw.Enroll(context.Background(), user, map[string]string{"phone": "1"}); err != nil {
		t.Fatal(err)
	}
	after := w.log.Last()
	var turn router.Turn
	if err := m.Host.AccountLeaving(context.Background(), &turn, user); err != nil {
		t.Fatal(err)
	}
	if e := w.next(after); e.Type != event.Registration || !strings.Contains(string(e.Data), `"unregistered"`) {
		t.Errorf("%+v", e)
	}
	if _, err := w.reg.Registration(context.Background(), sms, user); !errors.Is(err, kit.ErrNotRegistered) {
		t.Error(err)
	}
}
