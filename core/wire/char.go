package wire

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
	"unsafe"
)

// Classes of octets. Octets from 0x80 on have only classHigh.
const (
	className  uint8 = 1 << iota // NameChar, without the colon
	classStart                   // NameStartChar, without the colon
	classSpace                   // S
	classPlain                   // may stand in character data with no further look
	classBare                    // AppendAttr leaves it as it is
	classHigh                    // part of a sequence of several octets
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		switch {
		case c >= 0x80:
			t[c] = classHigh | classBare
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
			t[c] = className | classStart
		case c >= '0' && c <= '9', c == '-', c == '.':
			t[c] = className
		case c == ' ', c == '\t', c == '\n', c == '\r':
			t[c] = classSpace
		}
		if c == '\t' || c == '\n' || c == '\r' || c >= 0x20 && c != '<' && c != '&' && c != '>' {
			t[c] |= classPlain
		}
		if c >= 0x20 && c != '<' && c != '&' && c != '>' && c != '\'' && c != '"' {
			t[c] |= classBare
		}
	}
	return t
}()

// runeAt returns the character at d[i], which highLen has found to be one.
func runeAt(d []byte, i int) rune {
	r, _ := utf8.DecodeRune(d[i:])
	return r
}

func isSpace(c byte) bool { return class[c]&classSpace != 0 }

// Eight octets at a time: ones and highs are the lowest and highest bit of each.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// zeros sets the high bit of each octet of x that is zero. Octets above a zero
// one may be marked too, so only the lowest mark counts.
func zeros(x uint64) uint64 { return (x - ones) &^ x & highs }

// scanText returns the position of the first octet from i on that plain
// character data cannot go past: '<', '&', the '>' of "]]>", an octet that is
// no XML character, or the start of an incomplete or invalid sequence. It looks
// back two octets from i.
func scanText(d []byte, i int) int {
	for i < len(d) {
		if len(d)-i >= 8 {
			x := load(d, i)
			// '<' and '>' differ in one bit; controls are below 0x20.
			stop := zeros((x|2*ones)^'>'*ones) | zeros(x^'&'*ones) | (x-0x20*ones)&^x&highs | x&highs
			if stop == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(stop) >> 3
		}
		c := d[i]
		switch {
		case class[c]&classPlain != 0:
			i++
		case c >= 0x80:
			for i < len(d) && d[i] >= 0x80 {
				n := highLen(d, i)
				if n == 0 {
					return i
				}
				i += n
			}
		case c == '>' && !(i >= 2 && d[i-1] == ']' && d[i-2] == ']'): // XML §2.4
			i++
		default:
			return i
		}
	}
	return i
}

// scanValue is scanText for an attribute value in the given quotes: it stops at
// the closing quote, '<', '&' or anything invalid.
func scanValue(d []byte, i int, quote byte) int {
	quotes := uint64(quote) * ones
	for i < len(d) {
		if len(d)-i >= 8 {
			x := load(d, i)
			stop := zeros(x^'<'*ones) | zeros(x^'&'*ones) | zeros(x^quotes) | (x-0x20*ones)&^x&highs | x&highs
			if stop == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(stop) >> 3
		}
		c := d[i]
		switch {
		case c == quote:
			return i
		case class[c]&classPlain != 0, c == '>':
			i++
		case c >= 0x80:
			for i < len(d) && d[i] >= 0x80 {
				n := highLen(d, i)
				if n == 0 {
					return i
				}
				i += n
			}
		default:
			return i
		}
	}
	return i
}

// scanCDATA returns the position of the first ']' from i on, or of the first
// octet that is no XML character.
func scanCDATA(d []byte, i int) int {
	for i < len(d) {
		if len(d)-i >= 8 {
			x := load(d, i)
			stop := zeros(x^']'*ones) | (x-0x20*ones)&^x&highs | x&highs
			if stop == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(stop) >> 3
		}
		c := d[i]
		switch {
		case c == ']':
			return i
		case c >= 0x80:
			n := highLen(d, i)
			if n == 0 {
				return i
			}
			i += n
		case c >= 0x20 || isSpace(c):
			i++
		default:
			return i
		}
	}
	return i
}

func load(d []byte, i int) uint64 { return binary.LittleEndian.Uint64(d[i:]) }

// octets is s for reading.
func octets(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// highLen returns the length of the character from U+0080 on at d[i], which is
// at least 0x80, or 0 if the octets are incomplete, not UTF-8 (RFC 3629 §4), or
// not an XML character (XML §2.2).
func highLen(d []byte, i int) int {
	c := d[i]
	switch {
	case c < 0xC2: // a continuation, or overlong
		return 0
	case c < 0xE0:
		if i+1 < len(d) && d[i+1]&0xC0 == 0x80 {
			return 2
		}
	case c < 0xF0:
		if i+2 >= len(d) || d[i+1]&0xC0 != 0x80 || d[i+2]&0xC0 != 0x80 {
			return 0
		}
		switch c {
		case 0xE0:
			if d[i+1] < 0xA0 { // overlong
				return 0
			}
		case 0xED:
			if d[i+1] >= 0xA0 { // surrogates
				return 0
			}
		case 0xEF:
			if d[i+1] == 0xBF && d[i+2] >= 0xBE { // U+FFFE, U+FFFF
				return 0
			}
		}
		return 3
	case c < 0xF5:
		if i+3 >= len(d) || d[i+1]&0xC0 != 0x80 || d[i+2]&0xC0 != 0x80 || d[i+3]&0xC0 != 0x80 ||
			c == 0xF0 && d[i+1] < 0x90 || c == 0xF4 && d[i+1] >= 0x90 {
			return 0
		}
		return 4
	}
	return 0
}

// cut reports whether d[i:] is the beginning of a sequence that more octets
// could complete.
func cut(d []byte, i int) bool { return d[i] >= 0x80 && !utf8.FullRune(d[i:]) }

// isChar is production Char of XML §2.2.
func isChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' ||
		r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= 0x10FFFF
}
