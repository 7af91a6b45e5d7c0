package jid

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/secure/precis"
)

// RFC 7622 §3.2 keeps the limits of RFC 1034 §3.1, which count the ASCII form:
// 63 octets in a label and 255 in a name, as sent; the latter leave 253 when
// written with dots.
const (
	maxLabel = 63
	maxName  = 253
)

// PrepareLocal prepares a localpart by the UsernameCaseMapped profile of RFC
// 8265 §3.3 and the further exclusions of RFC 7622 §3.3.1. The result has 1 to
// 1023 octets. The error is an *Error.
func PrepareLocal(s string) (string, error) {
	upper, plain := false, true
	for i := 0; i < len(s); i++ {
		if c := s[i]; normal[c]&inLocal == 0 {
			if c >= 'A' && c <= 'Z' {
				upper = true
				continue
			}
			plain = false
			break
		}
	}
	switch {
	case plain && upper:
		s = strings.ToLower(s)
	case !plain:
		var err error
		if s, err = enforce(precis.UsernameCaseMapped, Localpart, s); err != nil {
			return "", err
		}
		for i := 0; i < len(s); i++ {
			if excluded(s[i]) {
				return "", &Error{Part: Localpart, Reason: "has an excluded character"}
			}
		}
	}
	return s, checkLength(Localpart, s)
}

// PrepareResource prepares a resourcepart by the OpaqueString profile of RFC
// 8265 §4.2. The result has 1 to 1023 octets and does not begin with a space
// (RFC 7622 §3.5, example 18). The error is an *Error.
func PrepareResource(s string) (string, error) {
	if normalResource(s) {
		return s, nil
	}
	s, err := enforce(precis.OpaqueString, Resourcepart, s)
	if err != nil {
		return "", err
	}
	if s != "" && s[0] == ' ' {
		return "", &Error{Part: Resourcepart, Reason: "begins with a space"}
	}
	return s, checkLength(Resourcepart, s)
}

// PrepareDomain prepares a domainpart: an IPv4 address, an IPv6 address in
// brackets, or a name of NR-LDH labels and U-labels (RFC 7622 §3.2). A-labels
// become U-labels; one final dot goes. An underscore is in neither kind of
// label, so a name with one is refused. The error is an *Error.
func PrepareDomain(s string) (string, error) {
	// RFC 7622 §3.2: the final dot goes before anything else is done.
	s = strings.TrimSuffix(s, ".")
	if end, ok := normalDomain(s, 0); ok && end == len(s) {
		return s, nil // an IPv4 address is one of these, and has one spelling
	}
	if strings.HasPrefix(s, "[") {
		return prepareIPv6(s)
	}
	if s == "" {
		return "", &Error{Part: Domainpart, Reason: "is empty"}
	}
	if !utf8.ValidString(s) {
		return "", &Error{Part: Domainpart, Reason: "is not UTF-8"}
	}
	if len(s) > 4*MaxPart {
		return "", &Error{Part: Domainpart, Reason: "is too long"} // whatever it maps to
	}
	return prepareName(s)
}

// prepareIPv6 reads RFC 6874's IP-literal. Addresses of the future (IPvFuture)
// are refused: nobody can connect to one.
func prepareIPv6(s string) (string, error) {
	malformed := &Error{Part: Domainpart, Reason: "is no IPv6 address in brackets"}
	literal, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", malformed
	}
	literal, zone, hasZone := strings.Cut(literal, "%25")
	ip, err := netip.ParseAddr(literal)
	if err != nil || !ip.Is6() || ip.Zone() != "" {
		return "", malformed
	}
	if !hasZone {
		return "[" + ip.String() + "]", nil // RFC 5952: one spelling
	}
	// RFC 6874 §2: ZoneID is unreserved characters. Percent-encoding more than
	// the separator would give a zone two spellings.
	for i := 0; i < len(zone); i++ {
		if c := zone[i]; normal[c]&inLabel == 0 && !(c >= 'A' && c <= 'Z') && !strings.ContainsRune("-._~", rune(c)) {
			return "", malformed
		}
	}
	if zone == "" || len(zone) > maxLabel {
		return "", malformed
	}
	return "[" + ip.String() + "%25" + zone + "]", nil
}

