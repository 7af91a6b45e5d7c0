package message

import (
	"strings"
	"unicode/utf8"

	"trivium/bridges/cpim/entity"
	"trivium/bridges/cpim/internal/datetime"
)

// Options say what Parse accepts. The zero value is the default.
type Options struct {
	// Strict refuses what RFC 3862 forbids but the field sends: a missing empty
	// line before the content, lines that end in LF, CC for cc, white space where
	// there must be none, addresses with unencoded characters, text/cpim.
	Strict bool
	// NoRecipient accepts an object without To, when the transport names the
	// recipient.
	NoRecipient bool

	MaxHeaders     int // 0: 64
	MaxHeaderBytes int // octets of all message headers; 0: 65536
	MaxBytes       int // octets of the object; 0: no limit but the caller's own
}

// Parse reads one object, with or without the outer header that declares it. The
// result shares the memory of text. The error is an *Error.
func Parse(text string, o Options) (*Message, error) {
	if o.MaxHeaders == 0 {
		o.MaxHeaders = 64
	}
	if o.MaxHeaderBytes == 0 {
		o.MaxHeaderBytes = 1 << 16
	}
	if o.MaxBytes > 0 && len(text) > o.MaxBytes {
		return nil, &Error{Reason: "object too large", Err: ErrTooLarge}
	}
	text, err := unwrap(text, o)
	if err != nil {
		return nil, err
	}
	r := reader{o: o, space: NS, m: new(Message)}
	content, err := r.headers(text)
	if err != nil {
		return nil, err
	}
	switch m := r.m; {
	case m.From.URI == "":
		return nil, refuse("From", "missing")
	case len(m.To) == 0 && !o.NoRecipient:
		return nil, refuse("To", "missing")
	}
	if err := r.m.Content.Read(content, !o.Strict); err != nil {
		return nil, &Error{Reason: "content", Err: err}
	}
	if r.m.Content.Get("Content-Type") == "" { // RFC 3862 §2.4
		return nil, refuse("", "content without Content-Type")
	}
	return r.m, nil
}

// unwrap takes the outer MIME header off, if there is one.
func unwrap(text string, o Options) (string, error) {
	const usual = "Content-Type: " + ContentType + "\r\n\r\n"
	if len(text) >= len(usual) && strings.EqualFold(text[:len(usual)], usual) {
		return text[len(usual):], nil
	}
	name, _, _ := strings.Cut(text[:min(len(text), 100)], ":")
	if !startsContent(name) {
		return text, nil
	}
	outer, err := entity.Parse(text, !o.Strict)
	if err != nil {
		return "", &Error{Reason: "outer header", Err: err}
	}
	switch outer.ContentType().Name {
	case "message/cpim":
	case "text/cpim": // COMPAT(msrp): printed in an example of RFC 7702
		if o.Strict {
			return "", refuse("", "declared as text/cpim")
		}
	default:
		return "", refuse("", "declared as something else")
	}
	// RFC 3862 §5.2: on a transport of seven bits the object is encoded as a whole.
	body, err := outer.Decode(len(text))
	if err != nil {
		return "", &Error{Reason: "outer header", Err: err}
	}
	return body, nil
}

// A reader is one run of Parse.
type reader struct {
	o        Options
	m        *Message
	space    string // default namespace, RFC 3862 §3.4
	prefixes []binding
	dated    bool
}

// headers reads the message headers and returns the content behind them.
func (r *reader) headers(text string) (content string, err error) {
	rest := text
	for n := 0; ; n++ {
		start := rest
		i := strings.IndexByte(rest, '\n')
		if i < 0 {
			return "", refuse("", "headers without end")
		}
		line := rest[:i]
		rest = rest[i+1:]
		if strings.HasSuffix(line, "\r") {
			line = line[:i-1]
		} else if r.o.Strict { // COMPAT: bare LF
			return "", refuse("", "line does not end in CR LF")
		}
		if len(text)-len(rest) > r.o.MaxHeaderBytes || n > r.o.MaxHeaders {
			return "", &Error{Reason: "too many headers", Err: ErrTooLarge}
		}
		if line == "" {
			return rest, nil
		}
		colon := strings.IndexByte(line, ':')
		if colon <= 0 {
			return "", refuse("", "line that is no header")
		}
		name := line[:colon]
		if (name[0]|0x20 == 'c' || name[0]|0x20 == 'm') && startsContent(name) {
			// COMPAT(sip): the examples of RFC 4975, 5438, 7701 and 7702 lack the
			// empty line between the headers and the content.
			if r.o.Strict {
				return "", refuse("", "no empty line before the content")
			}
			return start, nil
		}
		if err := r.header(name, line[colon+1:]); err != nil {
			return "", err
		}
	}
}

