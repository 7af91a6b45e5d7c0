package cpim

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"trivium/bridges/cpim/message"
	"trivium/core/jid"
	"trivium/core/stanza"
)

func outgoing(t testing.TB, attrs, inner string) *stanza.Stanza {
	t.Helper()
	return readStanza(t, "<message xmlns='jabber:client' from='alice@xmpp.example/phone' to='bob@im.example' "+attrs+">"+inner+"</message>")
}

// TestNeverDowngraded: what is encrypted is refused in words, or passes unopened.
func TestNeverDowngraded(t *testing.T) {
	const body = "<body>This message is encrypted.</body>"
	for _, tt := range []struct{ name, inner, says string }{
		{"OMEMO 0.3", body + "<encrypted xmlns='eu.siacs.conversations.axolotl'><payload>x</payload></encrypted>", "OMEMO"},
		{"OMEMO 2", "<encrypted xmlns='urn:xmpp:omemo:2'/>", "OMEMO"},
		{"OMEMO with hint", "<encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:omemo:2'/><encrypted xmlns='urn:xmpp:omemo:2'/>" + body, "OMEMO"},
		{"OX", body + "<openpgp xmlns='urn:xmpp:openpgp:0'>x</openpgp>", "OpenPGP"},
		{"XEP-0027", body + "<x xmlns='jabber:x:encrypted'>x</x>", "OpenPGP"},
		{"something else", body + "<encryption xmlns='urn:xmpp:eme:0' namespace='urn:x'/>", "end-to-end encryption"},
		{"OTR", "<body>?OTR:AAMC</body>", "OTR"},
	} {
		_, err := New(Options{}).Message(outgoing(t, "", tt.inner), Meta{})
		var se *stanza.Error
		if !errors.As(err, &se) || se.Condition != stanza.NotAcceptable || !strings.Contains(se.Text, tt.says) {
			t.Errorf("%s: %v", tt.name, err)
		}
		o, err := New(Options{EncryptedFallback: true}).Message(outgoing(t, "", tt.inner), Meta{})
		switch hasFallback := strings.Contains(tt.inner, body); {
		case hasFallback && (err != nil || o.Message.Content.Body != "This message is encrypted."):
			t.Errorf("%s, fallback: %v, %v", tt.name, o, err)
		case !hasFallback && condition(err) != "not-acceptable":
			t.Errorf("%s, no fallback: %v, %v", tt.name, o, err)
		}
	}
	// A whitespace tag or a word about OTR is no OTR message.
	if _, err := New(Options{}).Message(outgoing(t, "", "<body>?OTR is old</body>"), Meta{}); err != nil {
		t.Error(err)
	}
}

func TestNothingToSend(t *testing.T) {
	for name, st := range map[string]*stanza.Stanza{
		"no body":    outgoing(t, "type='chat'", "<composing xmlns='http://jabber.org/protocol/chatstates'/>"),
		"error":      outgoing(t, "type='error'", "<body>x</body>"),
		"a presence": stanza.New(stanza.Presence, "", alice, bob, ""),
	} {
		if o, err := New(Options{}).Message(st, Meta{}); !errors.Is(err, ErrNothing) {
			t.Errorf("%s: %v, %v", name, o, err)
		}
	}
}

func TestMessageRefused(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		st         *stanza.Stanza
		o          Options
	}{
		{"groupchat", "feature-not-implemented", outgoing(t, "type='groupchat'", "<body>x</body>"), Options{}},
		{"from a host", "jid-malformed", stanza.New(stanza.Message, "", jid.Must("xmpp.example"), bob, "", stanza.TextEl(stanza.NSClient, "body", "x")), Options{}},
		{"to nobody", "jid-malformed", stanza.New(stanza.Message, "", alice, jid.JID{}, "", stanza.TextEl(stanza.NSClient, "body", "x")), Options{}},
		{"too large", "policy-violation", outgoing(t, "", "<body>"+strings.Repeat("x", 1300)+"</body>"), Options{MaxObject: 1300}},
	} {
		b, err := New(tt.o).AppendMessage([]byte("before"), tt.st, Meta{})
		if condition(err) != tt.want || string(b) != "before" {
			t.Errorf("%s: %v, %q", tt.name, err, b)
		}
	}
}

