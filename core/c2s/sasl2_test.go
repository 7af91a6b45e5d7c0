package c2s

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/mod/clients"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/sasl"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/core/stream"
)

// bindable is a protected connection that has channel bindings.
type bindable struct{ protected }

func (bindable) ChannelBinding(typ string) ([]byte, error) { return []byte("data of " + typ), nil }

// extras is a module that Bind 2 can switch on, and that welcomes.
type extras struct {
	hooks
	welcome func(*router.Session)
}

func (x *extras) Register(h *module.Host) error {
	h.Inline("urn:xmpp:carbons:2", "urn:xmpp:carbons:2", func(_ context.Context, s *router.Session, _ *router.Turn, el *stanza.Element) (stanza.Payload, error) {
		if el.Local != "enable" {
			return nil, stanza.Err(stanza.BadRequest, "")
		}
		return nil, nil
	})
	h.Inline("urn:example:echo", "urn:example:echo", func(_ context.Context, s *router.Session, _ *router.Turn, el *stanza.Element) (stanza.Payload, error) {
		return el, nil
	})
	h.Welcome(func(_ context.Context, s *router.Session) stanza.Payload {
		if x.welcome != nil {
			x.welcome(s)
		}
		return stanza.El("urn:xmpp:mam:2", "metadata")
	})
	return x.hooks.Register(h)
}

// modern is a world with accounts in a store.
type modern struct {
	*world
	users   *auth.Service
	db      *store.DB
	extras  *extras
	clients *clients.Module
}

const password = "pencil"

// startModern has the account user, with the password pencil. Inside a bubble.
func startModern(t *testing.T, o Options, ao auth.Options) *modern {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, db, o, ao)
}

func startOn(t *testing.T, db *store.DB, o Options, ao auth.Options) *modern {
	t.Helper()
	ao.Iterations = sasl.MinIterations
	users, err := auth.New(db, ao)
	if err != nil {
		t.Fatal(err)
	}
	user := jid.Must("user@example.org")
	if ok, _ := users.Exists(t.Context(), user); !ok {
		if err := users.CreateAccount(t.Context(), user, password); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // a login begins after the password was set
	}
	x := &extras{hooks: hooks{bound: map[*router.Session]int{}, unbound: map[*router.Session]int{}}}
	m := &modern{world: &world{t: t, hooks: &x.hooks}, users: users, db: db, extras: x, clients: clients.New(users)}
	m.router = router.New(router.Options{})
	m.router.Serve("example.org", m.router.Local())
	host := module.NewHost(m.router, db, slog.New(slog.DiscardHandler), time.Now, []string{"example.org"}, users.Exists)
	if err := host.Build(x, m.clients); err != nil {
		t.Fatal(err)
	}
	o.Hosts = []VirtualHost{{Domain: jid.Must("example.org"), Backend: users.Host("example.org"), SASL: sasl.Options{Anonymous: true}}}
	m.Service = New(m.router, host, o)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	m.end = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		over, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		m.Shutdown(over)
		m.check()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// peer is a client that has the first features.
type peer struct {
	*client
	features string
}

// open connects a client whose header has from, unless that is empty.
func (m *modern) open(from string) *peer {
	m.t.Helper()
	ours, theirs := net.Pipe()
	c := &client{t: m.t, conn: theirs}
	sock := stream.NewSocket(addressed{ours, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))})
	m.Accept(bindable{protected{stream.NewTCP(sock, m.Before())}}, true, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.end++
	})
	go c.listen()
	h := header
	if from != "" {
		h = strings.Replace(h, " to=", " from='"+from+"' to=", 1)
	}
	c.send(h)
	return &peer{client: c, features: c.take()}
}

