package hostile

import (
	"strings"
	"testing"

	"trivium/test/harness"
)

// carbons lets a session have copies.
func carbons(t *testing.T, c *harness.Client) {
	t.Helper()
	if n := request(t, c, "<iq type='set' id='cc'><enable xmlns='urn:xmpp:carbons:2'/></iq>"); n.Attr("type") != "result" {
		t.Fatal(n)
	}
}

func available(t *testing.T, c *harness.Client) {
	t.Helper()
	must(t, c.Send("<presence/>"))
	alive(t, c)
}

// Wrapping a message whose start tag is at the limit of attributes made the server
// panic: its own 'from' and xml:lang came on top.
func TestCarbonOfMessageWithManyAttributes(t *testing.T) {
	s := start(t, harness.Options{})
	here, there := login(t, s, "tcp", "juliet", "here"), login(t, s, "tcp", "juliet", "there")
	carbons(t, there)
	available(t, here)
	available(t, there)
	evil := loginLang(t, s, "tcp", "mallory", "evil", "en")
	must(t, evil.Send("<message to='juliet@example.org/here' type='chat'"+names(62)+"><body>hi</body></message>"))
	alive(t, evil)
	alive(t, here)
	alive(t, there)
}

// A namespace name may be longer written anew than it came.
func TestCarbonOfMessageWithLongNamespace(t *testing.T) {
	s := start(t, harness.Options{})
	here, there := login(t, s, "tcp", "juliet", "here"), login(t, s, "tcp", "juliet", "there")
	carbons(t, there)
	available(t, here)
	available(t, there)
	evil := login(t, s, "tcp", "mallory", "evil")
	must(t, evil.Send(`<message to='juliet@example.org/here' type='chat' xmlns:q="urn:`+strings.Repeat("'", 160)+`"><body>hi</body></message>`))
	alive(t, evil)
	alive(t, here)
	alive(t, there)
}

// An element in the namespace of the prefix xml cannot be written with a default
// declaration.
func TestStoredElementInXMLNamespace(t *testing.T) {
	s := start(t, harness.Options{})
	evil := login(t, s, "tcp", "mallory", "evil")
	request(t, evil, "<iq type='set' id='1'><query xmlns='jabber:iq:private'><xml:x><xml:y xmlns='urn:a'><z/></xml:y></xml:x></query></iq>")
	request(t, evil, "<iq type='get' id='2'><query xmlns='jabber:iq:private'><xml:x/></query></iq>")
	request(t, evil, "<iq type='set' id='3'><vCard xmlns='vcard-temp'><xml:x><y/></xml:x></vCard></iq>")
	request(t, evil, "<iq type='get' id='4'><vCard xmlns='vcard-temp'/></iq>")
	alive(t, evil)
}

// A message that could be sent but not read again was lost.
func TestOfflineMessageWithLongNamespace(t *testing.T) {
	s := start(t, harness.Options{})
	evil := login(t, s, "tcp", "mallory", "evil")
	must(t, evil.Send(`<message to='juliet@example.org' type='chat' xmlns:q="urn:`+strings.Repeat("'", 160)+`"`+names(62)+`><body>strange</body></message>`))
	must(t, evil.Send(`<message to='juliet@example.org' type='chat'><body>plain</body></message>`))
	alive(t, evil)
	juliet := login(t, s, "tcp", "juliet", "here")
	must(t, juliet.Send("<presence/>"))
	wantMessage(t, juliet, "strange")
	wantMessage(t, juliet, "plain")
}

// One such subscription request kept all others from being shown.
func TestSubscriptionRequestWithLongNamespace(t *testing.T) {
	s := start(t, harness.Options{})
	evil := login(t, s, "tcp", "mallory", "evil")
	must(t, evil.Send(`<presence to='juliet@example.org' type='subscribe' xmlns:q="urn:`+strings.Repeat("'", 160)+`"/>`))
	alive(t, evil)
	romeo := login(t, s, "tcp", "romeo", "orchard")
	must(t, romeo.Send(`<presence to='juliet@example.org' type='subscribe'/>`))
	alive(t, romeo)
	juliet := login(t, s, "tcp", "juliet", "here")
	available(t, juliet)
	asked := map[string]bool{}
	for len(asked) < 2 {
		n, err := juliet.Next()
		must(t, err)
		if n.Attr("type") == "error" {
			t.Fatal(n)
		}
		if n.Attr("type") == "subscribe" {
			asked[n.Attr("from")] = true
		}
	}
}

// A stanza whose own name had a prefix lost the default namespace that it
// declared: what was in there became part of the content namespace.
func TestPrefixedStanzaKeepsNamespaces(t *testing.T) {
	s := start(t, harness.Options{})
	juliet, evil := login(t, s, "tcp", "juliet", "here"), login(t, s, "tcp", "mallory", "evil")
	must(t, evil.Send("<c:message xmlns:c='jabber:client' xmlns='urn:evil' to='juliet@example.org/here'><subject>evil</subject>"+
		"<c:body>good</c:body><x><c:y xmlns:d='urn:d' d:a='1'/></x></c:message>"))
	n, err := juliet.Next()
	must(t, err)
	x := n.Child("urn:evil", "x")
	if n.Child("urn:evil", "subject") == nil || n.Child(harness.NSClient, "subject") != nil ||
		n.Child(harness.NSClient, "body") == nil || x == nil || x.Child(harness.NSClient, "y") == nil {
		t.Fatal(n)
	}
	// Prefixes become declarations; that must not multiply what was sent.
	long := strings.Repeat("n", 1000)
	if n := request(t, evil, "<c:iq xmlns:c='jabber:client' xmlns:p='urn:"+long+"' type='get' id='1' to='example.org'><q xmlns='urn:q'>"+
		strings.Repeat("<p:y/>", 30_000)+"</q></c:iq>"); n.Attr("type") != "error" || n.Child(harness.NSClient, "error").Child(harness.NSStanzas, "policy-violation") == nil {
		t.Fatal(n)
	}
	alive(t, evil)
}

// The language of a stream is written into each of its stanzas.
func TestLongStreamLanguageIsNotMultiplied(t *testing.T) {
	s := start(t, harness.Options{})
	juliet := login(t, s, "tcp", "juliet", "here")
	evil := loginLang(t, s, "tcp", "mallory", "evil", strings.Repeat("x", 5000))
	must(t, evil.Send("<message to='juliet@example.org/here'><body>hi</body></message>"))
	n, err := juliet.Next()
	must(t, err)
	for _, a := range n.Attrs {
		if len(a.Value) > 100 {
			t.Errorf("%s has %d octets", a.Name.Local, len(a.Value))
		}
	}
}