func content(t *testing.T, o Options, st *stanza.Stanza, meta Meta) *message.Message {
	t.Helper()
	obj, err := New(o).Message(st, meta)
	if err != nil {
		t.Fatal(err)
	}
	return obj.Message
}

func TestBodies(t *testing.T) {
	const bodies = "<body>plain</body><body xml:lang='cs'>česky</body><body xml:lang='en'>english</body>"
	for _, tt := range []struct{ lang, inner, text, tag string }{
		{"", bodies, "plain", ""},
		{"xml:lang='de'", bodies, "plain", "de"},
		{"xml:lang='cs'", "<body xml:lang='en'>english</body><body xml:lang='cs'>česky</body>", "česky", "cs"},
		{"xml:lang='fr'", "<body xml:lang='en'>english</body><body xml:lang='cs'>česky</body>", "english", "en"},
		{"xml:lang='no tag'", "<body>x</body>", "x", ""},
		{"", "<body>a\nb&#13;c&#13;\nd</body>", "a\r\nb\r\nc\r\nd", ""},
		{"", "<body><![CDATA[<b>]]></body>", "<b>", ""},
		{"", "<body>a<x xmlns='urn:x'>hidden</x>b</body>", "ab", ""},
	} {
		m := content(t, Options{}, outgoing(t, tt.lang, tt.inner), Meta{})
		if got := m.Content.Get("Content-Language"); m.Content.Body != tt.text || got != tt.tag {
			t.Errorf("%s %s: %q in %q, want %q in %q", tt.lang, tt.inner, m.Content.Body, got, tt.text, tt.tag)
		}
	}
	m := content(t, Options{Alternative: true}, outgoing(t, "xml:lang='cs'", bodies[len("<body>plain</body>"):]), Meta{})
	parts, err := m.Content.Parts(false)
	if err != nil || len(parts) != 2 || m.Content.ContentType().Name != "multipart/alternative" {
		t.Fatalf("%q: %v", m.Content.Body, err)
	}
	for i, want := range []string{"english en", "česky cs"} { // the preferred one last
		if got := parts[i].Body + " " + parts[i].Get("Content-Language"); got != want {
			t.Errorf("part %d: %q, want %q", i, got, want)
		}
	}
	// And back: the last part that is plain text.
	text, lang, err := New(Options{}).text(&m.Content)
	if err != nil || text != "česky" || lang != "cs" {
		t.Errorf("read back %q in %q, %v", text, lang, err)
	}
}

