package message

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"trivium/bridges/cpim/internal/datetime"
)

// AppendTo appends the object with the header that declares it, "Content-Type:
// Message/CPIM". The error is an *Error and says what the format cannot hold; dst
// is then returned as far as it got.
func (m *Message) AppendTo(dst []byte) ([]byte, error) {
	return m.AppendPayload(append(dst, "Content-Type: "+ContentType+"\r\n\r\n"...))
}

// AppendPayload is AppendTo without that header, for transports whose own header
// gives the media type.
func (m *Message) AppendPayload(dst []byte) ([]byte, error) {
	var err error
	if dst, err = appendAddress(dst, "From", m.From); err != nil {
		return dst, err
	}
	if len(m.To) == 0 {
		return dst, refuse("To", "missing")
	}
	for _, a := range m.To {
		if dst, err = appendAddress(dst, "To", a); err != nil {
			return dst, err
		}
	}
	for _, a := range m.Cc {
		if dst, err = appendAddress(dst, "cc", a); err != nil {
			return dst, err
		}
	}
	if !m.DateTime.IsZero() {
		var ok bool
		if dst, ok = datetime.Append(append(dst, "DateTime: "...), m.DateTime); !ok {
			return dst, refuse("DateTime", "year has not four digits")
		}
		dst = append(dst, '\r', '\n')
	}
	for _, s := range m.Subjects {
		if dst, err = appendSubject(dst, s); err != nil {
			return dst, err
		}
	}
	if len(m.Headers) > 0 || len(m.Require) > 0 {
		if dst, err = m.appendOthers(dst); err != nil {
			return dst, err
		}
	}
	dst = append(dst, '\r', '\n')
	if dst, err = m.Content.AppendTo(dst); err != nil {
		return dst, &Error{Reason: "content", Err: err}
	}
	return dst, nil
}

// appendAddress writes From, To or cc: RFC 3862 §4.1 to §4.3.
func appendAddress(dst []byte, header string, a Address) ([]byte, error) {
	if a.URI == "" {
		return dst, refuse(header, "missing")
	}
	if !absolute(a.URI) {
		return dst, refuse(header, "address is no absolute URI")
	}
	dst = append(dst, header...)
	dst = append(dst, ':', ' ')
	switch {
	case a.Name == "":
	case !utf8.ValidString(a.Name):
		return dst, refuse(header, "name is not UTF-8")
	case isWords(a.Name):
		dst = append(append(dst, a.Name...), ' ')
	default: // The grammar has no space between String and bracket.
		dst = append(dst, '"')
		dst = append(appendEscaped(dst, a.Name, true), '"')
	}
	dst = append(dst, '<')
	dst = append(dst, a.URI...)
	return append(dst, ">\r\n"...), nil
}

// appendSubject writes a Subject: RFC 3862 §4.5. A line neither begins nor ends
// with white space (§2.2), so neither does a subject.
func appendSubject(dst []byte, s Subject) ([]byte, error) {
	switch {
	case s.Text == "":
		return dst, refuse("Subject", "empty")
	case strings.Trim(s.Text, " ") != s.Text:
		return dst, refuse("Subject", "space at the end")
	case !utf8.ValidString(s.Text):
		return dst, refuse("Subject", "text is not UTF-8")
	}
	dst = append(dst, "Subject:"...)
	if s.Lang != "" {
		if !ValidLang(s.Lang) {
			return dst, refuse("Subject", "malformed language tag")
		}
		dst = append(append(dst, ";lang="...), s.Lang...)
	}
	dst = append(dst, ' ')
	dst = appendEscaped(dst, s.Text, false)
	return append(dst, '\r', '\n'), nil
}

// A binding is a prefix for a namespace in one message.
type binding struct{ prefix, space string }

