package wire

import (
	"bytes"
	"strings"
)

// maxDeclaration bounds the octets of an XML declaration.
const maxDeclaration = 256

// declaration checks the XML declaration at the start of d (XML §2.8, RFC 6120
// §11.5). It returns its length, or 0 if more octets are needed.
func (s *Scanner) declaration(d []byte) int {
	const open = "<?xml"
	if n := min(len(d), len(open)); string(d[:n]) != open[:n] {
		s.fail(RestrictedXML, "processing instruction", 0)
		return 0
	} else if n < len(open) || len(d) == len(open) {
		return 0
	}
	if !isSpace(d[len(open)]) && d[len(open)] != '?' {
		s.fail(RestrictedXML, "processing instruction", 0)
		return 0
	}
	end := bytes.Index(d[:min(len(d), maxDeclaration)], []byte("?>"))
	if end < 0 {
		if len(d) >= maxDeclaration {
			s.fail(PolicyViolation, "XML declaration too long", maxDeclaration)
		}
		return 0
	}
	p := pseudo{rest: d[len(open):end]}
	version, ok := p.next("version")
	if !ok || version != "1.0" { // RFC 6120 §11.8
		s.fail(NotWellFormed, "XML declaration without version 1.0", len(open))
		return 0
	}
	encoding, hasEncoding := p.next("encoding")
	// The standalone declaration has no meaning in a stream (RFC 6120 §11.5).
	standalone, hasStandalone := p.next("standalone")
	switch {
	case hasEncoding && !isEncName(encoding),
		hasStandalone && standalone != "yes" && standalone != "no",
		len(bytes.TrimLeft(p.rest, " \t\r\n")) > 0:
		s.fail(NotWellFormed, "malformed XML declaration", len(open))
		return 0
	case hasEncoding && !strings.EqualFold(encoding, "UTF-8"): // RFC 6120 §11.6
		s.fail(UnsupportedEncoding, "declared encoding is not UTF-8", len(open))
		return 0
	}
	return end + len("?>")
}

// pseudo reads the name="value" pairs of an XML declaration.
type pseudo struct{ rest []byte }

// next returns the value of the next pair if its name is the one given.
func (p *pseudo) next(name string) (string, bool) {
	const space = " \t\r\n"
	r := bytes.TrimLeft(p.rest, space)
	if len(r) == len(p.rest) || !bytes.HasPrefix(r, []byte(name)) {
		return "", false
	}
	r = bytes.TrimLeft(r[len(name):], space)
	if len(r) == 0 || r[0] != '=' {
		return "", false
	}
	r = bytes.TrimLeft(r[1:], space)
	if len(r) == 0 || r[0] != '\'' && r[0] != '"' {
		return "", false
	}
	end := bytes.IndexByte(r[1:], r[0])
	if end < 0 {
		return "", false
	}
	p.rest = r[1+end+1:]
	return string(r[1 : 1+end]), true
}

// isEncName is production EncName of XML §4.3.3.
func isEncName(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return s != ""
}
