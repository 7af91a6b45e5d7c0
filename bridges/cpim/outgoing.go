package cpim

import (
	"errors"
	"strings"
	"time"

	"trivium/bridges/cpim/entity"
	"trivium/bridges/cpim/message"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// plainText is the type of what a body becomes: RFC 3922 §4.1.
const plainText = "text/plain; charset=utf-8"

// Meta is what the server knows of a message beside its stanza.
type Meta struct {
	// Received is when the message came; zero if unknown.
	Received time.Time
	// StanzaID is the id that the server itself has given (XEP-0359), unique in
	// the domain of the sender; may be empty.
	StanzaID string
	// Original is when the message was sent that a receipt is about; zero if
	// unknown, Received then stands in for it.
	Original time.Time
	// MaxForwards is how often the message may still be forwarded. It counts if
	// Forwarded is set: the message came out of CPIM.
	MaxForwards int
	Forwarded   bool
}

// An Object is what goes to the other side: a message, or an end-to-end object in
// its own format.
type Object struct {
	Message  *message.Message // nil: EndToEnd
	EndToEnd string           // header and body, not to be touched
}

// AppendTo appends the object with the MIME header that tells what it is.
func (o *Object) AppendTo(dst []byte) ([]byte, error) {
	if o.Message == nil {
		return append(dst, o.EndToEnd...), nil
	}
	return o.Message.AppendTo(dst)
}

// AppendMessage is Message and Object.AppendTo with the limit of the other side.
func (m *Mapper) AppendMessage(dst []byte, st *stanza.Stanza, meta Meta) ([]byte, error) {
	start := len(dst)
	o, err := m.Message(st, meta)
	if err != nil {
		return dst, err
	}
	if dst, err = o.AppendTo(dst); err != nil {
		return dst[:start], failed(err)
	}
	if m.o.MaxObject > 0 && len(dst)-start > m.o.MaxObject {
		return dst[:start], TooLarge.Error("the message is too large for the other side")
	}
	return dst, nil
}

// Message maps a message stanza: RFC 3922 §4.1. The error is a *stanza.Error for
// the sender, or ErrNothing.
func (m *Mapper) Message(st *stanza.Stanza, meta Meta) (*Object, error) {
	switch {
	case st.Kind != stanza.Message, st.Type == stanza.TypeError:
		return nil, ErrNothing
	case st.Type == stanza.GroupChat:
		return nil, Mandatory.Error("rooms are not carried over CPIM")
	}
	if object, ok := m.EndToEnd(st); ok { // RFC 3922 §4.1.8
		return &Object{EndToEnd: object}, nil
	}
	parts, err := m.collect(st)
	report := m.o.Receipts && errors.Is(err, ErrNothing)
	if err != nil && !report {
		return nil, err
	}
	msg := &message.Message{Subjects: parts.subjects}
	if report {
		if err := m.notice(msg, st, meta); err != nil {
			return nil, err
		}
	}
	if msg.From, err = m.headerURI(st.From); err != nil {
		return nil, err
	}
	to, err := m.headerURI(st.To)
	if err != nil {
		return nil, err
	}
	msg.To = []message.Address{to}
	msg.Cc = parts.copies
	if !m.o.NoDateTime {
		msg.DateTime = meta.Received
		if !parts.stamp.IsZero() {
			msg.DateTime = parts.stamp
		}
	}
	if !report {
		if err := m.fill(&msg.Content, st, parts.bodies, meta.StanzaID); err != nil {
			return nil, err
		}
		if m.o.Receipts {
			m.askReceipts(msg, st, meta)
		}
	}
	if m.o.Lost != nil {
		m.report(st)
	}
	return &Object{Message: msg}, nil
}

// A body is one <body/> with its effective language.
type body struct{ text, lang string }

// parts is what a message stanza holds that can be mapped.
type parts struct {
	subjects []message.Subject
	bodies   []body
	copies   []message.Address
	stamp    time.Time
}

// collect reads the children of a message stanza.
func (m *Mapper) collect(st *stanza.Stanza) (p parts, err error) {
	secret := ""
	st.Each(func(c stanza.Child) bool {
		switch {
		case c.Is(stanza.NSClient, "body"):
			text, lang := textOf(c)
			if isOTR(text) {
				secret = "OTR"
			}
			if lang == "" {
				lang = st.Lang
			}
			p.bodies = append(p.bodies, body{text, lang})
		case c.Is(stanza.NSClient, "subject"):
			text, lang := textOf(c)
			if lang != "" && !message.ValidLang(lang) {
				m.lose("subject language", "is no language tag")
				lang = ""
			}
			// A line of headers does not end in a space, nor begin with one.
			if text = strings.Trim(text, " "); text != "" {
				p.subjects = append(p.subjects, message.Subject{Lang: lang, Text: text})
			}
		case c.Is("urn:xmpp:delay", "delay"), c.Is("jabber:x:delay", "x"):
			if p.stamp.IsZero() || c.Local == "delay" {
				if t := stampOf(c.Element().Attr("stamp")); !t.IsZero() {
					p.stamp = t
				}
			}
		case c.Is("http://jabber.org/protocol/address", "addresses") && m.o.Copies:
			p.copies, err = m.copies(c.Element())
			return err == nil
		default:
			if s := encrypted(c); s != "" && (secret == "" || secret == "end-to-end encryption") {
				secret = s
			}
		}
		return true
	})
	switch {
	case err != nil:
	case secret != "" && (!m.o.EncryptedFallback || secret == "OTR" || len(p.bodies) == 0):
		// The body of such a message says that it is encrypted, if it has one.
		err = BadContent.Error("this contact cannot read messages encrypted with " + secret)
	case len(p.bodies) == 0:
		err = ErrNothing
	}
	return p, err
}

// stampOf reads the stamp of XEP-0203 or that of XEP-0091 (CCYYMMDDThh:mm:ss).
func stampOf(s string) time.Time {
	for _, layout := range []string{time.RFC3339, "20060102T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil && t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 {
			return t.UTC()
		}
	}
	return time.Time{}
}

