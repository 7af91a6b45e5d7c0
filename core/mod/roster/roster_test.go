package roster_test

import (
	"fmt"
	"strings"
	"testing"

	"trivium/core/mod/modtest"
	"trivium/core/mod/presence"
	"trivium/core/mod/roster"
	"trivium/core/module"
)

func modules(o roster.Options) []module.Module {
	r := roster.New(o)
	p := presence.New(r, presence.Options{})
	r.ShowWith(p)
	return []module.Module{r, p}
}

func start(t testing.TB) *modtest.Server { return modtest.New(t, modules(roster.Options{})...) }

// interested connects a client that has asked for its roster, without presence.
func interested(s *modtest.Server, full string) *modtest.Client {
	c := s.Connect(full)
	c.Send(`<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>`)
	c.Next()
	return c
}

// online connects a client that is interested and available.
func online(s *modtest.Server, full string) *modtest.Client {
	c := interested(s, full)
	c.Send(`<presence/>`)
	c.Take()
	return c
}

func set(item string) string {
	return `<iq type='set' id='set'><query xmlns='jabber:iq:roster'>` + item + `</query></iq>`
}

func pushed(to, item string) string {
	return `<iq type='set' from='` + bare(to) + `' to='` + to + `'><query xmlns='jabber:iq:roster' ver='*'>` + item + `</query></iq>`
}

func bare(full string) string {
	b, _, _ := strings.Cut(full, "/")
	return b
}

func result(to string) string {
	return `<iq type='result' id='set' from='` + bare(to) + `' to='` + to + `'/>`
}

const (
	balcony = "juliet@example.com/balcony"
	chamber = "juliet@example.com/chamber"
	orchard = "romeo@example.net/orchard"
	foo     = "romeo@example.net/foo"
	bar     = "romeo@example.net/bar"
)

// RFC 6121 §2.1.4, §2.3.2, §2.4, §2.5.2.
func TestItems(t *testing.T) {
	s := start(t)
	juliet, idle := interested(s, balcony), s.Connect("juliet@example.com/idle")
	other := interested(s, chamber)

	juliet.Send(set(`<item jid='nurse@example.com' name='Nurse'><group>Servants</group></item>`))
	item := `<item jid='nurse@example.com' name='Nurse' subscription='none'><group>Servants</group></item>`
	juliet.Expect(pushed(balcony, item), result(balcony))
	other.Expect(pushed(chamber, item))
	idle.Quiet() // not an interested resource

	// §2.4.1: exactly as provided; §2.1.2.5: other values of subscription are ignored.
	juliet.Send(set(`<item jid='nurse@example.com' name='' subscription='both' ask='subscribe' approved='true'/>`))
	item = `<item jid='nurse@example.com' subscription='none'/>`
	juliet.Expect(pushed(balcony, item), result(balcony))
	other.Expect(pushed(chamber, item))

	idle.Send(`<iq type='get' id='g' to='juliet@example.com'><query xmlns='jabber:iq:roster'/></iq>`)
	idle.Expect(`<iq type='result' id='g' from='juliet@example.com' to='juliet@example.com/idle'><query xmlns='jabber:iq:roster' ver='*'>` + item + `</query></iq>`)

	juliet.Send(set(`<item jid='nurse@example.com' subscription='remove'/>`))
	item = `<item jid='nurse@example.com' subscription='remove'/>`
	juliet.Expect(pushed(balcony, item), result(balcony))
	other.Expect(pushed(chamber, item))

	juliet.Send(`<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>`)
	juliet.Expect(`<iq type='result' id='g' from='juliet@example.com' to='juliet@example.com/balcony'><query xmlns='jabber:iq:roster' ver='*'/></iq>`)
}

