package cpim

import (
	"strings"
	"unicode/utf8"

	"trivium/bridges/cpim/entity"
	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/wire"
)

// NSE2E is the namespace of objects that are signed or encrypted from end to end,
// RFC 3923 §3.
const NSE2E = "urn:ietf:params:xml:ns:xmpp-e2e"

// EndToEnd returns the MIME object that a message or presence carries in <e2e/>,
// octet for octet (RFC 3923 §3; RFC 3922 §4.1.8), and whether it carries one. It
// is sent on in place of the stanza.
func (m *Mapper) EndToEnd(st *stanza.Stanza) (object string, ok bool) {
	c, ok := st.Child(NSE2E, "e2e")
	if !ok {
		return "", false
	}
	object = c.Element().Text()
	if m.o.CRLF {
		object = canonical(object)
	}
	return object, true
}

// Protected puts an S/MIME object, header and body, into <e2e/> of a message or a
// directed presence, unmodified (RFC 3923 §3). XML cannot carry every octet, and
// turns CR LF into LF: crlf says that this is what happens to all lines of the
// object, so that it can be undone (Options.CRLF). The error is a *stanza.Error,
// not-acceptable: the object would not arrive as it is.
func (m *Mapper) Protected(kind stanza.Kind, object string, from, to jid.JID) (st *stanza.Stanza, crlf bool, err error) {
	if from.IsZero() || to.IsZero() {
		return nil, false, BadAddress.Error("a protected object needs a sender and a recipient")
	}
	if !utf8.ValidString(object) || !wire.ValidText(object) {
		return nil, false, BadContent.Error("the protected object holds octets that XML cannot carry")
	}
	lines, returns := strings.Count(object, "\n"), strings.Count(object, "\r")
	if returns > 0 && (returns != lines || strings.Count(object, "\r\n") != lines) {
		return nil, false, BadContent.Error("the protected object mixes line ends, which XML cannot carry")
	}
	text := strings.ReplaceAll(object, "\r\n", "\n")
	b := make([]byte, 0, len(text)+96)
	b = append(b, "<e2e xmlns='"+NSE2E+"'><![CDATA["...)
	b = append(b, strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>")...)
	b = append(b, "]]></e2e>"...)
	return stanza.New(kind, "", from, to, "", stanza.Raw(b)), returns > 0, nil
}

// isSMIME tells whether an entity is an S/MIME object (RFC 3923 §4, §5).
func isSMIME(m entity.MediaType) bool {
	switch m.Name {
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		return true
	case "multipart/signed":
		p, _ := m.Param("protocol")
		return strings.EqualFold(p, "application/pkcs7-signature") || strings.EqualFold(p, "application/x-pkcs7-signature")
	}
	return false
}

// encrypted names the scheme by which a child of a message is encrypted, "" if it
// is not.
func encrypted(c stanza.Child) string {
	switch {
	case c.Local == "encrypted" && (c.Space == "eu.siacs.conversations.axolotl" || strings.HasPrefix(c.Space, "urn:xmpp:omemo:")):
		return "OMEMO" // XEP-0384
	case c.Is("urn:xmpp:openpgp:0", "openpgp"), c.Is("jabber:x:encrypted", "x"):
		return "OpenPGP" // XEP-0373, XEP-0027
	case c.Is("urn:xmpp:eme:0", "encryption"), c.Is("http://www.xmpp.org/extensions/xep-0200.html#ns", "c"):
		return "end-to-end encryption" // XEP-0380, XEP-0200
	}
	return ""
}

// isOTR tells whether a body is an OTR data message or a fragment of one
// (XEP-0364 §3).
func isOTR(body string) bool {
	return strings.HasPrefix(body, "?OTR:") || strings.HasPrefix(body, "?OTR,") || strings.HasPrefix(body, "?OTR|")
}