// appendOthers writes the namespace declarations, the further headers and Require,
// each prefix before its use (RFC 3862 §3.4).
func (m *Message) appendOthers(dst []byte) ([]byte, error) {
	var bound []binding
	for i := range m.Headers {
		bound = bind(bound, m.Headers[i].Name)
	}
	for _, n := range m.Require {
		bound = bind(bound, n)
	}
	for _, b := range bound {
		if !absolute(b.space) {
			return dst, refuse("NS", "namespace is no absolute URI")
		}
		dst = append(append(dst, "NS: "...), b.prefix...)
		dst = append(append(dst, " <"...), b.space...)
		dst = append(dst, ">\r\n"...)
	}
	var err error
	for i := range m.Headers {
		h := &m.Headers[i]
		if h.Space == NS && (isCore(h.Local) || startsContent(h.Local)) {
			return dst, refuse(h.Local, "not a name for a further header")
		}
		if dst, err = appendName(dst, bound, h.Name); err != nil {
			return dst, err
		}
		dst = append(dst, ':')
		for _, p := range h.Params {
			if dst, err = appendParam(dst, p); err != nil {
				return dst, err
			}
		}
		if !validValue(h.Value) {
			return dst, refuse(h.Local, "value cannot be written")
		}
		dst = append(append(dst, ' '), h.Value...)
		dst = append(dst, '\r', '\n')
	}
	for i, n := range m.Require {
		if i == 0 {
			dst = append(dst, "Require: "...)
		} else {
			dst = append(dst, ',')
		}
		if dst, err = appendName(dst, bound, n); err != nil {
			return dst, err
		}
	}
	if len(m.Require) > 0 {
		dst = append(dst, '\r', '\n')
	}
	return dst, nil
}

// bind makes sure that n's namespace has a prefix, n's own if that is free.
func bind(bound []binding, n Name) []binding {
	if n.Space == NS || n.Space == "" {
		return bound
	}
	prefix, free := n.Prefix, all(n.Prefix, nameChar)
	for _, b := range bound {
		if b.space == n.Space {
			return bound
		}
		free = free && b.prefix != prefix
	}
	for i := len(bound); !free; i++ {
		prefix, free = "ns"+strconv.Itoa(i), true
		for _, b := range bound {
			free = free && b.prefix != prefix
		}
	}
	return append(bound, binding{prefix, n.Space})
}

func appendName(dst []byte, bound []binding, n Name) ([]byte, error) {
	if n.Space == "" {
		return dst, refuse(n.Local, "no namespace")
	}
	if !all(n.Local, nameChar) {
		return dst, refuse("", "malformed header name")
	}
	for _, b := range bound {
		if b.space == n.Space {
			dst = append(append(dst, b.prefix...), '.')
			break
		}
	}
	return append(dst, n.Local...), nil
}

func appendParam(dst []byte, p Param) ([]byte, error) {
	switch {
	case !all(p.Name, nameChar):
		return dst, refuse("", "malformed parameter name")
	case p.Name == "lang" && !ValidLang(p.Value):
		return dst, refuse("", "malformed language tag")
	case !utf8.ValidString(p.Value):
		return dst, refuse("", "parameter is not UTF-8")
	}
	dst = append(append(append(dst, ';'), p.Name...), '=')
	if isToken(p.Value) {
		return append(dst, p.Value...), nil
	}
	dst = append(dst, '"')
	return append(appendEscaped(dst, p.Value, true), '"'), nil
}

// validValue tells whether s can be the value of a header as it is. It may be
// empty, but then the line ends with the space that has to stand there.
func validValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return strings.Trim(s, " ") == s && utf8.ValidString(s)
}

// isCore tells whether a header of the default namespace has a meaning here.
func isCore(name string) bool {
	switch name {
	case "From", "To", "cc", "DateTime", "Subject", "NS", "Require":
		return true
	}
	return false
}

// startsContent tells whether a line of this name belongs to MIME, not to CPIM.
func startsContent(name string) bool {
	const content = "content-"
	return len(name) >= len(content) && strings.EqualFold(name[:len(content)], content) || strings.EqualFold(name, "MIME-Version")
}