// RFC 6121 §2.3.3, §2.5.3.
func TestSetErrors(t *testing.T) {
	s := modtest.New(t, modules(roster.Options{Items: 2, Name: 8, Group: 8, Groups: 2})...)
	juliet := interested(s, balcony)
	for _, tt := range []struct{ query, want string }{
		{`<item jid='nurse@example.com'/><item jid='mother@example.com'/>`, "modify bad-request"},
		{``, "modify bad-request"},
		{`<item/>`, "modify bad-request"},
		{`<group>x</group>`, "modify bad-request"},
		{`<item jid='a@b@c'/>`, "modify jid-malformed"},
		{`<item jid='nurse@example.com/x'/>`, "modify bad-request"},
		{`<item jid='nurse@example.com'><group>Servants</group><group>Servants</group></item>`, "modify bad-request"},
		{`<item jid='nurse@example.com' name='very long'/>`, "modify not-acceptable"},
		{`<item jid='nurse@example.com'><group></group></item>`, "modify not-acceptable"},
		{`<item jid='nurse@example.com'><group>very long</group></item>`, "modify not-acceptable"},
		{`<item jid='nurse@example.com'><group>1</group><group>2</group><group>3</group></item>`, "modify not-acceptable"},
		{`<item jid='juliet@example.com'/>`, "cancel not-allowed"},
		{`<item jid='nobody@example.com' subscription='remove'/>`, "modify item-not-found"},
	} {
		juliet.Send(set(tt.query))
		expectError(t, juliet, tt.want)
	}
	juliet.Send(`<iq type='get' id='g'><query xmlns='jabber:iq:roster'><item jid='nurse@example.com'/></query></iq>`)
	expectError(t, juliet, "modify bad-request")

	// Somebody else's roster.
	juliet.Send(`<iq type='set' id='x' to='romeo@example.net'><query xmlns='jabber:iq:roster'><item jid='nurse@example.com'/></query></iq>`)
	expectError(t, juliet, "auth forbidden")
	juliet.Send(`<iq type='get' id='x' to='romeo@example.net'><query xmlns='jabber:iq:roster'/></iq>`)
	expectError(t, juliet, "auth forbidden")

	// The limit, which neither an update nor a place that has become free meets.
	juliet.Send(set(`<item jid='a@example.com'/>`)).Send(set(`<item jid='b@example.com'/>`))
	juliet.Take()
	juliet.Send(set(`<item jid='c@example.com'/>`))
	expectError(t, juliet, "cancel resource-constraint")
	juliet.Send(`<presence to='c@example.com' type='subscribe' id='x'/>`)
	expectError(t, juliet, "cancel resource-constraint")
	juliet.Send(set(`<item jid='b@example.com' name='B'/>`))
	juliet.Expect(pushed(balcony, `<item jid='b@example.com' name='B' subscription='none'/>`), result(balcony))
	juliet.Send(set(`<item jid='b@example.com' subscription='remove'/>`)).Send(set(`<item jid='c@example.com'/>`))
	juliet.Next()
	juliet.Next()
	juliet.Expect(pushed(balcony, `<item jid='c@example.com' subscription='none'/>`), result(balcony))
}

