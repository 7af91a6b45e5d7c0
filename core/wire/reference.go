package wire

// reference checks the reference at d[i], which is '&' (XML §4.1). It returns the
// character and the reference's length, or 0 when more octets are needed or
// s.err is set.
func (s *Scanner) reference(d []byte, i int) (rune, int) {
	most := i + int(s.lim.name)
	window := d[:min(len(d), most)]
	r, n, verdict := parseReference(window[i:])
	switch {
	case verdict == refGood:
		return r, n
	case verdict == refCut && len(window) == most:
		s.fail(PolicyViolation, "reference too long", i)
	case verdict == refEntity:
		// RFC 6120 §11.1: only the predefined entities.
		s.fail(RestrictedXML, "reference to an entity that is not predefined", i)
	case verdict == refBad:
		s.fail(NotWellFormed, "malformed reference or invalid character", i)
	}
	return 0, 0
}

type refVerdict uint8

const (
	refGood   refVerdict = iota
	refCut               // more octets are needed
	refEntity            // well-formed, but no predefined entity
	refBad
)

// parseReference reads the reference at d[0], which is '&'.
func parseReference(d []byte) (r rune, n int, verdict refVerdict) {
	if len(d) < 2 {
		return 0, 0, refCut
	}
	i := 1
	if d[1] != '#' {
		for i < len(d) && d[i] != ';' {
			c := d[i]
			switch {
			case c == ':' || class[c]&classStart != 0 || i > 1 && class[c]&className != 0:
				i++
			case c >= 0x80:
				size := highLen(d, i)
				if size == 0 {
					if cut(d, i) {
						return 0, 0, refCut
					}
					return 0, 0, refBad
				}
				if ch := runeAt(d, i); !isNameChar(ch) || i == 1 && !isNameStart(ch) {
					return 0, 0, refBad
				}
				i += size
			default:
				return 0, 0, refBad
			}
		}
		if i == len(d) {
			return 0, 0, refCut
		}
		switch string(d[1:i]) { // XML §4.6
		case "amp":
			r = '&'
		case "lt":
			r = '<'
		case "gt":
			r = '>'
		case "quot":
			r = '"'
		case "apos":
			r = '\''
		case "":
			return 0, 0, refBad
		default:
			return 0, 0, refEntity
		}
		return r, i + 1, refGood
	}
	base := rune(10)
	i = 2
	if i < len(d) && d[i] == 'x' {
		base = 16
		i++
	}
	digits := i
	for ; i < len(d); i++ {
		c := d[i]
		var v rune
		switch {
		case c >= '0' && c <= '9':
			v = rune(c - '0')
		case base == 16 && c >= 'a' && c <= 'f':
			v = rune(c-'a') + 10
		case base == 16 && c >= 'A' && c <= 'F':
			v = rune(c-'A') + 10
		case c == ';' && i > digits && isChar(r): // XML §4.1, Legal Character
			return r, i + 1, refGood
		default:
			return 0, 0, refBad
		}
		if r = r*base + v; r > 0x10FFFF {
			return 0, 0, refBad
		}
	}
	return 0, 0, refCut
}