func TestSubjects(t *testing.T) {
	m := content(t, Options{}, outgoing(t, "", "<subject> edge </subject><subject xml:lang='a b'>odd</subject><subject xml:lang='cs'>  </subject><body>x</body>"), Meta{})
	if want := []message.Subject{{Text: "edge"}, {Text: "odd"}}; !slices.Equal(m.Subjects, want) {
		t.Errorf("%q", m.Subjects)
	}
	sts, err := New(Options{}).ReadMessage("From: <im:b@x>\r\nTo: <im:a@y>\r\nSubject:;lang=en first\r\nSubject:;lang=en second\r\nSubject: third\r\n\r\nContent-Type: text/plain\r\n\r\nhi", Envelope{}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := sts[0].Payload(), "<subject xml:lang='en'>first</subject><subject>third</subject><body>hi</body>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTimes(t *testing.T) {
	meta := Meta{Received: noon}
	const delay, legacy = "<delay xmlns='urn:xmpp:delay' stamp='2002-09-10T23:08:25.5Z'/>", "<x xmlns='jabber:x:delay' stamp='20020910T23:08:26'/>"
	for _, tt := range []struct {
		inner string
		want  time.Time
	}{
		{"", noon},
		{delay, time.Date(2002, 9, 10, 23, 8, 25, 5e8, time.UTC)},
		{legacy, time.Date(2002, 9, 10, 23, 8, 26, 0, time.UTC)},
		{legacy + delay, time.Date(2002, 9, 10, 23, 8, 25, 5e8, time.UTC)},
		{"<delay xmlns='urn:xmpp:delay' stamp='soon'/>", noon},
	} {
		if got := content(t, Options{}, outgoing(t, "", "<body>x</body>"+tt.inner), meta).DateTime; !got.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", tt.inner, got, tt.want)
		}
	}
	if got := content(t, Options{NoDateTime: true}, outgoing(t, "", "<body>x</body>"+delay), meta).DateTime; !got.IsZero() {
		t.Errorf("NoDateTime: %v", got)
	}
	in := "From: Bob <im:bob@im.example>\r\nTo: <im:alice@xmpp.example>\r\nDateTime: 2026-03-01T11:58:59.5Z\r\n\r\nContent-Type: text/plain\r\n\r\nhi"
	for _, tt := range []struct {
		o    Options
		now  time.Time
		want string
	}{
		{Options{}, noon, "<body>hi</body>"},
		{Options{Delay: true}, noon, "<body>hi</body><delay xmlns='urn:xmpp:delay' from='im.example' stamp='2026-03-01T11:58:59.5Z'/>"},
		{Options{Delay: true}, noon.Add(-time.Minute), "<body>hi</body>"},
		{Options{Nick: true}, noon, "<body>hi</body><nick xmlns='http://jabber.org/protocol/nick'>Bob</nick>"},
	} {
		sts, err := New(tt.o).ReadMessage(in, Envelope{}, tt.now)
		if err != nil || sts[0].Payload() != tt.want {
			t.Errorf("%+v: %v, %v, want %s", tt.o, sts, err, tt.want)
		}
	}
}

