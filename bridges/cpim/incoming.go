package cpim

import (
	"strings"
	"time"
	"unicode/utf8"

	"trivium/bridges/cpim/entity"
	"trivium/bridges/cpim/imdn"
	"trivium/bridges/cpim/message"
	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/wire"
)

// ReadMessage reads a Message/CPIM object and maps it: message.Parse and Stanzas.
func (m *Mapper) ReadMessage(text string, env Envelope, now time.Time) ([]*stanza.Stanza, error) {
	msg, err := m.parse(text, env)
	if err != nil {
		return nil, err
	}
	return m.Stanzas(msg, env, now)
}

func (m *Mapper) parse(text string, env Envelope) (*message.Message, error) {
	msg, err := message.Parse(text, message.Options{
		Strict: m.o.Strict, NoRecipient: !env.To.IsZero(),
		MaxHeaders: m.o.MaxHeaders, MaxHeaderBytes: m.o.MaxHeaderBytes,
	})
	return msg, failed(err)
}

// Stanzas maps a message to one stanza for each recipient: RFC 3922 §4.2. The
// error is a *stanza.Error, whose condition tells the other side why nothing was
// delivered, or ErrNothing for a notification that XMPP has no word for.
func (m *Mapper) Stanzas(msg *message.Message, env Envelope, now time.Time) ([]*stanza.Stanza, error) {
	from, err := m.sender(msg, env)
	if err != nil {
		return nil, err
	}
	recipients, err := m.recipients(msg, env)
	if err != nil {
		return nil, err
	}
	// RFC 3922 §4.2.7: it would be asked of the recipient's client, of which we
	// know nothing.
	for _, n := range msg.Require {
		if !m.understands(n) {
			return nil, Mandatory.Error("the message requires " + quoted(n.Local))
		}
	}
	if m.o.Lost != nil {
		m.reportHeaders(msg)
	}
	if isSMIME(msg.Content.ContentType()) { // RFC 3922 §4.2.9
		out := make([]*stanza.Stanza, len(recipients))
		for i, to := range recipients {
			if out[i], _, err = m.Protected(stanza.Message, msg.Content.Source(), from, to); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	if m.o.Receipts {
		if st, ok, err := m.readNotice(msg, from, recipients[0]); ok || err != nil {
			return toEach(st, from, recipients), err
		}
	}
	text, lang, err := m.text(&msg.Content)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(text)+64)
	for i, s := range msg.Subjects {
		first := true
		for _, earlier := range msg.Subjects[:i] {
			first = first && earlier.Lang != s.Lang
		}
		if first { // RFC 6121 §5.2.4: one for each language
			b = appendText(b, "subject", s.Lang, readable(s.Text))
		}
	}
	b = appendText(b, "body", lang, text)
	if m.o.Delay && !msg.DateTime.IsZero() && now.Sub(msg.DateTime) > time.Minute {
		// XEP-0203 §4; the DateTime is the word of the sender's side.
		delay := stanza.El("urn:xmpp:delay", "delay").Set("from", from.Domain())
		b = delay.Set("stamp", msg.DateTime.Format("2006-01-02T15:04:05.999Z")).AppendXML(b)
	}
	if m.o.Nick && msg.From.Name != "" {
		b = stanza.TextEl("http://jabber.org/protocol/nick", "nick", msg.From.Name).AppendXML(b)
	}
	id := idOf(&msg.Content)
	if m.o.Receipts {
		id, b = readAsked(msg, id, b)
	}
	first := stanza.New(stanza.Message, m.o.Type, from, recipients[0], id, stanza.Raw(b))
	return toEach(first, from, recipients), nil
}

// toEach returns a stanza for each recipient, nil for no stanza.
func toEach(first *stanza.Stanza, from jid.JID, recipients []jid.JID) []*stanza.Stanza {
	if first == nil {
		return nil
	}
	out := make([]*stanza.Stanza, 1, len(recipients))
	out[0] = first
	for _, to := range recipients[1:] {
		out = append(out, first.Readdressed(from, to))
	}
	return out
}

// understands tells whether the gateway itself does what Require names.
func (m *Mapper) understands(n message.Name) bool {
	if m.o.Receipts && (n.Is(imdn.HeaderNS, "Message-ID") || n.Is(imdn.HeaderNS, "Disposition-Notification")) {
		return true
	}
	return m.o.Understood != nil && m.o.Understood(n.Space, n.Local)
}

// sender returns who the message is from. Only a trusted peer may say someone else
// than its transport does.
func (m *Mapper) sender(msg *message.Message, env Envelope) (jid.JID, error) {
	from, err := account(msg.From.URI)
	if err == nil && !env.From.IsZero() && !env.Trusted && env.From.Bare() != from {
		err = NotAllowed.Error("the message is from someone else than its transport says")
	}
	return from, err
}

// recipients returns whom the message is for, each once: who the transport says, or
// else those of ours in To. RFC 3922 §4.2.3 leaves cc out.
func (m *Mapper) recipients(msg *message.Message, env Envelope) ([]jid.JID, error) {
	if !env.To.IsZero() {
		return []jid.JID{env.To.Bare()}, nil
	}
	out := make([]jid.JID, 0, 1)
	var failure error
	for _, a := range msg.To {
		to, err := account(a.URI)
		switch {
		case err != nil:
			failure = err
		case m.o.Ours != nil && !m.o.Ours(to.Domain()):
			if failure == nil {
				failure = NoRoute.Error("no recipient is of a domain here")
			}
		case !contains(out, to):
			out = append(out, to)
		}
	}
	if len(out) == 0 {
		return nil, failure
	}
	return out, nil
}

func contains(list []jid.JID, j jid.JID) bool {
	for _, other := range list {
		if other == j {
			return true
		}
	}
	return false
}

// text returns the body that content becomes, with its language: RFC 3922 §4.2.9.
// Nothing but plain text may become a body.
func (m *Mapper) text(e *entity.Entity) (text, lang string, err error) {
	mt := e.ContentType()
	switch mt.Name {
	case "text/plain":
		if !m.charset(mt) {
			return "", "", BadContent.Error("the text is neither in us-ascii nor in utf-8")
		}
	case "multipart/alternative":
		parts, err := e.Parts(!m.o.Strict)
		if err != nil {
			return "", "", failed(err)
		}
		for i := len(parts) - 1; i >= 0; i-- { // RFC 2046 §5.1.4: the last is the best
			if mt := parts[i].ContentType(); mt.Name == "text/plain" && m.charset(mt) {
				m.lose("alternative", "only plain text is mapped")
				return m.text(parts[i])
			}
		}
		return "", "", BadContent.Error("none of the alternatives is plain text")
	case "":
		return "", "", Malformed.Error("the content has no media type")
	case "multipart/encrypted", "multipart/signed", "application/pgp-encrypted":
		return "", "", BadContent.Error("protected content of this kind cannot be carried unchanged")
	default:
		return "", "", BadContent.Error("content of type " + quoted(mt.Name) + " cannot be a message body")
	}
	if text, err = e.Decode(m.o.MaxBody); err != nil {
		return "", "", failed(err)
	}
	if !utf8.ValidString(text) {
		return "", "", BadContent.Error("the text is not in the charset that it declares")
	}
	if l := e.Get("Content-Language"); message.ValidLang(l) { // a list names none
		lang = l
	}
	return readable(text), lang, nil
}

// charset tells whether text of this type can be read: RFC 3922 §4.2.9. Without a
// charset it is us-ascii (RFC 2046 §4.1.2), of which utf-8 is an extension.
func (m *Mapper) charset(mt entity.MediaType) bool {
	cs, ok := mt.Param("charset")
	return !ok || strings.EqualFold(cs, "utf-8") || strings.EqualFold(cs, "us-ascii")
}

// idOf returns the Content-ID without its brackets, RFC 3922 §4.2.8.
func idOf(e *entity.Entity) string {
	id := e.Get("Content-ID")
	if len(id) < 3 || id[0] != '<' || id[len(id)-1] != '>' || strings.ContainsAny(id, " \t") || len(id) > 1024 {
		return ""
	}
	return carriable(id[1 : len(id)-1])
}

// appendText appends a child that holds text.
func appendText(b []byte, name, lang, text string) []byte {
	b = append(append(b, '<'), name...)
	if lang != "" { // message.ValidLang: nothing to escape
		b = append(append(append(b, " xml:lang='"...), lang...), '\'')
	}
	b = wire.AppendText(append(b, '>'), text)
	return append(append(append(b, "</"...), name...), '>')
}

// reportHeaders says what Stanzas leaves behind.
func (m *Mapper) reportHeaders(msg *message.Message) {
	if len(msg.Cc) > 0 {
		m.lose("cc", "is not passed on") // RFC 3922 §4.2.3
	}
	if !msg.DateTime.IsZero() && !m.o.Delay {
		m.lose("DateTime", "is not passed on") // RFC 3922 §4.2.4
	}
	for _, h := range msg.Headers {
		if m.o.Receipts && h.Space == imdn.HeaderNS {
			continue
		}
		m.lose(h.Local+" of "+h.Space, "further headers are not passed on") // RFC 3922 §4.2.6
	}
}