// listen gathers what the client is sent.
func (c *client) listen() {
	buf := make([]byte, 4096)
	for {
		n, err := c.conn.Read(buf)
		c.mu.Lock()
		c.got.Write(buf[:n])
		c.over = err != nil
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

const (
	device = "d4565fa7-4d72-4749-b3d3-740edbf87770" // XEP-0388, example 3
	agent  = "<user-agent id='" + device + "'><software>AwesomeXMPP</software><device>Kiva's Phone</device></user-agent>"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func authenticate(mechanism, initial, inline string) string {
	return "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='" + mechanism + "'><initial-response>" + b64(initial) + "</initial-response>" + inline + "</authenticate>"
}

// plain logs in by PLAIN, and returns what comes then.
func (c *peer) plain(inline string) string {
	c.t.Helper()
	c.send(authenticate("PLAIN", "\x00user\x00"+password, inline))
	return c.take()
}

// scram256 logs in by SCRAM-SHA-256, and returns what comes then.
func (c *peer) scram256(inline string) string {
	c.t.Helper()
	client, err := scram.SHA256.NewClient("user", password, "")
	if err != nil {
		c.t.Fatal(err)
	}
	conv := client.NewConversation()
	first, _ := conv.Step("")
	c.send(authenticate("SCRAM-SHA-256", first, inline))
	got := c.take()
	challenge, err := base64.StdEncoding.DecodeString(text(c.t, got, "challenge"))
	if err != nil {
		c.t.Fatal(err)
	}
	final, err := conv.Step(string(challenge))
	if err != nil {
		c.t.Fatal(err)
	}
	c.send("<response xmlns='urn:xmpp:sasl:2'>" + b64(final) + "</response>")
	got = c.take()
	if strings.Contains(got, "<additional-data>") {
		signature, _ := base64.StdEncoding.DecodeString(text(c.t, got, "additional-data"))
		if _, err := conv.Step(string(signature)); err != nil || !conv.Valid() {
			c.t.Fatalf("the server's signature: %v", err)
		}
	}
	return got
}

// text returns the text of the first element with that local name in XML.
func text(t *testing.T, in, local string) string {
	t.Helper()
	_, s, ok := find(in, local)
	if !ok {
		t.Fatalf("no <%s/> in %s", local, in)
	}
	return s
}

// attribute returns an attribute of the first element with that local name.
func attribute(t *testing.T, in, local, name string) string {
	t.Helper()
	start, _, ok := find(in, local)
	if !ok {
		t.Fatalf("no <%s/> in %s", local, in)
	}
	for _, a := range start.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func find(in, local string) (xml.StartElement, string, bool) {
	d := xml.NewDecoder(strings.NewReader(in))
	d.Strict = false
	for {
		tok, err := d.Token()
		if err != nil {
			return xml.StartElement{}, "", false
		}
		if start, ok := tok.(xml.StartElement); ok && start.Name.Local == local {
			start = start.Copy()
			next, _ := d.Token()
			data, _ := next.(xml.CharData)
			return start, string(data), true
		}
	}
}

const (
	failed2 = "<failure xmlns='urn:xmpp:sasl:2'><%s xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>"
	bindTag = "<bind xmlns='urn:xmpp:bind:0'><tag>AwesomeXMPP</tag></bind>"
)

// XEP-0388 §2.1, XEP-0386 §4.1, XEP-0198 §8, XEP-0484 §3.1, XEP-0440 §2, XEP-0478 §4.1
func TestSASL2Features(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{}, auth.Options{})
		defer m.end()
		var all []string
		for _, from := range []string{"", "user@example.org", "nobody@example.org"} {
			got := m.open(from).features
			_, got, _ = strings.Cut(got, "<stream:features>")
			all = append(all, got)
			for _, want := range []string{
				"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-512-PLUS</mechanism>",
				"<authentication xmlns='urn:xmpp:sasl:2'><mechanism>SCRAM-SHA-512-PLUS</mechanism>",
				"<mechanism>PLAIN</mechanism><mechanism>ANONYMOUS</mechanism><inline>",
				"<bind xmlns='urn:xmpp:bind:0'><inline><feature var='urn:xmpp:carbons:2'/><feature var='urn:example:echo'/><feature var='urn:xmpp:sm:3'/></inline></bind>",
				"<sm xmlns='urn:xmpp:sm:3'/>",
				"<fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-EXPR</mechanism><mechanism>HT-SHA-256-ENDP</mechanism><mechanism>HT-SHA-256-NONE</mechanism></fast></inline></authentication>",
				"<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/><channel-binding type='tls-server-end-point'/></sasl-channel-binding>",
				"<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>16384</max-bytes></limits>",
			} {
				if !strings.Contains(got, want) {
					t.Errorf("from %q: got  %s\nwant %s", from, got, want)
				}
			}
			if strings.Contains(got, "<upgrade ") {
				t.Errorf("upgrades that no account needs: %s", got)
			}
		}
		// XEP-0388 §5: who is there cannot be learnt from it.
		if all[0] != all[1] || all[1] != all[2] {
			t.Error("the features differ with 'from'")
		}
		// XEP-0388 §2.1
		other := m.open("user@example.com")
		if !strings.Contains(other.features, "<invalid-from"+nsError) {
			t.Errorf("got %s", other.features)
		}
	})
}

// XEP-0388 §2.6.1, and its first example flow: no restart, features at once, and then
// the resource is bound as in RFC 6120.
func TestSASL2WithoutInline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{}, auth.Options{})
		defer m.end()
		for _, from := range []string{"", "user@example.org", "user@example.org/phone", "example.org"} {
			c := m.open(from)
			got := c.plain(agent)
			for _, want := range []string{
				"<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>user@example.org</authorization-identifier></success><stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>",
				"<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes><idle-seconds>180</idle-seconds></limits></stream:features>",
			} {
				if !strings.Contains(got, want) {
					t.Errorf("from %q: got  %s\nwant %s", from, got, want)
				}
			}
			c.bind("orchard")
			c.want("<jid>user@example.org/orchard</jid>")
			c.send(goodbye)
			c.ended()
		}
		c := m.open("")
		if got := c.scram256(""); !strings.Contains(got, "<authorization-identifier>user@example.org</authorization-identifier></success><stream:features>") {
			t.Errorf("got %s", got)
		}
		// XEP-0388 §6.8: a second <authenticate/> is a stream error.
		c.send(authenticate("PLAIN", "\x00user\x00"+password, ""))
		c.want("<stream:error>", "<not-authorized"+nsError)
	})
}