func TestContentID(t *testing.T) {
	for id, want := range map[string]string{
		"7d0e": "<7d0e@xmpp.example>", "a.b-c_d+e=": "<a.b-c_d+e=@xmpp.example>",
		"": "", "a@b": "", "a>b": "", "a b": "", ".a": "", "a..b": "",
	} {
		m := content(t, Options{}, outgoing(t, "id='client'", "<body>x</body>"), Meta{StanzaID: id})
		if got := m.Content.Get("Content-ID"); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}

func TestCopies(t *testing.T) {
	st := outgoing(t, "", "<body>x</body><addresses xmlns='http://jabber.org/protocol/address'><address type='cc' jid='carol@x.example/r'/><address type='bcc' jid='d@x.example'/><address type='cc' jid='x.example'/><address type='cc'/></addresses>")
	if m := content(t, Options{}, st, Meta{}); m.Cc != nil {
		t.Errorf("off: %v", m.Cc)
	}
	if m := content(t, Options{Copies: true}, st, Meta{}); len(m.Cc) != 1 || m.Cc[0].URI != "im:carol@x.example" {
		t.Errorf("on: %v", m.Cc)
	}
}

// TestLost: what cannot be mapped is said.
func TestLost(t *testing.T) {
	var lost []string
	o := Options{Lost: func(part, _ string) { lost = append(lost, part) }}
	content(t, o, outgoing(t, "type='chat' id='1'", "<thread>t</thread><body>x</body><body xml:lang='cs'>y</body><active xmlns='http://jabber.org/protocol/chatstates'/>"), Meta{})
	if want := []string{"body", "id", "type", "thread", "active of http://jabber.org/protocol/chatstates"}; !slices.Equal(lost, want) {
		t.Errorf("out: %q", lost)
	}
	lost = nil
	if _, err := New(o).ReadMessage("From: <im:b@x>\r\nTo: <im:a@y>\r\ncc: <im:c@z>\r\nDateTime: 2026-03-01T12:00:00Z\r\nX: 1\r\n\r\nContent-Type: text/plain\r\n\r\nhi", Envelope{}, noon); err != nil {
		t.Fatal(err)
	}
	if want := []string{"cc", "DateTime", "X of urn:ietf:params:cpim-headers:"}; !slices.Equal(lost, want) {
		t.Errorf("in: %q", lost)
	}
}

func TestRecipientsAndEnvelope(t *testing.T) {
	in := "From: <im:bob@im.example>\r\nTo: <im:alice@xmpp.example>\r\nTo: <im:carol@elsewhere.example>\r\nTo: <sip:Alice@xmpp.example;gr=x>\r\nTo: <im:dave@xmpp.example>\r\nTo: <tel:+4>\r\n\r\nContent-Type: text/plain\r\n\r\nhi"
	ours := func(domain string) bool { return domain == "xmpp.example" }
	for _, tt := range []struct {
		name string
		in   string
		env  Envelope
		want string
	}{
		{"by To", in, Envelope{}, "alice@xmpp.example dave@xmpp.example"},
		{"by envelope", in, Envelope{From: bob, To: jid.Must("erin@xmpp.example/r")}, "erin@xmpp.example"},
		{"no To but an envelope", strings.Replace(in, "To: ", "X: ", 5), Envelope{To: alice}, "alice@xmpp.example"},
		{"nobody of ours", "From: <im:b@x>\r\nTo: <im:c@elsewhere.example>\r\n\r\nContent-Type: text/plain\r\n\r\nhi", Envelope{}, "remote-server-not-found"},
		{"no address", "From: <im:b@x>\r\nTo: <tel:+4>\r\n\r\nContent-Type: text/plain\r\n\r\nhi", Envelope{}, "jid-malformed"},
		{"sips", "From: <sips:b@x>\r\nTo: <im:a@xmpp.example>\r\n\r\nContent-Type: text/plain\r\n\r\nhi", Envelope{}, "jid-malformed"},
		{"another sender", in, Envelope{From: alice}, "forbidden"},
		{"another sender, trusted", in, Envelope{From: alice, Trusted: true}, "alice@xmpp.example dave@xmpp.example"},
	} {
		sts, err := New(Options{Ours: ours}).ReadMessage(tt.in, tt.env, noon)
		var got []string
		for _, st := range sts {
			got = append(got, st.To.String())
		}
		if err != nil {
			got = append(got, condition(err))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
		}
	}
}

func TestContentRefused(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"Latin-1 declared as UTF-8", "Content-Type: text/plain; charset=utf-8\r\n\r\ncaf\xe9", "not-acceptable"},
		{"no type", "Content-Type: plain\r\n\r\nhi", "bad-request"},
		{"image", "Content-Type: image/png\r\n\r\nhi", "not-acceptable"},
		{"mixed", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b--", "not-acceptable"},
		{"no plain alternative", "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\nhi\r\n--b--", "not-acceptable"},
		{"broken multipart", "Content-Type: multipart/alternative; boundary=b\r\n\r\nhi", "bad-request"},
		{"PGP signed", "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b--", "not-acceptable"},
		{"PGP encrypted", "Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b--", "not-acceptable"},
		{"wrapped by a relay", "Content-Type: message/cpim\r\n\r\nFrom: <im:a@b>\r\n", "not-acceptable"},
		{"broken base64", "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n*", "bad-request"},
		{"too large", "Content-Type: text/plain\r\n\r\n" + strings.Repeat("x", 101), "policy-violation"},
		{"too large unpacked", "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("eHh4", 34), "policy-violation"},
		{"header too large", "X-Pad: " + strings.Repeat("x", 70000) + "\r\nContent-Type: text/plain\r\n\r\nhi", "policy-violation"},
	} {
		sts, err := New(Options{MaxBody: 100}).ReadMessage("From: <im:b@x>\r\nTo: <im:a@y>\r\n\r\n"+tt.content, Envelope{}, noon)
		if condition(err) != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.name, sts, err, tt.want)
		}
	}
}

func TestRequireUnderstood(t *testing.T) {
	in := "From: <im:b@x>\r\nTo: <im:a@y>\r\nNS: L <urn:example:loc>\r\nRequire: L.Kanji,Subject\r\n\r\nContent-Type: text/plain\r\n\r\nhi"
	o := Options{Understood: func(space, local string) bool {
		return space == "urn:example:loc" && local == "Kanji" || space == message.NS && local == "Subject"
	}}
	if _, err := New(o).ReadMessage(in, Envelope{}, noon); err != nil {
		t.Error(err)
	}
	if _, err := New(o).ReadMessage(strings.Replace(in, "Kanji,", "Kanji,L.More,", 1), Envelope{}, noon); condition(err) != "feature-not-implemented" {
		t.Error(err)
	}
}