// header reads one header; value begins behind the colon.
func (r *reader) header(name, value string) error {
	high := false
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c < ' ' || c == 0x7f {
			return refuse("", "control character in a header")
		}
		high = high || c >= utf8.RuneSelf
	}
	if high && !utf8.ValidString(value) {
		return refuse("", "header is not UTF-8")
	}
	prefix, local, ok := strings.Cut(name, ".")
	if !ok {
		prefix, local = "", name
	} else if !all(prefix, nameChar) {
		return refuse("", "malformed header name")
	}
	if !all(local, nameChar) {
		return refuse("", "malformed header name")
	}
	params, value, err := r.params(local, value)
	if err != nil {
		return err
	}
	n := Name{Space: r.namespace(prefix), Local: local, Prefix: prefix}
	// NS and Require are the framework itself: without a prefix they mean what
	// they mean even where NS has put unprefixed names into another namespace.
	if n.Space == NS || prefix == "" && (local == "NS" || local == "Require") {
		if done, err := r.core(local, params, value); done || err != nil {
			return err
		}
	}
	if n.Space == "" {
		return nil // RFC 3862 §2.2: not understood, ignored
	}
	h := Header{Name: n, Params: params, Value: value}
	for i := range params {
		if p := &params[i]; p.Name == "lang" && !ValidLang(p.Value) {
			if r.o.Strict {
				return refuse(local, "malformed language tag")
			}
			h.Params = append(append([]Param(nil), params[:i]...), params[i+1:]...)
			break
		}
	}
	r.m.Headers = append(r.m.Headers, h)
	return nil
}

// namespace returns what a prefix stands for, "" if it has not been declared.
func (r *reader) namespace(prefix string) string {
	if prefix == "" {
		return r.space
	}
	for i := len(r.prefixes) - 1; i >= 0; i-- {
		if r.prefixes[i].prefix == prefix {
			return r.prefixes[i].space
		}
	}
	return ""
}

// params reads the parameters that stand before the value.
func (r *reader) params(header, s string) (params []Param, value string, err error) {
	for strings.HasPrefix(s, ";") {
		name, rest, ok := strings.Cut(s[1:], "=")
		if !ok || !all(name, nameChar) {
			return nil, "", refuse(header, "malformed parameter")
		}
		p := Param{Name: name}
		if strings.HasPrefix(rest, `"`) {
			if p.Value, rest, ok = cutString(rest); !ok {
				return nil, "", refuse(header, "string without end")
			}
		} else {
			end := strings.IndexAny(rest, "; ")
			if end < 0 {
				end = len(rest)
			}
			p.Value, rest = rest[:end], rest[end:]
			if !isToken(p.Value) {
				return nil, "", refuse(header, "malformed parameter")
			}
		}
		for _, q := range params {
			if q.Name == p.Name {
				return nil, "", refuse(header, "parameter twice")
			}
		}
		params = append(params, p)
		s = rest
	}
	// RFC 3862 §2.2: one space, and no other white space at the end of a line.
	value = strings.Trim(s, " ")
	if r.o.Strict && (len(value)+1 != len(s) || s[0] != ' ') {
		return nil, "", refuse(header, "white space")
	}
	return params, value, nil
}

// cutString cuts a String off s and decodes it.
func cutString(s string) (value, rest string, ok bool) {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return unescape(s[1:i]), s[i+1:], true
		}
	}
	return "", "", false
}

// core reads the headers of RFC 3862 §4; done says whether this was one.
func (r *reader) core(name string, params []Param, value string) (done bool, err error) {
	m := r.m
	switch name {
	case "From":
		if m.From.URI != "" {
			return true, refuse(name, "more than one")
		}
		m.From, err = r.address(name, value)
	case "To":
		var a Address
		if a, err = r.address(name, value); len(m.To) == 0 {
			m.oneTo[0] = a
			m.To = m.oneTo[:]
		} else {
			m.To = append(m.To, a)
		}
	case "cc", "CC":
		if name == "CC" && r.o.Strict { // COMPAT(msrp): the spelling of RFC 4975
			return false, nil
		}
		var a Address
		a, err = r.address("cc", value)
		m.Cc = append(m.Cc, a)
	case "DateTime":
		t, ok := datetime.Parse(value)
		if r.o.Strict && (!ok || r.dated) {
			return true, refuse(name, "malformed or repeated")
		}
		if ok && !r.dated {
			m.DateTime, r.dated = t, true
		}
	case "Subject":
		s := Subject{Text: strings.Trim(unescape(value), " ")}
		for _, p := range params {
			if p.Name == "lang" {
				s.Lang = p.Value
			}
		}
		if s.Lang != "" && !ValidLang(s.Lang) {
			if r.o.Strict {
				return true, refuse(name, "malformed language tag")
			}
			s.Lang = ""
		}
		switch {
		case s.Text == "": // says nothing, and cannot be written
		case len(m.Subjects) == 0:
			m.oneSubject[0] = s
			m.Subjects = m.oneSubject[:]
		default:
			m.Subjects = append(m.Subjects, s)
		}
	case "NS":
		err = r.declare(value)
	case "Require":
		err = r.require(value)
	default:
		return false, nil
	}
	return true, err
}

