package pidf

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"trivium/bridges/cpim/internal/datetime"
	"trivium/core/stanza"
	"trivium/core/wire"
)

// AppendTo appends the document with its XML declaration (RFC 3863 §4.1: it must
// be there) and no white space that is not content. Characters that XML cannot
// carry become U+FFFD. The error is an *Error; dst is then returned as far as it
// got.
func (p *Presence) AppendTo(dst []byte) ([]byte, error) {
	if p.Entity == "" {
		return dst, refuse("no entity")
	}
	dst = append(dst, "<?xml version='1.0' encoding='UTF-8'?><presence xmlns='"+NS+"' entity='"...)
	dst = append(appendAttr(dst, p.Entity), "'>"...)
	for i := range p.Tuples {
		t := &p.Tuples[i]
		for k := range i {
			if p.Tuples[k].ID == t.ID { // RFC 3863 §4.1.2: unique
				return dst, refuse("two tuples of one id")
			}
		}
		var err error
		if dst, err = t.append(dst); err != nil {
			return dst, err
		}
	}
	dst = appendNotes(dst, p.Notes)
	for _, e := range p.Extensions {
		var err error
		if dst, err = appendExtension(dst, e); err != nil {
			return dst, err
		}
	}
	return append(dst, "</presence>"...), nil
}

// append writes a tuple in the order of the schema (RFC 3863 §4.4).
func (t *Tuple) append(dst []byte) ([]byte, error) {
	if !IsNCName(t.ID) {
		return dst, refuse("tuple id is no NCName")
	}
	dst = append(append(append(dst, "<tuple id='"...), t.ID...), "'><status>"...)
	switch t.Basic {
	case Open:
		dst = append(dst, "<basic>open</basic>"...)
	case Closed:
		dst = append(dst, "<basic>closed</basic>"...)
	case "":
		if t.Show == "" && t.IM == "" && len(t.Status) == 0 { // RFC 3863 §4.1.3
			return dst, refuse("status without a value")
		}
	default:
		return dst, refuse("basic status is neither open nor closed")
	}
	if t.Show != "" {
		dst = appendText(append(dst, "<show xmlns='"+stanza.NSClient+"'>"...), t.Show)
		dst = append(dst, "</show>"...)
	}
	if t.IM != "" {
		dst = appendText(append(dst, "<im:im xmlns:im='"+NSIM+"'>"...), t.IM)
		dst = append(dst, "</im:im>"...)
	}
	var err error
	for _, e := range t.Status {
		if dst, err = appendExtension(dst, e); err != nil {
			return dst, err
		}
	}
	dst = append(dst, "</status>"...)
	for _, e := range t.Extensions {
		if dst, err = appendExtension(dst, e); err != nil {
			return dst, err
		}
	}
	if t.Contact.URI != "" {
		if dst, err = t.Contact.append(dst); err != nil {
			return dst, err
		}
	}
	dst = appendNotes(dst, t.Notes)
	if !t.Timestamp.IsZero() {
		var ok bool
		if dst, ok = datetime.Append(append(dst, "<timestamp>"...), t.Timestamp); !ok {
			return dst, refuse("year of a timestamp has not four digits")
		}
		dst = append(dst, "</timestamp>"...)
	}
	return append(dst, "</tuple>"...), nil
}

func (c *Contact) append(dst []byte) ([]byte, error) {
	dst = append(dst, "<contact"...)
	if c.Ranked {
		if c.Priority < 0 || c.Priority > 1000 {
			return dst, refuse("priority is not between 0 and 1")
		}
		dst = append(dst, " priority='"...)
		switch c.Priority {
		case 0, 1000:
			dst = append(dst, '0'+byte(c.Priority/1000))
		default: // RFC 3863 §4.1.5: at most three decimals
			dst = append(dst, '0', '.', '0'+byte(c.Priority/100), '0'+byte(c.Priority/10%10), '0'+byte(c.Priority%10))
		}
		dst = append(dst, '\'')
	}
	dst = appendText(append(dst, '>'), c.URI)
	return append(dst, "</contact>"...), nil
}

func appendNotes(dst []byte, notes []Note) []byte {
	for _, n := range notes {
		dst = append(dst, "<note"...)
		if n.Lang != "" {
			dst = append(appendAttr(append(dst, " xml:lang='"...), n.Lang), '\'')
		}
		dst = appendText(append(dst, '>'), n.Text)
		dst = append(dst, "</note>"...)
	}
	return dst
}

// appendExtension writes an element of another namespace.
func appendExtension(dst []byte, e *stanza.Element) ([]byte, error) {
	if e.Space == NS || e.Space == stanza.NSXML { // RFC 3863 §4.2.4
		return dst, refuse("extension that is in the namespace of PIDF or of XML")
	}
	name := len(dst) + 1 + len(e.Local)
	dst = e.AppendXML(dst)
	if e.Space == stanza.NSClient { // left to be inherited, which it is not here
		const declaration = " xmlns='" + stanza.NSClient + "'"
		dst = append(dst, declaration...)
		copy(dst[name+len(declaration):], dst[name:])
		copy(dst[name:], declaration)
	}
	return dst, nil
}

func appendText(dst []byte, s string) []byte { return wire.AppendText(dst, carriable(s)) }
func appendAttr(dst []byte, s string) []byte { return wire.AppendAttr(dst, carriable(s)) }

// carriable returns s with U+FFFD for what XML cannot carry.
func carriable(s string) string {
	if wire.ValidText(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if wire.ValidText(string(r)) {
			return r
		}
		return utf8.RuneError
	}, s)
}

// IsNCName tells whether s is a name without a colon, as the ids of tuples are
// (Namespaces in XML §3; XML §2.3).
func IsNCName(s string) bool {
	for i, r := range s {
		if !nameStart(r) && (i == 0 || !nameRest(r)) || r == utf8.RuneError {
			return false
		}
	}
	return s != ""
}

func nameStart(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || r == '_'
	}
	return unicode.Is(nameStartChars, r)
}

func nameRest(r rune) bool {
	return '0' <= r && r <= '9' || r == '-' || r == '.' || r == 0xB7 || 0x300 <= r && r <= 0x36F || r == 0x203F || r == 0x2040
}

// nameStartChars is NameStartChar of XML §2.3 beyond ASCII.
var nameStartChars = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0xC0, Hi: 0xD6, Stride: 1},
		{Lo: 0xD8, Hi: 0xF6, Stride: 1},
		{Lo: 0xF8, Hi: 0x2FF, Stride: 1},
		{Lo: 0x370, Hi: 0x37D, Stride: 1},
		{Lo: 0x37F, Hi: 0x1FFF, Stride: 1},
		{Lo: 0x200C, Hi: 0x200D, Stride: 1},
		{Lo: 0x2070, Hi: 0x218F, Stride: 1},
		{Lo: 0x2C00, Hi: 0x2FEF, Stride: 1},
		{Lo: 0x3001, Hi: 0xD7FF, Stride: 1},
		{Lo: 0xF900, Hi: 0xFDCF, Stride: 1},
		{Lo: 0xFDF0, Hi: 0xFFFD, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0x10000, Hi: 0xEFFFF, Stride: 1}},
}