// XEP-0388 §2.6.2: a failed attempt leaves everything as it was.
func TestSASL2Failures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{Attempts: 100}, auth.Options{})
		defer m.end()
		c := m.open("user@example.org")
		good := b64("\x00user\x00" + password)
		for _, tt := range []struct{ name, send, want string }{
			{"unknown mechanism", authenticate("CRAM-MD5", "", ""), "invalid-mechanism"},
			{"no mechanism", "<authenticate xmlns='urn:xmpp:sasl:2'/>", "invalid-mechanism"},
			{"token without <fast/>", authenticate("HT-SHA-256-NONE", "user\x00"+strings.Repeat("x", 32), agent), "invalid-mechanism"},
			{"<fast/> without a token", authenticate("PLAIN", "\x00user\x00"+password, agent+"<fast xmlns='urn:xmpp:fast:0'/>"), "invalid-mechanism"},
			{"<fast/> without an id", authenticate("HT-SHA-256-NONE", "user\x00"+strings.Repeat("x", 32), "<fast xmlns='urn:xmpp:fast:0'/>"), "malformed-request"},
			{"count of nothing", authenticate("HT-SHA-256-NONE", "user\x00"+strings.Repeat("x", 32), agent+"<fast xmlns='urn:xmpp:fast:0' count='0'/>"), "malformed-request"},
			{"unknown token", authenticate("HT-SHA-256-NONE", "user\x00"+strings.Repeat("x", 32), agent+"<fast xmlns='urn:xmpp:fast:0'/>"), "not-authorized"},
			{"not base64", "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>?</initial-response></authenticate>", "incorrect-encoding"},
			{"equals sign", "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>=</initial-response></authenticate>", "incorrect-encoding"},
			{"wrong password", authenticate("PLAIN", "\x00user\x00wrong", bindTag), "not-authorized"},
			{"not who the stream is from", authenticate("ANONYMOUS", "", ""), "invalid-authzid"},
			{"authzid of another", authenticate("PLAIN", "juliet@example.org\x00user\x00"+password, ""), "invalid-authzid"},
			{"abort", "<abort xmlns='urn:xmpp:sasl:2'/>", "aborted"},
			{"stray response", "<response xmlns='urn:xmpp:sasl:2'/>", "malformed-request"},
		} {
			c.send(tt.send)
			if got, want := c.take(), fmt.Sprintf(failed2, tt.want); got != want {
				t.Errorf("%s: got %s, want %s", tt.name, got, want)
			}
		}
		// An attempt without an initial response, and one that is given up.
		c.send("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>")
		c.want("<challenge xmlns='urn:xmpp:sasl:2'/>")
		c.send("<abort xmlns='urn:xmpp:sasl:2'><text>changed my mind</text></abort>")
		c.want(fmt.Sprintf(failed2, "aborted"))
		c.send("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>")
		c.want("<challenge xmlns='urn:xmpp:sasl:2'/>")
		c.send("<response xmlns='urn:xmpp:sasl:2'>\n  " + good + "\n</response>")
		c.want("<authorization-identifier>user@example.org</authorization-identifier></success>")

		// XEP-0388 §2.5: anything else ends the stream.
		for _, other := range []string{
			"<message/>", "<presence/>", authenticate("PLAIN", "\x00user\x00"+password, ""),
			"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + good + "</response>",
		} {
			c := m.open("")
			c.send("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>")
			c.want("<challenge ")
			c.send(other)
			c.want("<stream:error><not-authorized"+nsError, goodbye)
			c.send(goodbye)
			c.ended()
		}
		// Too many of them end it as well.
		m.Tune(Options{Attempts: 2})
		c = m.open("")
		c.send(authenticate("PLAIN", "\x00user\x00wrong", ""))
		c.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + b64("\x00user\x00wrong") + "</auth>")
		c.want(fmt.Sprintf(failed2, "not-authorized"), "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>", "<policy-violation"+nsError)
	})
}

// In the clear there is no SASL2 (XEP-0388 §5).
func TestSASL2InTheClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{}, auth.Options{})
		defer m.end()
		ours, theirs := net.Pipe()
		c := &client{t: t, conn: theirs}
		sock := stream.NewSocket(addressed{ours, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1"))})
		m.Accept(stream.NewTCP(sock, m.Before()), false, nil)
		go c.listen()
		c.send(header)
		if got := c.take(); strings.Contains(got, "urn:xmpp:sasl:2") || !strings.Contains(got, "<mechanism>SCRAM-SHA-256</mechanism>") {
			t.Errorf("got %s", got)
		}
		c.send(authenticate("SCRAM-SHA-256", "n,,n=user,r=abc", ""))
		c.want(fmt.Sprintf(failed2, "encryption-required"))
	})
}

