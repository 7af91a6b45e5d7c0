package jid

// What an ASCII octet may be in a part that is in normal form already.
const (
	inLocal    = 1 << iota // RFC 7622 §3.3, no upper case
	inLabel                // letter or digit of an LDH label
	inResource             // RFC 7622 §3.4
)

// normal classes the octets. Everything from 0x80 up is 0 and leaves the fast
// path.
var normal = [256]uint8(func() []uint8 {
	t := make([]uint8, 256)
	for c := ' '; c <= '~'; c++ {
		t[c] = inResource // RFC 8264 §9.11: FreeformClass has ASCII7 and space
		if c > ' ' && !(c >= 'A' && c <= 'Z') && !excluded(byte(c)) {
			t[c] |= inLocal
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			t[c] |= inLabel
		}
	}
	return t
}())

// excluded reports whether RFC 7622 §3.3.1 bars the octet from localparts.
func excluded(c byte) bool {
	switch c {
	case '"', '&', '\'', '/', ':', '<', '>', '@':
		return true
	}
	return false
}

// parseNormal recognises an address that is ASCII and in normal form, in one
// pass. It returns false for everything that needs a closer look, wrong or not.
func parseNormal(s string) (JID, bool) {
	var local, start int
	i := 0
	for i < len(s) && normal[s[i]]&inLocal != 0 {
		i++
	}
	if i < len(s) && s[i] == '@' {
		if i == 0 || i > MaxPart {
			return JID{}, false
		}
		local, start = i, i+1
	}
	end, ok := normalDomain(s, start)
	if !ok {
		return JID{}, false
	}
	if end < len(s) {
		if s[end] != '/' || !normalResource(s[end+1:]) {
			return JID{}, false
		}
	}
	return JID{s: s, local: uint16(local), domain: uint16(end)}, true
}

// normalDomain finds where the LDH name in s that begins at start ends, and
// whether it is one in normal form. What follows is for the caller to judge.
func normalDomain(s string, start int) (end int, ok bool) {
	label, i := start, start
	for ; i < len(s); i++ {
		c := s[i]
		if normal[c]&inLabel != 0 {
			continue
		}
		if c == '-' {
			// RFC 5890 §2.3.1: no hyphen at the ends; "--" in the third and
			// fourth place reserves the label (xn-- among them).
			if i == label || i == label+3 && s[i-1] == '-' {
				return 0, false
			}
			continue
		}
		if c != '.' {
			break
		}
		if i == label || s[i-1] == '-' || i-label > maxLabel {
			return 0, false
		}
		label = i + 1
	}
	if i == label || s[i-1] == '-' || i-label > maxLabel || i-start > maxName {
		return 0, false
	}
	return i, true
}

func normalResource(s string) bool {
	// RFC 7622 §3.5, example 18: no leading space.
	if s == "" || len(s) > MaxPart || s[0] == ' ' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if normal[s[i]]&inResource == 0 {
			return false
		}
	}
	return true
}
