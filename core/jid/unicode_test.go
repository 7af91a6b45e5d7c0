package jid

import (
	"slices"
	"testing"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// derived is the derived property of RFC 5892 §3, computed from the Unicode
// tables, for code points outside ASCII: 'P' for PVALID, 'C' for the contextual
// ones, 'D' for DISALLOWED and UNASSIGNED.
func derived(r rune) byte {
	switch { // §2.6, Exceptions
	case slices.Contains([]rune{0xdf, 0x3c2, 0x6fd, 0x6fe, 0xf0b, 0x3007}, r):
		return 'P'
	case slices.Contains([]rune{0xb7, 0x375, 0x5f3, 0x5f4, 0x30fb}, r), r >= 0x660 && r <= 0x669, r >= 0x6f0 && r <= 0x6f9:
		return 'C'
	case slices.Contains([]rune{0x640, 0x7fa, 0x302e, 0x302f, 0x3031, 0x3032, 0x3033, 0x3034, 0x3035, 0x303b}, r):
		return 'D'
	}
	nfkc := norm.NFKC.String
	switch {
	case unicode.Is(unicode.Join_Control, r): // §2.8
		return 'C'
	case nfkc(cases.Fold().String(nfkc(string(r)))) != string(r): // §2.2, Unstable
		return 'D'
	case unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.White_Space): // §2.3
		return 'D'
	case r >= 0x20d0 && r <= 0x20ff, r >= 0x1d100 && r <= 0x1d24f: // §2.4, IgnorableBlocks
		return 'D'
	case r >= 0x1100 && r <= 0x11ff, r >= 0xa960 && r <= 0xa97f, r >= 0xd7b0 && r <= 0xd7ff: // §2.9, OldHangulJamo
		return 'D'
	case unicode.In(r, unicode.Ll, unicode.Lu, unicode.Lo, unicode.Nd, unicode.Lm, unicode.Mn, unicode.Mc): // §2.1
		return 'P'
	}
	return 'D'
}

// Every code point there is, but for a sample of the uniform ranges, in each part: what is accepted is stable;
// domains take from code points outside ASCII what RFC 5892 allows, and localparts
// none that RFC 7622 bars.
func TestEveryCodePoint(t *testing.T) {
	accepted := 0
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		if r%61 != 0 && (unicode.In(r, unicode.Han, unicode.Hangul, unicode.Co) ||
			!unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.C)) {
			continue // a sample of the large and uniform ranges, and of the unassigned
		}
		if r >= 0x10000 && r%7 != 0 {
			continue // and of the historic scripts
		}
		for _, in := range []string{string(r) + "@b", "x" + string(r) + "@b", "b/x" + string(r), "b/" + string(r), "x" + string(r) + ".b", string(r) + ".b"} {
			j, err := Parse(in)
			if err != nil {
				continue
			}
			if again, err := Parse(j.String()); err != nil || again != j {
				t.Errorf("%U: %q, then %q, %v", r, j, again, err)
			}
			for _, mapped := range j.Domain() {
				if mapped >= 0x80 && derived(mapped) == 'D' {
					t.Errorf("%U: the domain of %q is made of %U", r, j, mapped)
				}
			}
		}
		// The other way round: nothing that RFC 5892 allows is refused, unless by
		// the rules for marks and for direction, which look at the neighbours.
		if derived(r) != 'P' || unicode.In(r, unicode.M) || rightToLeft(r) || norm.NFC.String(string(r)) != string(r) {
			continue
		}
		got, err := PrepareDomain("x" + string(r))
		if err != nil || got != "x"+string(r) {
			t.Errorf("%U is PVALID, but PrepareDomain says %q, %v", r, got, err)
		}
		accepted++
	}
	if accepted < 5000 {
		t.Errorf("only %d code points were tried as PVALID", accepted)
	}
}

// rightToLeft holds for the blocks whose characters are, and for digits that the
// Bidi Rule treats alike; they do not go after an 'x'.
func rightToLeft(r rune) bool {
	return r >= 0x590 && r <= 0x8ff || r >= 0xfb1d && r <= 0xfdff || r >= 0xfe70 && r <= 0xfeff ||
		r >= 0x10800 && r <= 0x10fff || r >= 0x1e800 && r <= 0x1efff
}