// XEP-0386 §4.2, §4.3
func TestBind2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{}, auth.Options{})
		defer m.end()
		seen := map[string]bool{}
		bind := func(ua, children string) (*peer, string) {
			t.Helper()
			c := m.open("user@example.org")
			got := c.plain(ua + "<bind xmlns='urn:xmpp:bind:0'>" + children + "</bind>")
			full := text(t, got, "authorization-identifier")
			want := "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>" + full + "</authorization-identifier><bound xmlns='urn:xmpp:bind:0'>"
			if !strings.HasPrefix(got, want) || !strings.Contains(got, "<metadata xmlns='urn:xmpp:mam:2'/></bound></success><stream:features>") ||
				strings.Contains(got, "xmpp-bind") {
				t.Errorf("got %s", got)
			}
			if s := m.router.Session(jid.Must(full)); s == nil || s.JID.String() != full {
				t.Errorf("%s is not bound", full)
			}
			if strings.Contains(full, device) {
				t.Errorf("%s tells the client's id", full)
			}
			seen[full] = true
			return c, full
		}
		_, first := bind(agent, "<tag>AwesomeXMPP</tag>")
		if !strings.HasPrefix(first, "user@example.org/AwesomeXMPP/") {
			t.Errorf("no tag in %s", first)
		}
		before := m.router.Session(jid.Must(first))

		// The same client again: the same resource, and the earlier session ends.
		second, again := bind(strings.ReplaceAll(agent, device, strings.ToUpper(device)), "<tag>AwesomeXMPP</tag>")
		if again != first || m.router.Session(jid.Must(first)) == before {
			t.Errorf("%s and then %s", first, again)
		}
		// With another tag too.
		_, renamed := bind(agent, "<tag>Awesome2</tag>")
		second.want("<conflict"+nsError, goodbye)
		if renamed == first || m.router.Session(jid.Must(first)) != nil {
			t.Errorf("%s and then %s", first, renamed)
		}
		// Others have others, and none at all is new each time.
		for _, ua := range []string{strings.ReplaceAll(agent, "d4565fa7", "e4565fa7"), "", "", "<user-agent id='me'/>"} {
			bind(ua, "<tag>Awesome2</tag>")
		}
		if len(seen) != 6 || m.router.Sessions() != 5 {
			t.Errorf("resources %v, %d sessions", seen, m.router.Sessions())
		}
		// A tag that no resource can have.
		if _, full := bind(agent, "<tag>"+strings.Repeat("x", 1100)+"</tag>"); strings.Contains(full, strings.Repeat("x", 20)) {
			t.Errorf("got %s", full)
		}

		// What was asked for, and what nobody knows.
		c := m.open("")
		got := c.plain("<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:carbons:2'/><disable xmlns='urn:xmpp:carbons:2'/><echo xmlns='urn:example:echo'/><unknown xmlns='urn:example:unknown'/></bind>")
		if !strings.Contains(got, "<bound xmlns='urn:xmpp:bind:0'><echo xmlns='urn:example:echo'/><metadata xmlns='urn:xmpp:mam:2'/></bound>") {
			t.Errorf("got %s", got)
		}
		// The session works.
		c.send("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
		c.want("type='result'", "id='p'")
		// ANONYMOUS may bind as well.
		c = m.open("")
		c.send(authenticate("ANONYMOUS", "", agent+bindTag))
		c.want("<authorization-identifier>anon-", "/AwesomeXMPP/")
	})
}

// What reaches a session while it is being bound comes behind <success/>.
func TestBind2Order(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{}, auth.Options{})
		defer m.end()
		m.extras.welcome = func(s *router.Session) {
			var t router.Turn
			s.Deliver(&t, stanza.New(stanza.Message, stanza.Chat, jid.Must("juliet@example.org/a"), s.JID, "early"), nil)
			t.Flush()
			s.FlushOut()
		}
		got := m.open("").plain(bindTag)
		success, features, message := strings.Index(got, "<success "), strings.Index(got, "</success><stream:features>"), strings.Index(got, "id='early'")
		if success < 0 || features < success || message < features {
			t.Errorf("got %s", got)
		}
		// With stream management it is counted.
		got = m.open("").plain("<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>")
		if enabled, message := strings.Index(got, "<enabled xmlns='urn:xmpp:sm:3'"), strings.Index(got, "id='early'"); enabled < 0 || message < enabled ||
			strings.Index(got, "<metadata ") < enabled {
			t.Errorf("got %s", got)
		}
	})
}

// RFC 6120 §7.6.2.1 where there is no iq to answer.
func TestBind2Limit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{MaxSessions: 1}, auth.Options{})
		defer m.end()
		m.open("").plain(agent + bindTag)
		if got := m.open("").plain(agent + bindTag); !strings.Contains(got, "<success ") {
			t.Errorf("the same client: %s", got)
		}
		if got := m.open("").plain(agent + strings.Replace(bindTag, "XMPP", "2", 1)); !strings.Contains(got, "<success ") || m.router.Sessions() != 1 {
			t.Errorf("the same client by another name: %s", got)
		}
		if got := m.open("").plain(bindTag); !strings.Contains(got, "<resource-constraint"+nsError) || strings.Contains(got, "<success ") {
			t.Errorf("another client: %s", got)
		}
	})
}