// label maps width, case and normal form as RFC 5895 §2 says, and then admits
// the code points of PRECIS' IdentifierClass, which for non-ASCII are those of
// RFC 5892 §3 but for what ignorable catches. It includes the contextual rules
// of RFC 5892 Appendix A. Cherokee, which RFC 5895 maps to a lower case that RFC
// 5892 does not allow, is left without domain names.
var label = precis.NewIdentifier(precis.FoldWidth, precis.LowerCase())

// dots are the label separators that RFC 5895 §2.3 maps.
var dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")

func prepareName(s string) (string, error) {
	labels := strings.Split(dots.Replace(s), ".")
	for i, l := range labels {
		var err error
		if labels[i], err = enforce(label, Domainpart, l); err != nil {
			return "", err
		}
		if labels[i] == "" {
			return "", &Error{Part: Domainpart, Reason: "has an empty label"}
		}
	}
	// Registration maps nothing: it decodes A-labels (RFC 7622 §3.2.1) and
	// checks the labels by RFC 5891 §4.2 and the name by the Bidi Rule.
	s, err := idna.Registration.ToUnicode(strings.Join(labels, "."))
	if err != nil {
		return "", &Error{Part: Domainpart, Reason: "is no internationalised domain name", Err: err}
	}
	for l := range strings.SplitSeq(s, ".") {
		if err := checkLabel(l); err != nil {
			return "", err
		}
	}
	if ascii, err := idna.Registration.ToASCII(s); err != nil || len(ascii) > maxName {
		return "", &Error{Part: Domainpart, Reason: "is too long for the DNS", Err: err}
	}
	return s, checkLength(Domainpart, s)
}

// checkLabel admits NR-LDH labels and U-labels (RFC 5890 §2.3), where package
// idna, following UTS 46, admits more.
func checkLabel(l string) error {
	bad := func(reason string) error { return &Error{Part: Domainpart, Reason: reason} }
	runes := []rune(l)
	if len(runes) == 0 {
		return bad("has an empty label")
	}
	if runes[0] == '-' || runes[len(runes)-1] == '-' {
		return bad("has a label with a hyphen at an end")
	}
	if len(runes) >= 4 && runes[2] == '-' && runes[3] == '-' {
		return bad("has a reserved label") // RFC 5891 §4.2.3.1
	}
	for _, r := range runes {
		if r < utf8.RuneSelf && normal[r]&inLabel == 0 && r != '-' || unicode.Is(ignorable, r) {
			return bad("has a character not allowed in domain names")
		}
	}
	// Once more for what came out of an A-label.
	if mapped, err := label.String(l); err != nil || mapped != l {
		return &Error{Part: Domainpart, Reason: "has a label that is no U-label", Err: err}
	}
	return nil
}

// ignorable is the blocks of RFC 5892 §2.4 (IgnorableBlocks), whose marks the
// IdentifierClass lets through.
var ignorable = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x20d0, Hi: 0x20ff, Stride: 1}},
	R32: []unicode.Range32{{Lo: 0x1d100, Hi: 0x1d1ff, Stride: 1}, {Lo: 0x1d200, Hi: 0x1d24f, Stride: 1}},
}

// enforce applies the profile to s until the result is stable. RFC 8264 §7:
// profiles need not be idempotent, and four applications are enough.
func enforce(p *precis.Profile, part Part, s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", &Error{Part: part, Reason: "is not UTF-8"}
	}
	if len(s) > 4*MaxPart {
		return "", &Error{Part: part, Reason: "is too long"} // whatever it maps to
	}
	for range 4 {
		out, err := p.String(s)
		if err != nil {
			return "", &Error{Part: part, Reason: "has a character that is not allowed", Err: err}
		}
		if out == s {
			return s, nil
		}
		s = out
	}
	return "", &Error{Part: part, Reason: "has no stable normal form"}
}

// checkLength counts octets after preparation (RFC 7622 §3.2, §3.3, §3.4).
func checkLength(part Part, s string) error {
	switch {
	case s == "":
		return &Error{Part: part, Reason: "is empty"}
	case len(s) > MaxPart:
		return &Error{Part: part, Reason: "is longer than 1023 octets"}
	}
	return nil
}