// copies makes cc of XEP-0033 addresses; RFC 3922 §4.1.9 leaves that to us.
func (m *Mapper) copies(e *stanza.Element) ([]message.Address, error) {
	var out []message.Address
	for _, a := range e.Children("http://jabber.org/protocol/address", "address") {
		if a.Attr("type") != "cc" {
			continue
		}
		j, err := jid.Parse(a.Attr("jid"))
		if err != nil {
			m.lose("cc", "is no address")
			continue
		}
		addr, err := m.headerURI(j)
		if err != nil {
			m.lose("cc", "has no im: address")
			continue
		}
		out = append(out, addr)
	}
	return out, nil
}

// fill makes the content of the bodies: RFC 3922 §4.1.7.
func (m *Mapper) fill(e *entity.Entity, st *stanza.Stanza, bodies []body, id string) error {
	chosen := bodies[0]
	if len(bodies) > 1 {
		if m.o.Alternative {
			return fillAll(e, st, bodies, id)
		}
		for _, b := range bodies {
			if b.lang == st.Lang {
				chosen = b
				break
			}
		}
		m.lose("body", "is in another language")
	}
	*e = *entity.New(plainText, canonical(chosen.text))
	e.Add("Content-ID", contentID(id, st.From))
	if message.ValidLang(chosen.lang) {
		e.Add("Content-Language", chosen.lang)
	}
	return nil
}

// fillAll makes a multipart/alternative, the language of the stanza last: the last
// part is the preferred one (RFC 2046 §5.1.4).
func fillAll(e *entity.Entity, st *stanza.Stanza, bodies []body, id string) error {
	var alternatives, preferred []*entity.Entity
	for _, b := range bodies {
		part := entity.New(plainText, canonical(b.text))
		if message.ValidLang(b.lang) {
			part.Add("Content-Language", b.lang)
		}
		if b.lang == st.Lang && preferred == nil {
			preferred = append(preferred, part)
		} else {
			alternatives = append(alternatives, part)
		}
	}
	whole, err := entity.Multipart("alternative", append(alternatives, preferred...)...)
	if err != nil {
		return failed(err)
	}
	*e = *whole.Add("Content-ID", contentID(id, st.From))
	return nil
}

// contentID makes a Content-ID of an id that is unique in a domain: RFC 3922
// §4.1.3. It is empty if the id cannot stand in one.
func contentID(id string, from jid.JID) string {
	for i := 0; i < len(id); i++ {
		c := id[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("-_+=.", c) < 0 {
			return ""
		}
	}
	if id == "" || id[0] == '.' || id[len(id)-1] == '.' || strings.Contains(id, "..") {
		return ""
	}
	return "<" + id + "@" + from.Domain() + ">"
}

// report says what Message has left behind.
func (m *Mapper) report(st *stanza.Stanza) {
	if st.ID != "" {
		m.lose("id", "is not unique in the world") // RFC 3922 §4.1.3
	}
	if st.Type != "" && st.Type != stanza.Normal {
		m.lose("type", "has no counterpart") // RFC 3922 §4.1.4
	}
	st.Each(func(c stanza.Child) bool {
		switch {
		case c.Is(stanza.NSClient, "body"), c.Is(stanza.NSClient, "subject"), c.Is("urn:xmpp:delay", "delay"):
		case m.o.Receipts && (c.Space == nsReceipts || c.Space == nsMarkers || c.Space == nsStates):
		case c.Space == stanza.NSClient:
			m.lose(c.Local, "has no counterpart") // thread: RFC 3922 §4.1.5
		default:
			m.lose(c.Local+" of "+c.Space, "extensions are not mapped") // RFC 3922 §4.1.8
		}
		return true
	})
}