// XEP-0478: what is announced holds, before login and, without a restart, after it.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{PingAfter: -1}, auth.Options{})
		defer m.end()
		fill := func(before, after string, size int) string {
			return before + strings.Repeat("x", size-len(before)-len(after)) + after
		}
		announced := func(features string) int {
			t.Helper()
			n, err := strconv.Atoi(text(t, features, "max-bytes"))
			if err != nil || strings.Contains(features, "idle-seconds") {
				t.Fatalf("got %s", features)
			}
			return n
		}
		auth := func(size int) string {
			return fill("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>"+b64("\x00user\x00"+password)+"</initial-response>"+bindTag+"<x xmlns='urn:example:x'>", "</x></authenticate>", size)
		}
		c := m.open("")
		c.send(auth(announced(c.features) + 1))
		c.want("<policy-violation" + nsError)
		c = m.open("")
		c.send(auth(announced(c.features)))
		got := c.take()
		after := announced(got[strings.Index(got, "</success>")+len("</success>"):])
		if after <= announced(c.features) {
			t.Errorf("%d octets after login", after)
		}
		const ping, end = "<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'>", "</ping></iq>"
		c.send(fill(ping, end, after))
		c.want("type='result'", "id='p'")
		c.send(fill(ping, end, after+1))
		c.want("<policy-violation" + nsError)
	})
}

func TestLabel(t *testing.T) {
	for in, want := range map[string]string{
		"Kiva's Phone":                      "Kiva's Phone",
		" a\r\n\tb ":                        "a b",
		"a\u202eb\u2066c\u0085d\u2028e":     "a b c d e",
		"\U0001f468\u200d\U0001f469":        "\U0001f468\u200d\U0001f469",
		strings.Repeat("é", labelMax):       strings.Repeat("é", labelMax/2),
		"x" + strings.Repeat("é", labelMax): "x" + strings.Repeat("é", labelMax/2-1),
		"":                                  "",
	} {
		if got := label(in); got != want {
			t.Errorf("label(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestIsUUIDv4(t *testing.T) {
	for in, want := range map[string]bool{
		device:                                 true,
		"00000000-0000-4000-a000-000000000000": true,
		"00000000-0000-4000-c000-000000000000": false, // another variant
		"00000000-0000-7000-a000-000000000000": false, // another version
		strings.ToUpper(device):                false,
		device + "0":                           false,
		strings.ReplaceAll(device, "-", "0"):   false,
		"g4565fa7-4d72-4749-b3d3-740edbf87770": false,
		"":                                     false,
	} {
		if got := isUUIDv4(in); got != want {
			t.Errorf("isUUIDv4(%q) = %v", in, got)
		}
	}
}

// XEP-0198 §8.2: resumption comes first, and a failed one does not keep from binding.
func TestResumeInline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{}, auth.Options{})
		defer m.end()
		c := m.open("")
		got := c.plain(agent + "<bind xmlns='urn:xmpp:bind:0'><tag>AwesomeXMPP</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>")
		id, full := attribute(t, got, "enabled", "id"), text(t, got, "authorization-identifier")
		_ = c.conn.Close()
		synctest.Wait()
		c = m.open("")
		got = c.plain(agent + "<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>" + bindTag)
		want := "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>" + full + "</authorization-identifier><resumed xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/></success>"
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		c.send("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")
		c.want("type='result'", "id='p'")
		for _, bind := range []string{"", bindTag} {
			got = m.open("").plain("<resume xmlns='urn:xmpp:sm:3' previd='unknown' h='0'/>" + bind)
			i, j := strings.Index(got, "</authorization-identifier><failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"), strings.Index(got, "<bound ")
			if i < 0 || (j > i) != (bind != "") || !strings.Contains(got, "</success><stream:features>") {
				t.Errorf("got %s", got)
			}
		}
	})
}

// fast logs in by a token, and returns what comes then.
func (c *peer) fast(mechanism, token, data, attrs, inline string) string {
	c.t.Helper()
	mac := func(role string) string {
		h := hmac.New(sha256.New, []byte(token))
		_, _ = io.WriteString(h, role+data)
		return string(h.Sum(nil))
	}
	c.send(authenticate(mechanism, "user\x00"+mac("Initiator"), agent+"<fast xmlns='urn:xmpp:fast:0'"+attrs+"/>"+inline))
	got := c.take()
	if strings.Contains(got, "<success ") && text(c.t, got, "additional-data") != b64(mac("Responder")) {
		c.t.Errorf("the server has not proved anything: %s", got)
	}
	return got
}

// request asks for a token.
func request(mechanism string) string {
	return "<request-token xmlns='urn:xmpp:fast:0' mechanism='" + mechanism + "'/>"
}

const (
	refused = "<failure xmlns='urn:xmpp:sasl:2'><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>"
	letIn   = "<authorization-identifier>user@example.org"
)