func expectError(t *testing.T, c *modtest.Client, want string) {
	t.Helper()
	got := c.Next()
	typ, condition, _ := strings.Cut(want, " ")
	if !strings.Contains(got, `type='error'`) || !strings.Contains(got, `<error type='`+typ+`'><`+condition+` xmlns`) {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func version(t *testing.T, xml string) string {
	t.Helper()
	_, rest, ok := strings.Cut(xml, "ver='")
	if !ok {
		t.Fatalf("no version in %s", xml)
	}
	v, _, _ := strings.Cut(rest, "'")
	return v
}

// RFC 6121 §2.6.
func TestVersioning(t *testing.T) {
	s := modtest.New(t, modules(roster.Options{Removals: 2})...)
	juliet := s.Connect(balcony)
	get := func(ver string) {
		juliet.Send(`<iq type='get' id='g'><query xmlns='jabber:iq:roster' ver='` + ver + `'/></iq>`)
	}
	const empty = `<iq type='result' id='g' from='juliet@example.com' to='juliet@example.com/balcony'/>`

	get("")
	v0 := version(t, juliet.Next())
	get(v0)
	juliet.Expect(empty) // §2.6.3: not modified
	juliet.Quiet()

	versions := []string{v0}
	add := func(item string) string {
		juliet.Send(set(item))
		v := version(t, juliet.Next())
		juliet.Next()
		for _, old := range versions {
			if v == old {
				t.Fatalf("version %s is not unique", v)
			}
		}
		versions = append(versions, v)
		return v
	}
	v1 := add(`<item jid='a@example.org'/>`)
	add(`<item jid='b@example.org'/>`)
	v3 := add(`<item jid='a@example.org' name='A'/>`)
	v4 := add(`<item jid='b@example.org' subscription='remove'/>`)

	// One push for each item that was modified since, with its own version, in order.
	get(v1)
	juliet.Expect(empty)
	if got := juliet.Next(); version(t, got) != v3 || !strings.Contains(got, "a@example.org") {
		t.Errorf("got %s", got)
	}
	if got := juliet.Next(); version(t, got) != v4 || !strings.Contains(got, "subscription='remove'") {
		t.Errorf("got %s", got)
	}
	juliet.Quiet()
	get(v4)
	juliet.Expect(empty)
	juliet.Quiet()

	// A version that the server does not know gives the whole roster.
	for _, unknown := range []string{"", "never-given", "zzzzzzzzzzz", "-1", v0} {
		get(unknown)
		got := juliet.Next()
		if version(t, got) != v4 || !strings.Contains(got, "jid='a@example.org'") || strings.Contains(got, "b@example.org") {
			t.Errorf("ver %q: %s", unknown, got)
		}
		juliet.Quiet()
	}

	// Removals are forgotten beyond the limit, and with them what came before.
	for i := range 3 {
		j := fmt.Sprintf("c%d@example.org", i)
		add(`<item jid='` + j + `'/>`)
		add(`<item jid='` + j + `' subscription='remove'/>`)
	}
	get(v1)
	if got := juliet.Next(); !strings.Contains(got, "<query") {
		t.Errorf("removals are lost, yet changes are told: %s", got)
	}
	juliet.Quiet()

	// Another server process on the same store tells the same.
	v := versions[len(versions)-1]
	juliet.Close()
	s = s.Restart(modules(roster.Options{})...)
	juliet = s.Connect(balcony)
	get(v)
	juliet.Expect(empty)
	juliet.Quiet()

	// An account that is made anew under the same name has none of these versions.
	juliet.Close()
	s.Remove("juliet@example.com")
	s = s.Restart(modules(roster.Options{})...)
	juliet = s.Connect(balcony)
	get(v)
	juliet.Expect(`<iq type='result' id='g' from='juliet@example.com' to='juliet@example.com/balcony'><query xmlns='jabber:iq:roster' ver='*'/></iq>`)
	add(`<item jid='d@example.org'/>`)
	get(v)
	if got := juliet.Next(); !strings.Contains(got, "<query") {
		t.Errorf("a version of a former account is known: %s", got)
	}
}

// RFC 6121 §3.1, between two local accounts, with two resources each.
func TestSubscribe(t *testing.T) {
	s := start(t)
	rFoo, rBar := online(s, foo), online(s, bar)
	rFoo.Take()
	jBalcony := online(s, balcony)
	jChamber := online(s, chamber)
	jBalcony.Take()

	// §3.1.2, §3.1.3
	rFoo.Send(`<presence id='xk3h1v69' to='juliet@example.com/balcony' type='subscribe'><status>it is I</status></presence>`)
	asked := `<item ask='subscribe' jid='juliet@example.com' subscription='none'/>`
	rFoo.Expect(pushed(foo, asked))
	rBar.Expect(pushed(bar, asked))
	request := `<presence from='romeo@example.net' id='xk3h1v69' to='juliet@example.com' type='subscribe'><status>it is I</status></presence>`
	jBalcony.Expect(request)
	jChamber.Expect(request)
	// The request makes no item (§3.1.3, Security Warning).
	jBalcony.Send(`<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>`)
	jBalcony.Expect(`<iq type='result' id='g' from='juliet@example.com' to='juliet@example.com/balcony'><query xmlns='jabber:iq:roster' ver='*'/></iq>`)

	// §3.1.5, §3.1.6
	jBalcony.Send(`<presence id='h4v1c4kj' to='romeo@example.net' type='subscribed'/>`)
	granted := `<item jid='romeo@example.net' subscription='from'/>`
	jBalcony.Expect(pushed(balcony, granted))
	jChamber.Expect(pushed(chamber, granted))
	for _, r := range []*modtest.Client{rFoo, rBar} {
		r.Expect(
			`<presence from='juliet@example.com' id='h4v1c4kj' to='romeo@example.net' type='subscribed'/>`,
			pushed(r.JID.String(), `<item jid='juliet@example.com' subscription='to'/>`),
			`<presence from='juliet@example.com/balcony' to='romeo@example.net'/>`,
			`<presence from='juliet@example.com/chamber' to='romeo@example.net'/>`)
	}

	// The other direction: both.
	jBalcony.Send(`<presence id='a' to='romeo@example.net' type='subscribe'/>`)
	jBalcony.Expect(pushed(balcony, `<item ask='subscribe' jid='romeo@example.net' subscription='from'/>`))
	rBar.Expect(`<presence from='juliet@example.com' id='a' to='romeo@example.net' type='subscribe'/>`)
	rBar.Send(`<presence id='b' to='juliet@example.com' type='subscribed'/>`)
	rBar.Expect(pushed(bar, `<item jid='juliet@example.com' subscription='both'/>`))
	jBalcony.Expect(
		`<presence from='romeo@example.net' id='b' to='juliet@example.com' type='subscribed'/>`,
		pushed(balcony, `<item jid='romeo@example.net' subscription='both'/>`),
		`<presence from='romeo@example.net/foo' to='juliet@example.com'/>`,
		`<presence from='romeo@example.net/bar' to='juliet@example.com'/>`)
	rFoo.Take()
	jChamber.Take()

	// §3.1.3 rule 2: asking again is answered at once.
	rFoo.Send(`<presence id='again' to='juliet@example.com' type='subscribe'/>`)
	jBalcony.Quiet()

	// §3.3: unsubscribing.
	rFoo.Send(`<presence id='ul4bs71n' to='juliet@example.com' type='unsubscribe'/>`)
	rFoo.Take()
	jBalcony.Expect(
		`<presence from='romeo@example.net' id='ul4bs71n' to='juliet@example.com' type='unsubscribe'/>`,
		pushed(balcony, `<item jid='romeo@example.net' subscription='to'/>`))
	jBalcony.Quiet()

	// §3.2: cancelling.
	rFoo.Take()
	rBar.Take()
	jChamber.Take()
	rFoo.Send(`<presence id='ij5b1v7g' to='juliet@example.com' type='unsubscribed'/>`)
	rFoo.Expect(pushed(foo, `<item jid='juliet@example.com' subscription='none'/>`))
	jBalcony.Expect(
		`<presence from='romeo@example.net/foo' to='juliet@example.com' type='unavailable'/>`,
		`<presence from='romeo@example.net/bar' to='juliet@example.com' type='unavailable'/>`,
		`<presence from='romeo@example.net' id='ij5b1v7g' to='juliet@example.com' type='unsubscribed'/>`,
		pushed(balcony, `<item jid='romeo@example.net' subscription='none'/>`))
	jBalcony.Quiet()
}

// RFC 6121 §3.3.3 step 3 and A.3.2: who unsubscribes is told of unavailability.
func TestUnsubscribeHides(t *testing.T) {
	s := start(t)
	juliet := online(s, balcony)
	peer := s.Peer("remote.example")
	peer.Send(`<presence from='romeo@remote.example' to='juliet@example.com' type='subscribe'/>`)
	juliet.Next()
	juliet.Send(`<presence to='romeo@remote.example' type='subscribed' id='x'/>`)
	juliet.Take()
	peer.Expect(`<presence from='juliet@example.com' to='romeo@remote.example' type='subscribed'/>`,
		`<presence from='juliet@example.com/balcony' to='romeo@remote.example'/>`)
	peer.Send(`<presence from='romeo@remote.example' to='juliet@example.com' type='unsubscribe' id='u'/>`)
	juliet.Expect(`<presence from='romeo@remote.example' to='juliet@example.com' type='unsubscribe' id='u'/>`,
		pushed(balcony, `<item jid='romeo@remote.example' subscription='none'/>`))
	peer.Expect(`<presence from='juliet@example.com/balcony' to='romeo@remote.example' type='unavailable'/>`,
		`<presence from='juliet@example.com' to='romeo@remote.example' type='unsubscribed' id='u'/>`)
	peer.Quiet()
}

// RFC 6121 §3.1.3 rule 4: kept whole, delivered at each login, one per contact.
func TestRequestsWait(t *testing.T) {
	s := modtest.New(t, modules(roster.Options{Requests: 2, RequestBytes: 512})...)
	peer := s.Peer("remote.example")
	ask := func(from, id, payload string) {
		peer.Send(`<presence from='` + from + `' to='juliet@example.com' type='subscribe' id='` + id + `'>` + payload + `</presence>`)
	}
	ask("romeo@remote.example", "1", `<nick xmlns='http://jabber.org/protocol/nick'>Romeo</nick>`)
	ask("romeo@remote.example", "2", "")
	ask("paris@remote.example", "3", "<status>"+strings.Repeat("x", 1000)+"</status>")
	ask("tybalt@remote.example", "4", "") // beyond the limit
	peer.Quiet()

	first := `<presence from='romeo@remote.example' to='juliet@example.com' type='subscribe' id='1'><nick xmlns='http://jabber.org/protocol/nick'>Romeo</nick></presence>`
	second := `<presence from='paris@remote.example' to='juliet@example.com' type='subscribe' id='3'/>`
	for _, resource := range []string{balcony, chamber} {
		juliet := interested(s, resource)
		juliet.Send(`<presence/>`)
		juliet.Expect(`<presence from='`+resource+`' to='`+resource+`'/>`, second, first)
		juliet.Send(`<presence><show>away</show></presence>`)
		juliet.Expect(`<presence from='` + resource + `' to='` + resource + `'><show>away</show></presence>`)
		juliet.Quiet()
		juliet.Close()
	}
	s = s.Restart(modules(roster.Options{})...)
	peer = s.Peer("remote.example")

	// Denied and approved: gone.
	juliet := interested(s, balcony)
	juliet.Send(`<presence/>`)
	juliet.Take()
	juliet.Send(`<presence to='paris@remote.example' type='unsubscribed' id='no'/>`)
	peer.Expect(`<presence from='juliet@example.com' to='paris@remote.example' type='unsubscribed' id='no'/>`)
	juliet.Quiet() // a stranger stays a stranger
	juliet.Send(`<presence to='romeo@remote.example' type='subscribed' id='yes'/>`)
	juliet.Expect(pushed(balcony, `<item jid='romeo@remote.example' subscription='from'/>`))
	juliet.Send(`<presence type='unavailable'/>`).Take()
	juliet.Send(`<presence/>`)
	juliet.Expect(`<presence from='` + balcony + `' to='` + balcony + `'/>`)
	juliet.Quiet()

	// §3.3.3: withdrawn.
	ask2 := s.Peer("remote.example")
	ask2.Take()
	ask2.Send(`<presence from='tybalt@remote.example' to='juliet@example.com' type='subscribe'/>`)
	juliet.Next()
	ask2.Send(`<presence from='tybalt@remote.example' to='juliet@example.com' type='unsubscribe'/>`)
	juliet.Next()
	juliet.Send(`<presence to='tybalt@remote.example' type='subscribed' id='late'/>`)
	juliet.Expect(pushed(balcony, `<item approved='true' jid='tybalt@remote.example' subscription='none'/>`)) // a pre-approval now
}

// RFC 6121 §3.4.
func TestPreApproved(t *testing.T) {
	s := start(t)
	romeo, juliet := online(s, bar), online(s, balcony)
	romeo.Send(`<presence id='pg81vx64' to='juliet@example.com' type='subscribed'/>`)
	romeo.Expect(pushed(bar, `<item approved='true' jid='juliet@example.com' subscription='none'/>`))
	juliet.Quiet()
	// §3.2.2 rule 2, §3.4.2: cancelled in silence.
	romeo.Send(`<presence to='juliet@example.com' type='unsubscribed'/>`)
	romeo.Expect(pushed(bar, `<item jid='juliet@example.com' subscription='none'/>`))
	juliet.Quiet()

	romeo.Send(`<presence to='juliet@example.com' type='subscribed'/>`)
	romeo.Next()
	juliet.Send(`<presence id='ask' to='romeo@example.net' type='subscribe'/>`)
	juliet.Expect(
		pushed(balcony, `<item ask='subscribe' jid='romeo@example.net' subscription='none'/>`),
		`<presence from='romeo@example.net' to='juliet@example.com' id='ask' type='subscribed'/>`,
		pushed(balcony, `<item jid='romeo@example.net' subscription='to'/>`),
		`<presence from='romeo@example.net/bar' to='juliet@example.com'/>`)
	romeo.Expect(pushed(bar, `<item jid='juliet@example.com' subscription='from'/>`))
	romeo.Quiet() // the request is not delivered
}

// RFC 6121 §2.5.2.
func TestRemoveEndsSubscriptions(t *testing.T) {
	s := start(t)
	juliet := online(s, balcony)
	nurse := s.Peer("remote.example")
	juliet.Send(`<presence to='nurse@remote.example' type='subscribe' id='1'/>`)
	nurse.Send(`<presence from='nurse@remote.example' to='juliet@example.com' type='subscribed'/>`)
	nurse.Send(`<presence from='nurse@remote.example' to='juliet@example.com' type='subscribe'/>`)
	juliet.Send(`<presence to='nurse@remote.example' type='subscribed' id='2'/>`)
	juliet.Take()
	nurse.Take()
	juliet.Send(set(`<item jid='nurse@remote.example' subscription='remove'/>`))
	juliet.Expect(pushed(balcony, `<item jid='nurse@remote.example' subscription='remove'/>`), result(balcony))
	nurse.Expect(
		`<presence from='juliet@example.com' to='nurse@remote.example' type='unsubscribe'/>`,
		`<presence from='juliet@example.com/balcony' to='nurse@remote.example' type='unavailable'/>`,
		`<presence from='juliet@example.com' to='nurse@remote.example' type='unsubscribed'/>`)
	nurse.Quiet()
}

// RFC 6121 §3.1.2: a request to another server is repeated until it is answered.
func TestRequestIsRepeated(t *testing.T) {
	s := start(t)
	juliet := online(s, balcony)
	nurse := s.Peer("remote.example")
	juliet.Send(`<presence to='nurse@remote.example' type='subscribe' id='1'/>`)
	nurse.Expect(`<presence from='juliet@example.com' to='nurse@remote.example' type='subscribe' id='1'/>`)
	juliet.Close()
	juliet = online(s, balcony)
	nurse.Expect(`<presence from='juliet@example.com' to='nurse@remote.example' type='subscribe' id='*'/>`)
	nurse.Send(`<presence from='nurse@remote.example' to='juliet@example.com' type='subscribed'/>`)
	juliet.Close()
	online(s, balcony)
	nurse.ExpectSet(`<presence from='juliet@example.com' to='nurse@remote.example' type='probe'/>`)
	nurse.Quiet()
}

// RFC 6121 §3.1.2: what cannot be routed comes back as an error.
func TestUnreachable(t *testing.T) {
	s := start(t)
	juliet := online(s, balcony)
	juliet.Send(`<presence to='x@unreachable.example' type='subscribe' id='1'/>`)
	juliet.Next()
	expectError(t, juliet, "cancel remote-server-not-found")
}

// RFC 6121 §3.1.6: an approval that nobody asked for grants nothing.
func TestUnaskedApproval(t *testing.T) {
	s := start(t)
	juliet := online(s, balcony)
	s.Peer("remote.example").
		Send(`<presence from='eve@remote.example' to='juliet@example.com' type='subscribed'/>`).
		Send(`<presence from='eve@remote.example' to='juliet@example.com' type='unsubscribed'/>`).
		Send(`<presence from='eve@remote.example' to='juliet@example.com' type='unsubscribe'/>`)
	juliet.Quiet()
	s.Peer("remote.example").Quiet()
}

func TestRosterIsPurged(t *testing.T) {
	s := start(t)
	juliet := online(s, balcony)
	juliet.Send(set(`<item jid='nurse@example.com'/>`))
	juliet.Close()
	s.Remove("juliet@example.com")
	for _, table := range []string{"roster", "roster_contact"} {
		var n int
		if err := s.Store.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d rows, %v", table, n, err)
		}
	}
}

// Two thousand items of 64 groups of 1024 octets made an answer of 130 MB to
// every roster get.
func TestRosterHasBoundInOctets(t *testing.T) {
	s := modtest.New(t, modules(roster.Options{Items: 10, Bytes: 4000})...)
	juliet := s.Connect(balcony)
	item := func(i, size int) string {
		return fmt.Sprintf(`<item jid='c%d@example.com' name='%s'/>`, i, strings.Repeat("n", size))
	}
	full := `<iq type='error' id='set' from='juliet@example.com' to='juliet@example.com/balcony'><error type='cancel'>` +
		`<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></iq>`
	for _, step := range []struct {
		item, want string
	}{
		{item(1, 1000), result(balcony)},
		{item(2, 1000), result(balcony)},
		{item(3, 1000), result(balcony)},
		{item(4, 1000), result(balcony)},
		{item(5, 1000), full},
		{item(5, 401), full},            // more than its share
		{item(5, 400), result(balcony)}, // no more than its share
		{item(1, 601), full},
		{item(1, 600), result(balcony)},
		{item(1, 100), result(balcony)},
		{item(6, 500), result(balcony)},
		{`<item jid='c7@example.com'><group>` + strings.Repeat("g", 500) + `</group></item>`, full},
		{`<item jid='c2@example.com' subscription='remove'/>`, result(balcony)},
		{`<item jid='c7@example.com'><group>` + strings.Repeat("g", 500) + `</group></item>`, result(balcony)},
	} {
		juliet.Send(set(step.item))
		juliet.Expect(step.want)
	}
}