// TestEndToEnd carries S/MIME objects both ways, octet for octet.
func TestEndToEnd(t *testing.T) {
	object := "Content-Type: multipart/signed; boundary=next;\r\n micalg=sha1; protocol=\"application/pkcs7-signature\"\r\n\r\n" +
		"--next\r\nContent-Type: Message/CPIM\r\n\r\nFrom: <im:bob@im.example>\r\nTo: <im:alice@xmpp.example>\r\n\r\nContent-Type: text/plain\r\n\r\na ]]> b & <c>\r\n" +
		"--next\r\nContent-Type: application/pkcs7-signature\r\n\r\nMII\r\n--next--\r\n"
	in := "From: <im:bob@im.example>\r\nTo: <im:alice@xmpp.example>\r\n\r\n" + object
	sts, err := New(Options{}).ReadMessage(in, Envelope{}, noon)
	if err != nil || len(sts) != 1 || sts[0].Has(stanza.NSClient, "body") {
		t.Fatalf("%v, %v", sts, err)
	}
	back := sts[0].Readdressed(alice, bob)
	b, err := New(Options{CRLF: true}).AppendMessage(nil, back, Meta{})
	if err != nil || string(b) != object {
		t.Errorf("%v\ngot  %q\nwant %q", err, b, object)
	}
	// Without a record of the line ends nothing is guessed.
	b, err = New(Options{}).AppendMessage(nil, back, Meta{})
	if err != nil || string(b) != strings.ReplaceAll(object, "\r\n", "\n") {
		t.Errorf("%v, %q", err, b)
	}
	for name, bad := range map[string]string{
		"control": "a\x01b", "octets": "\xff", "mixed": "a\r\nb\n", "lone CR": "a\rb",
	} {
		if st, _, err := New(Options{}).Protected(stanza.Message, bad, bob, alice); condition(err) != "not-acceptable" {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	st, crlf, err := New(Options{}).Protected(stanza.Presence, "a\nb", bob, alice)
	if err != nil || crlf || st.Kind != stanza.Presence {
		t.Errorf("%v, %v, %v", st, crlf, err)
	}
	if _, _, err := New(Options{}).Protected(stanza.Presence, "a", bob, jid.JID{}); condition(err) != "jid-malformed" {
		t.Errorf("undirected: %v", err)
	}
}

// TestOperations: RFC 3860 §3, with trace s10 of the mapping reference.
func TestOperations(t *testing.T) {
	m := New(Options{})
	op, err := m.Send(outgoing(t, "", "<body>hi</body>"), Meta{}, "t1")
	if err != nil || op.Source != "im:alice@xmpp.example" || op.Destination != "im:bob@im.example" || op.TransID != "t1" || op.MaxForwards != 120 {
		t.Fatalf("%+v, %v", op, err)
	}
	sts, meta, err := m.Receive(op, noon)
	if err != nil || len(sts) != 1 || Answer(err) != Success {
		t.Fatalf("%v, %v", sts, err)
	}
	again, err := m.Send(sts[0], meta, "t2")
	if err != nil || again.MaxForwards != 119 {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := m.Send(sts[0], Meta{Forwarded: true}, "t3"); condition(err) != "not-acceptable" {
		t.Errorf("out of hops: %v", err)
	}
	op.MaxForwards = 0 // s10
	sts, _, err = m.Receive(op, noon)
	var se *stanza.Error
	if sts != nil || Answer(err) != Failed || !errors.As(err, &se) || se.Condition != stanza.NotAcceptable || se.ErrType() != stanza.Cancel {
		t.Errorf("loop: %v, %v", sts, err)
	}
	// Addresses are looked at first.
	op.Source = "im:nobody"
	if _, _, err = m.Receive(op, noon); condition(err) != "jid-malformed" {
		t.Errorf("bad source: %v", err)
	}
}

func TestFailures(t *testing.T) {
	for f, want := range map[Failure]string{
		NotFound: "cancel item-not-found", NotAllowed: "auth forbidden", Duplicate: "cancel conflict", BadAddress: "modify jid-malformed",
		NoRoute: "cancel remote-server-not-found", Silence: "wait remote-server-timeout", BadContent: "modify not-acceptable",
		TooLarge: "modify policy-violation", Mandatory: "cancel feature-not-implemented", Loop: "cancel not-acceptable",
		Malformed: "modify bad-request", Unspecified: "cancel undefined-condition",
	} {
		e := f.Error("why")
		if got := string(e.ErrType()) + " " + string(e.Condition); got != want {
			t.Errorf("%d: %s, want %s", f, got, want)
		}
	}
	if e := Unspecified.Error("488").App; e == nil {
		t.Error("the status of the other side is not told")
	}
}

// FuzzReadMessage: whatever comes, the stanzas are well-formed and can go back, or
// the error is one that can be sent.
func FuzzReadMessage(f *testing.F) {
	f.Add("From: <im:bob@im.example>\r\nTo: <im:alice@xmpp.example>\r\nSubject:;lang=cs a\\u0007\r\n\r\nContent-Type: text/plain; charset=utf-8\r\nContent-ID: <a@b>\r\nContent-Language: en\r\n\r\nhi\r\nthere")
	f.Add("From: <im:b@x>\r\nTo: <im:a@y>\r\n\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b--")
	f.Add("From: <im:b@x>\r\nTo: <im:a@y>\r\n\r\nContent-Type: application/pkcs7-mime\r\n\r\n]]>")
	f.Add("From: <im:b@x>\r\nTo: <im:a@y>\r\nNS: i <urn:ietf:params:imdn>\r\ni.Message-ID: a\\u0001\r\ni.Disposition-Notification: display\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n<imdn xmlns='urn:ietf:params:xml:ns:imdn'><message-id>1</message-id><delivery-notification><status><delivered/></status></delivery-notification></imdn>")
	f.Fuzz(func(t *testing.T, in string) {
		receipts := strings.Contains(in, "imdn")
		m := New(Options{Delay: true, Nick: true, Receipts: receipts})
		sts, err := m.ReadMessage(in, Envelope{}, noon)
		if err != nil {
			if condition(err) == "" && !errors.Is(err, ErrNothing) {
				t.Fatalf("%v is no stanza error", err)
			}
			return
		}
		for _, st := range sts {
			if st.Type == stanza.TypeError {
				continue
			}
			again, err := stanza.ParseDocument(st.AppendDocument(nil))
			if err != nil {
				t.Fatalf("%q became %s: %v", in, st, err)
			}
			if _, err := m.AppendMessage(nil, again.Readdressed(st.To, st.From), Meta{}); err != nil && !again.Has(NSE2E, "e2e") {
				if body, ok := again.Body(); ok && !isOTR(body) {
					t.Fatalf("%q became %s, which cannot go back: %v", in, st, err)
				}
			}
		}
	})
}

const typical = "<message xmlns='jabber:client' from='alice@xmpp.example/phone' to='bob@im.example' id='4f1c-77' type='chat' xml:lang='en'><body>Tram 22\nor walk?</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/></message>"

// BenchmarkEncode: a stanza becomes an object.
func BenchmarkEncode(b *testing.B) {
	m := New(Options{})
	st := readStanza(b, typical)
	meta := Meta{Received: noon, StanzaID: "7d0e2a9b"}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = m.AppendMessage(buf[:0], st, meta); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecode: an object becomes a stanza.
func BenchmarkDecode(b *testing.B) {
	m := New(Options{})
	in := "Content-Type: Message/CPIM\r\n\r\nFrom: Bob <im:bob@im.example>\r\nTo: Alice Liddell <im:alice@xmpp.example>\r\nDateTime: 2026-03-01T13:00:05+01:00\r\n\r\n" +
		"Content-type: text/plain; charset=utf-8\r\nContent-ID: <a1b2@im.example>\r\n\r\nSee you there"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.ReadMessage(in, Envelope{}, noon); err != nil {
			b.Fatal(err)
		}
	}
}