// XEP-0484 §3: a token is asked for, given, used, replaced, counted and given up.
func TestFAST(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{Attempts: 100}, auth.Options{})
		defer m.end()
		want := func(what, got string, parts ...string) {
			t.Helper()
			for _, p := range parts {
				if p[0] == '!' == strings.Contains(got, strings.TrimPrefix(p, "!")) {
					t.Errorf("%s: got  %s\nwant %s", what, got, p)
				}
			}
		}
		got := m.open("user@example.org").scram256(agent + bindTag + request("HT-SHA-256-NONE"))
		want("a token", got, "</bound><token xmlns='urn:xmpp:fast:0' ")
		token := attribute(t, got, "token", "token")
		expiry, err := time.Parse(time.RFC3339, attribute(t, got, "token", "expiry"))
		if left := time.Until(expiry); err != nil || left > 21*24*time.Hour || left < 21*24*time.Hour-time.Minute {
			t.Errorf("expires in %v, %v", left, err)
		}
		want("no id", m.open("").scram256(request("HT-SHA-256-NONE")), letIn, "!<token ")
		want("not offered", m.open("").scram256(agent+request("HT-SHA-256-UNIQ")), letIn, "!<token ")

		want("first use", m.open("user@example.org").fast("HT-SHA-256-NONE", token, "", "", bindTag), letIn, "<bound ", "!<token ")
		want("second use", m.open("").fast("HT-SHA-256-NONE", token, "", "", ""), letIn, "!<token ")
		want("other mechanism", m.open("").fast("HT-SHA-256-EXPR", token, "data of tls-exporter", "", ""), refused)
		want("other token", m.open("").fast("HT-SHA-256-NONE", token+"x", "", "", ""), refused)

		// XEP-0484 §3.4: the count grows.
		want("count", m.open("").fast("HT-SHA-256-NONE", token, "", " count='7'", ""), letIn)
		want("replay", m.open("").fast("HT-SHA-256-NONE", token, "", " count='7'", ""), refused)
		want("older", m.open("").fast("HT-SHA-256-NONE", token, "", " count='6'", ""), refused)
		want("next", m.open("").fast("HT-SHA-256-NONE", token, "", " count='8'", ""), letIn)

		// XEP-0484 §3.5: the old token is valid until the new one is used.
		time.Sleep(8 * 24 * time.Hour)
		got = m.open("").fast("HT-SHA-256-NONE", token, "", "", "")
		want("rotation", got, letIn, "<token ")
		lost := attribute(t, got, "token", "token")
		got = m.open("").fast("HT-SHA-256-NONE", token, "", "", "")
		want("rotation that was lost", got, letIn, "<token ")
		next := attribute(t, got, "token", "token")
		want("token that was replaced unused", m.open("").fast("HT-SHA-256-NONE", lost, "", "", ""), refused)
		want("new token", m.open("").fast("HT-SHA-256-NONE", next, "", "", ""), letIn, "!<token ")
		want("old token", m.open("").fast("HT-SHA-256-NONE", token, "", "", ""), refused)
		want("count of a new token", m.open("").fast("HT-SHA-256-NONE", next, "", " count='1'", ""), letIn)

		// XEP-0484 §3.6
		time.Sleep(8 * 24 * time.Hour)
		want("invalidate", m.open("").fast("HT-SHA-256-NONE", next, "", " invalidate='true'", ""), letIn, "!<token ")
		want("after it", m.open("").fast("HT-SHA-256-NONE", next, "", "", ""), refused)

		// Bound to the channel, with a new token for the asking.
		got = m.open("").plain(agent + request("HT-SHA-256-EXPR"))
		token = attribute(t, got, "token", "token")
		got = m.open("").fast("HT-SHA-256-EXPR", token, "data of tls-exporter", " invalidate='1'", request("HT-SHA-256-ENDP"))
		want("invalidate and ask", got, letIn, "<token ")
		token = attribute(t, got, "token", "token")
		want("the new one", m.open("").fast("HT-SHA-256-ENDP", token, "data of tls-server-end-point", "", ""), letIn)
		want("another channel", m.open("").fast("HT-SHA-256-ENDP", token, "data of tls-exporter", "", ""), refused)

		// XEP-0484 §4.2
		time.Sleep(22 * 24 * time.Hour)
		want("expired", m.open("").fast("HT-SHA-256-ENDP", token, "data of tls-server-end-point", "", ""), fmt.Sprintf(failed2, "credentials-expired"))

		// A new password ends all tokens, and so does the end of the account.
		token = attribute(t, m.open("").plain(agent+request("HT-SHA-256-NONE")), "token", "token")
		want("again", m.open("").fast("HT-SHA-256-NONE", token, "", "", ""), letIn)
		if err := m.users.SetPassword(t.Context(), jid.Must("user@example.org"), password); err != nil {
			t.Fatal(err)
		}
		want("after the password was set", m.open("").fast("HT-SHA-256-NONE", token, "", "", ""), refused)
		time.Sleep(time.Second)
		token = attribute(t, m.open("").plain(agent+request("HT-SHA-256-NONE")), "token", "token")
		if err := m.users.RemoveAccount(t.Context(), jid.Must("user@example.org")); err != nil {
			t.Fatal(err)
		}
		want("after the account", m.open("").fast("HT-SHA-256-NONE", token, "", "", ""), refused)
	})
}