// declare reads NS: RFC 3862 §4.6.
func (r *reader) declare(value string) error {
	i := strings.IndexByte(value, '<')
	if i < 0 || !strings.HasSuffix(value, ">") {
		return refuse("NS", "malformed")
	}
	uri, err := r.uri("NS", value[i+1:len(value)-1])
	if err != nil {
		return err
	}
	// The grammar has no space before the bracket, the examples have one.
	prefix := strings.Trim(value[:i], " ")
	if prefix == "" {
		r.space = uri
		return nil
	}
	if !all(prefix, nameChar) {
		return refuse("NS", "malformed prefix")
	}
	r.prefixes = append(r.prefixes, binding{prefix, uri})
	return nil
}

// require reads Require: RFC 3862 §4.7. A name whose prefix is unknown stays in
// the list: it is required all the same.
func (r *reader) require(value string) error {
	for value != "" {
		name, rest, _ := strings.Cut(value, ",")
		value = rest
		if !r.o.Strict {
			name = strings.Trim(name, " ")
		}
		prefix, local, ok := strings.Cut(name, ".")
		if !ok {
			prefix, local = "", name
		}
		if !all(local, nameChar) || ok && !all(prefix, nameChar) {
			return refuse("Require", "malformed name")
		}
		if len(r.m.Require) == r.o.MaxHeaders {
			return &Error{Header: "Require", Reason: "too many names", Err: ErrTooLarge}
		}
		r.m.Require = append(r.m.Require, Name{Space: r.namespace(prefix), Local: local, Prefix: prefix})
	}
	return nil
}

// address reads From, To and cc: RFC 3862 §4.1 to §4.3.
func (r *reader) address(header, value string) (a Address, err error) {
	rest := value
	if strings.HasPrefix(rest, `"`) {
		var ok bool
		if a.Name, rest, ok = cutString(rest); !ok {
			return a, refuse(header, "string without end")
		}
		if !r.o.Strict { // COMPAT(sip): a space before the bracket
			rest = strings.TrimLeft(rest, " ")
		}
		if !strings.HasPrefix(rest, "<") {
			return a, refuse(header, "malformed")
		}
	} else {
		i := strings.IndexByte(rest, '<')
		if i < 0 {
			return a, refuse(header, "address without brackets")
		}
		if i > 0 {
			if name := rest[:i-1]; rest[i-1] == ' ' && isWords(name) {
				a.Name = name
			} else if r.o.Strict {
				return a, refuse(header, "malformed Formal-name")
			} else {
				a.Name = strings.Trim(unescape(rest[:i]), " ")
			}
		}
		rest = rest[i:]
	}
	end := strings.IndexByte(rest, '>')
	if end < 0 {
		return a, refuse(header, "address without brackets")
	}
	uri, tail := rest[1:end], rest[end+1:]
	if tail != "" {
		// COMPAT(sip): RFC 7702 prints the parameter gr behind the bracket.
		if r.o.Strict || !strings.HasPrefix(tail, ";gr=") {
			return a, refuse(header, "something behind the address")
		}
		uri += tail
	}
	a.URI, err = r.uri(header, uri)
	return a, err
}

// uri checks a URI and, in lenient reading, encodes what must not stand in it.
func (r *reader) uri(header, s string) (string, error) {
	if absolute(s) {
		return s, nil
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if r.o.Strict || !ok || rest == "" || !isScheme(scheme) {
		return "", refuse(header, "no absolute URI")
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+16)
	b = append(append(b, scheme...), ':')
	for i := 0; i < len(rest); i++ {
		if c := rest[i]; c < utf8.RuneSelf && classes[c]&uriChar != 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b), nil
}
