package cpim

import (
	"errors"
	"strings"
	"testing"

	"trivium/bridges/cpim/message"
	"trivium/core/stanza"
)

// TestReceipts sends a message that asks for everything, and the answers back.
func TestReceipts(t *testing.T) {
	m := New(Options{Receipts: true, NoDateTime: true, Strict: true, Type: stanza.Chat})
	meta := Meta{Received: noon, StanzaID: "7d0e2a9b"}
	out := outgoing(t, "id='origin-1'", "<body>hi</body><request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>")
	b, err := m.AppendMessage(nil, out, meta)
	const want = "Content-Type: Message/CPIM\r\n\r\nFrom: <im:alice@xmpp.example>\r\nTo: <im:bob@im.example>\r\nDateTime: 2026-03-01T12:00:00Z\r\n" +
		"NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: origin-1\r\nimdn.Disposition-Notification: positive-delivery, negative-delivery, display\r\n\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nContent-ID: <7d0e2a9b@xmpp.example>\r\n\r\nhi"
	if err != nil || string(b) != want {
		t.Fatalf("%v\ngot  %q\nwant %q", err, b, want)
	}
	in, err := m.ReadMessage(string(b), Envelope{}, noon)
	if err != nil || len(in) != 1 {
		t.Fatalf("%v, %v", in, err)
	}
	sameXML(t, string(in[0].AppendDocument(nil)), "<message xmlns='jabber:client' from='alice@xmpp.example' to='bob@im.example' type='chat' id='origin-1'><body>hi</body><request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/></message>")

	for _, tt := range []struct{ sent, back string }{
		{"<received xmlns='urn:xmpp:receipts' id='origin-1'/>", "<received xmlns='urn:xmpp:receipts' id='origin-1'/>"},
		{"<displayed xmlns='urn:xmpp:chat-markers:0' id='&lt;origin&gt;'/>", "<displayed xmlns='urn:xmpp:chat-markers:0' id='&lt;origin&gt;'/>"},
		{"<composing xmlns='http://jabber.org/protocol/chatstates'/>", "<composing xmlns='http://jabber.org/protocol/chatstates'/>"},
		{"<paused xmlns='http://jabber.org/protocol/chatstates'/>", "<active xmlns='http://jabber.org/protocol/chatstates'/>"},
		{"<active xmlns='http://jabber.org/protocol/chatstates'/><received xmlns='urn:xmpp:receipts' id='1'/>", "<received xmlns='urn:xmpp:receipts' id='1'/>"},
	} {
		b, err := m.AppendMessage(nil, outgoing(t, "", tt.sent), meta)
		if err != nil {
			t.Errorf("%s: %v", tt.sent, err)
			continue
		}
		sts, err := m.ReadMessage(string(b), Envelope{}, noon)
		if err != nil || len(sts) != 1 || sts[0].Type != stanza.Chat {
			t.Errorf("%s: %v, %v", tt.sent, sts, err)
			continue
		}
		sameXML(t, "<x xmlns='urn:x'>"+sts[0].Payload()+"</x>", "<x xmlns='urn:x'>"+tt.back+"</x>")
		isIMDN := strings.Contains(tt.back, "id=")
		msg, err := message.Parse(string(b), message.Options{Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := msg.Content.Get("Content-Disposition"); isIMDN != (got == "notification") {
			t.Errorf("%s: disposition %q", tt.sent, got)
		}
		if _, asks := msg.Header("urn:ietf:params:imdn", "Disposition-Notification"); asks {
			t.Errorf("%s asks for a notification about a notification", tt.sent)
		}
	}
	for _, nothing := range []string{
		"<gone xmlns='http://jabber.org/protocol/chatstates'/>", "<received xmlns='urn:xmpp:receipts'/>", "<x xmlns='urn:x'/>",
	} {
		if b, err := m.AppendMessage(nil, outgoing(t, "", nothing), meta); !errors.Is(err, ErrNothing) {
			t.Errorf("%s: %q, %v", nothing, b, err)
		}
	}
}

func TestReceiptsAreOff(t *testing.T) {
	m := New(Options{})
	msg := content(t, Options{}, outgoing(t, "id='1'", "<body>hi</body><request xmlns='urn:xmpp:receipts'/>"), Meta{Received: noon})
	if len(msg.Headers) > 0 {
		t.Errorf("headers %v", msg.Headers)
	}
	in := "From: <im:b@x>\r\nTo: <im:a@y>\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n<imdn/>"
	if _, err := m.ReadMessage(in, Envelope{}, noon); condition(err) != "not-acceptable" {
		t.Errorf("a notification: %v", err)
	}
}

func TestFailureNotifications(t *testing.T) {
	m := New(Options{Receipts: true})
	object := func(kind, status string) string {
		return "From: <im:bob@im.example>\r\nTo: <im:alice@xmpp.example>\r\nNS: i <urn:ietf:params:imdn>\r\nRequire: i.Message-ID\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n" +
			"<imdn xmlns='urn:ietf:params:xml:ns:imdn'><message-id>m1</message-id><" + kind + "><status><" + status + "/></status></" + kind + "></imdn>"
	}
	for _, tt := range []struct{ kind, status, want string }{
		{"delivery-notification", "failed", "undefined-condition"},
		{"delivery-notification", "error", "undefined-condition"},
		{"delivery-notification", "forbidden", "forbidden"},
	} {
		sts, err := m.ReadMessage(object(tt.kind, tt.status), Envelope{}, noon)
		if err != nil || len(sts) != 1 || sts[0].Type != "error" || sts[0].ID != "m1" || !strings.Contains(sts[0].String(), "<"+tt.want+" ") {
			t.Errorf("%s: %v, %v", tt.status, sts, err)
		}
	}
	for _, kind := range []string{"processing-notification", "display-notification"} {
		if sts, err := m.ReadMessage(object(kind, "error"), Envelope{}, noon); !errors.Is(err, ErrNothing) {
			t.Errorf("%s: %v, %v", kind, sts, err)
		}
	}
	if _, err := m.ReadMessage(strings.Replace(object("x", "y"), "<imdn", "<other", 1), Envelope{}, noon); condition(err) != "bad-request" {
		t.Errorf("malformed: %v", err)
	}
}