// Guessing tokens is slowed down as guessing passwords is.
func TestFASTThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{Attempts: 100, Throttle: auth.NewThrottle(auth.ThrottleOptions{PairBurst: 3})}, auth.Options{})
		defer m.end()
		token := attribute(t, m.open("").plain(agent+request("HT-SHA-256-NONE")), "token", "token")
		c := m.open("")
		for range 3 {
			if got := c.fast("HT-SHA-256-NONE", "wrong", "", "", ""); got != refused {
				t.Errorf("got %s", got)
			}
		}
		busy := fmt.Sprintf(failed2, "temporary-auth-failure")
		if got := c.fast("HT-SHA-256-NONE", token, "", "", ""); got != busy {
			t.Errorf("got %s", got)
		}
		if got := c.plain(""); got != busy {
			t.Errorf("got %s", got)
		}
		time.Sleep(time.Minute)
		if got := m.open("").fast("HT-SHA-256-NONE", token, "", "", ""); !strings.Contains(got, letIn) {
			t.Errorf("got %s", got)
		}
	})
}

// XEP-0480 §3: an account without keys for a hash gets them from its client.
func TestScramUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(context.Background(), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		users, err := auth.New(db, auth.Options{Iterations: sasl.MinIterations})
		if err != nil {
			t.Fatal(err)
		}
		if err := users.CreateAccount(t.Context(), jid.Must("user@example.org"), password); err != nil {
			t.Fatal(err)
		}
		err = db.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec("DELETE FROM credentials WHERE hash = ?", int(sasl.SHA512))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		m := startOn(t, db, Options{Attempts: 100}, auth.Options{})
		defer m.end()
		const upgrade = "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade>"
		if c := m.open("nobody@example.org"); strings.Count(c.features, "<upgrade ") != 1 || !strings.Contains(c.features, "</inline>"+upgrade+"</authentication>") {
			t.Fatalf("got %s", c.features)
		}
		begin := func(inline string) *peer {
			t.Helper()
			c := m.open("")
			got := c.scram256(agent + bindTag + inline)
			if !strings.Contains(got, "<continue xmlns='urn:xmpp:sasl:2'><additional-data>") || !strings.Contains(got, "</additional-data><tasks><task>UPGR-SCRAM-SHA-512</task></tasks></continue>") ||
				strings.Contains(got, "<success ") || m.router.Sessions() != 0 {
				t.Fatalf("got %s", got)
			}
			return c
		}
		// What goes wrong leaves the account as it was.
		begin(upgrade).send(authenticate("PLAIN", "\x00user\x00"+password, ""))
		c := begin(upgrade)
		c.send("<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-1'/>")
		c.want(fmt.Sprintf(failed2, "malformed-request"))
		c = begin(upgrade + "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade>")
		c.send("<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-512'/>")
		c.want("<task-data xmlns='urn:xmpp:sasl:2'><salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'>")
		c.send("<task-data xmlns='urn:xmpp:sasl:2'><hash xmlns='urn:xmpp:scram-upgrade:0'>AAAA</hash></task-data>")
		c.want(fmt.Sprintf(failed2, "malformed-request"))
		c = begin(upgrade)
		c.send("<abort xmlns='urn:xmpp:sasl:2'/>")
		c.want(fmt.Sprintf(failed2, "aborted"))
		if c.plain(""); m.router.Sessions() != 0 {
			t.Error("bound without having asked")
		}

		c = begin(upgrade + request("HT-SHA-256-NONE"))
		c.send("<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-512'/>")
		salt, err := base64.StdEncoding.DecodeString(text(t, c.take(), "salt"))
		if err != nil {
			t.Fatal(err)
		}
		salted, err := pbkdf2.Key(sha512.New, password, salt, 4096, sha512.Size)
		if err != nil {
			t.Fatal(err)
		}
		c.send("<task-data xmlns='urn:xmpp:sasl:2'><hash xmlns='urn:xmpp:scram-upgrade:0'>" + b64(string(salted)) + "</hash></task-data>")
		got := c.take()
		if !strings.Contains(got, "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>user@example.org/AwesomeXMPP/") || !strings.Contains(got, "<token ") {
			t.Fatalf("got %s", got)
		}
		// Nothing is left to do, and the new keys are right.
		if got := m.open("").scram256(upgrade); !strings.Contains(got, "<success ") {
			t.Errorf("got %s", got)
		}
		keys, ok, err := m.users.Host("example.org").Keys(t.Context(), "user", sasl.SHA512)
		if !ok || err != nil || !keys.Verify(sasl.SHA512, password) {
			t.Errorf("%v, %v", ok, err)
		}
		// A token is not to become a password.
		if got := m.open("").fast("HT-SHA-256-NONE", attribute(t, got, "token", "token"), "", "", upgrade); !strings.Contains(got, "<success ") {
			t.Errorf("got %s", got)
		}
	})
}

