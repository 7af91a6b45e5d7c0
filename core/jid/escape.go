package jid

import "strings"

const hexDigits = "0123456789abcdef"

// Escape transforms a foreign name, such as the local part of an email address,
// into a localpart (XEP-0106 §3.2, §4.2): the characters that localparts cannot
// have become a backslash and two hexadecimal digits. Unescape undoes it. The
// result still has to be prepared.
//
// A space at either end stays, since XEP-0106 §3.2 has no escape for it there;
// preparation then refuses the localpart.
func Escape(s string) string {
	if !strings.ContainsAny(s, " \"&'/:<>@\\") {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i := 0; i < len(s); i++ {
		c := s[i]
		escape := excluded(c)
		switch c {
		case ' ':
			escape = i > 0 && i < len(s)-1
		case '\\':
			// XEP-0106 §4.1 rule 7: a backslash is escaped where it would be read
			// as an escape. Upper case counts too: preparation makes it lower.
			if len(s)-i >= 3 {
				_, escape = sequence(strings.ToLower(s[i : i+3]))
			}
		}
		if escape {
			b.WriteByte('\\')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// Unescape shows a localpart as its owner spells it (XEP-0106 §3.3), for people
// and for foreign networks. The result is no localpart and is never compared
// (§4.1 rules 4 and 5). Only the ten lower case escapes are undone; \20 at either
// end is no escape.
func Unescape(s string) string {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	b.WriteString(s[:i])
	for i < len(s) {
		if len(s)-i >= 3 {
			c, ok := sequence(s[i : i+3])
			if ok && (c != ' ' || i > 0 && i+3 < len(s)) {
				b.WriteByte(c)
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

// sequence decodes one of the escapes in the table of XEP-0106 §3.3.
func sequence(s string) (byte, bool) {
	if s[0] != '\\' {
		return 0, false
	}
	hi, lo := strings.IndexByte(hexDigits, s[1]), strings.IndexByte(hexDigits, s[2])
	if hi < 0 || lo < 0 {
		return 0, false
	}
	c := byte(hi<<4 | lo)
	return c, c == ' ' || c == '\\' || excluded(c)
}
