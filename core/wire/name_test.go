package wire

import (
	"encoding/xml"
	"strings"
	"testing"
	"unicode/utf8"
)

// Productions [4] and [4a] of XML 1.0 Fifth Edition §2.3, from U+0080 on.
func TestNameProductions(t *testing.T) {
	type ranges [][2]rune
	start := ranges{
		{0xC0, 0xD6},
		{0xD8, 0xF6},
		{0xF8, 0x2FF},
		{0x370, 0x37D},
		{0x37F, 0x1FFF},
		{0x200C, 0x200D},
		{0x2070, 0x218F},
		{0x2C00, 0x2FEF},
		{0x3001, 0xD7FF},
		{0xF900, 0xFDCF},
		{0xFDF0, 0xFFFD},
		{0x10000, 0xEFFFF},
	}
	rest := ranges{{0xB7, 0xB7}, {0x300, 0x36F}, {0x203F, 0x2040}}
	in := func(rs ranges, r rune) bool {
		for _, p := range rs {
			if p[0] <= r && r <= p[1] {
				return true
			}
		}
		return false
	}
	for r := rune(0x80); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		if isNameStart(r) != in(start, r) || isNameChar(r) != (in(start, r) || in(rest, r)) {
			t.Errorf("%U: start %v, char %v", r, isNameStart(r), isNameChar(r))
		}
	}
}

// encoding/xml, like libexpat, has the names of the Fourth Edition, and all of
// them are names of the Fifth.
func TestEarlyNames(t *testing.T) {
	names := func(s string) bool {
		_, err := xml.NewDecoder(strings.NewReader(s)).Token()
		return err == nil
	}
	for r := rune(0x80); r <= 0x10FFFF; r++ {
		if r == 0x10100 {
			r = 0xEFFF0 // nothing there
		}
		if !isChar(r) {
			continue
		}
		start, rest := names("<"+string(r)+"/>"), names("<a"+string(r)+"/>")
		if isEarlyName(r, true) != start || isEarlyName(r, false) != rest {
			t.Errorf("%U: start %v, want %v; rest %v, want %v", r, isEarlyName(r, true), start, isEarlyName(r, false), rest)
		}
		if start && !isNameStart(r) || rest && !isNameChar(r) {
			t.Errorf("%U is no name in the Fifth Edition", r)
		}
	}
}