// XEP-0474 §5.1: what is told under the password's protection is what each profile
// has announced, computed here from what came over the wire.
func TestDowngradeProtection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{}, auth.Options{})
		defer m.end()
		list := func(in, outer, inner, attr string) string {
			_, in, _ = strings.Cut(in, "<"+outer+" ")
			in, _, _ = strings.Cut(in, "</"+outer+">")
			in, _, _ = strings.Cut(in, "<inline>")
			var names []string
			for _, part := range strings.Split(in, "<"+inner)[1:] {
				if attr != "" {
					_, part, _ = strings.Cut(part, attr+"='")
					part, _, _ = strings.Cut(part, "'")
				} else {
					part, _, _ = strings.Cut(strings.TrimPrefix(part, ">"), "<")
				}
				names = append(names, part)
			}
			slices.Sort(names)
			return strings.Join(names, "\x1e")
		}
		const first = "n,,n=user,r=abc"
		for outer, attempt := range map[string]string{
			"mechanisms":     "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>" + b64(first) + "</auth>",
			"authentication": authenticate("SCRAM-SHA-256", first, ""),
		} {
			c := m.open("")
			offered := list(c.features, outer, "mechanism", "") + "\x1f" + list(c.features, "sasl-channel-binding", "channel-binding", "type")
			if !strings.HasPrefix(offered, "ANONYMOUS\x1ePLAIN\x1eSCRAM-SHA-1\x1e") || !strings.HasSuffix(offered, "\x1ftls-exporter\x1etls-server-end-point") {
				t.Fatalf("%q", offered)
			}
			c.send(attempt)
			challenge, _ := base64.StdEncoding.DecodeString(text(t, c.take(), "challenge"))
			sum := sha256.Sum256([]byte(offered))
			if want := ",h=" + base64.StdEncoding.EncodeToString(sum[:]); !strings.HasSuffix(string(challenge), want) {
				t.Errorf("%s: got %s, want %s", outer, challenge, want)
			}
		}
	})
}

// A client that is revoked is out at once, and its token lets it in no more. So is one
// that waits to be resumed.
func TestRevokedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startModern(t, Options{}, auth.Options{})
		defer m.end()
		account := jid.Must("user@example.org")
		revoke := func() {
			t.Helper()
			list, err := m.clients.Clients(t.Context(), account)
			if err != nil || len(list) != 1 || !list[0].Connected || list[0].Software != "AwesomeXMPP" || list[0].Device != "Kiva's Phone" {
				t.Fatalf("%v, %v", list, err)
			}
			if err := m.clients.Revoke(t.Context(), account, list[0].Ref, true); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		c := m.open("")
		token := attribute(t, c.plain(agent+bindTag+request("HT-SHA-256-NONE")), "token", "token")
		revoke()
		c.want("<not-authorized"+nsError, goodbye)
		c.send(goodbye)
		c.ended()
		if got := m.open("").fast("HT-SHA-256-NONE", token, "", "", bindTag); got != refused {
			t.Errorf("got %s", got)
		}
		c = m.open("")
		got := c.plain(agent + "<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>")
		id := attribute(t, got, "enabled", "id")
		_ = c.conn.Close()
		revoke()
		if m.router.Sessions() != 0 {
			t.Error("a session that waits is left")
		}
		if got := m.open("").plain("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>"); !strings.Contains(got, "<failed xmlns='urn:xmpp:sm:3'") {
			t.Errorf("got %s", got)
		}
	})
}

// FuzzParseLogin holds that whatever an <authenticate/> has is within its bounds, and
// that errors are failures of SASL.
func FuzzParseLogin(f *testing.F) {
	f.Add(authenticate("PLAIN", "\x00user\x00pencil", agent+bindTag+request("HT-SHA-256-NONE")))
	f.Add(authenticate("HT-SHA-256-NONE", "user\x00", agent+"<fast xmlns='urn:xmpp:fast:0' count='1' invalidate='true'/>"))
	f.Add("<authenticate xmlns='urn:xmpp:sasl:2'><user-agent id='D4565FA7-4D72-4749-B3D3-740EDBF87770'><software> a \u2028\u0085 b</software></user-agent></authenticate>")
	f.Fuzz(func(t *testing.T, in string) {
		el, err := stanza.ParseElement(in)
		if err != nil {
			return
		}
		rq, err := parseLogin(el)
		if err != nil {
			if _, ok := err.(*sasl.Failure); !ok {
				t.Fatalf("%v", err)
			}
			return
		}
		if id := rq.agent.id; id != "" && (len(id) != 36 || strings.ToLower(id) != id) || rq.fast && id == "" {
			t.Errorf("id %q", id)
		}
		for _, s := range []string{rq.agent.software, rq.agent.device} {
			if len(s) > labelMax || strings.ContainsAny(s, "\x00\r\n\t") || strings.TrimSpace(s) != s {
				t.Errorf("label %q", s)
			}
		}
		if rq.use.Count > 1<<31-1 {
			t.Errorf("count %d", rq.use.Count)
		}
	})
}
