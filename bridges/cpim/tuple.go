package cpim

import (
	"encoding/base32"
	"strings"

	"trivium/bridges/cpim/pidf"
	"trivium/core/stanza"
)

// TupleID returns the tuple id for a resource. An xs:ID cannot hold every resource
// and not begin with a digit, hence the prefix that RFC 8048 §5.2.2 recommends; what
// is not made of letters, digits, dots, hyphens and underscores is encoded. The
// bare account is ID-none.
func TupleID(resource string) string {
	if resource == "" {
		return "ID-none"
	}
	for i := 0; i < len(resource); i++ {
		c := resource[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return "IDX-" + strings.ToLower(tupleCoding.EncodeToString([]byte(resource)))
		}
	}
	return "ID-" + resource
}

// tupleCoding is base32hex of RFC 4648 §7, unpadded, in upper case.
var tupleCoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// Resource returns the resource for a tuple id, not yet prepared: RFC 3922 §5.2.1.
// Ids that TupleID has not made stand for themselves.
func Resource(tupleID string) string {
	if r, ok := strings.CutPrefix(tupleID, "ID-"); ok && r != "" {
		return r
	}
	if x, ok := strings.CutPrefix(tupleID, "IDX-"); ok && x != "" && strings.ToLower(x) == x {
		if r, err := tupleCoding.DecodeString(strings.ToUpper(x)); err == nil {
			return string(r)
		}
	}
	return tupleID
}

// ToPriority returns the thousandths of a contact's priority for that of a
// presence, 0 to 127: RFC 3922 §5.1.7. FromPriority undoes it.
func ToPriority(p int) int {
	if p >= 127 {
		return 1000
	}
	return max(p, 0) * 1000 / 127
}

// FromPriority returns the priority of a presence for the thousandths of a
// contact's: RFC 3922 §5.2.10. It is never negative.
func FromPriority(q int) int {
	switch {
	case q <= 0:
		return 0
	case q >= 1000:
		return 127
	}
	return min(126, (q*127+999)/1000)
}

// validShow tells whether s is a value of <show/>, RFC 6121 §4.7.2.1.
func validShow(s string) bool { return s == "away" || s == "chat" || s == "dnd" || s == "xa" }

// imOf returns the value of <im/> for a <show/>; RFC 3922 §5.1.5 waits for such
// values to be specified, which did not happen.
func imOf(show string) string {
	switch show {
	case "away", "xa":
		return "away"
	case "dnd":
		return "busy"
	}
	return ""
}

// showOf returns the <show/> of a tuple, "" for none: what was meant as one counts
// more than what has to be guessed.
func (m *Mapper) showOf(doc *pidf.Presence, t *pidf.Tuple) string {
	if validShow(t.Show) { // RFC 8048 §6.3
		return t.Show
	}
	switch {
	case t.IM == "busy":
		return "dnd"
	case validShow(t.IM):
		return t.IM
	}
	if !m.o.RPID {
		return ""
	}
	for _, a := range doc.Activities(t) { // RFC 4480 §3.2
		switch a {
		case "away":
			return "away"
		case "busy", "meeting", "on-the-phone", "appointment":
			return "dnd"
		case "permanent-absence", "vacation":
			return "xa"
		}
	}
	return ""
}

// presencePayload builds the payload of a presence stanza.
func presencePayload(show string, notes []pidf.Note, priority int, ranked bool) []stanza.Payload {
	var out []stanza.Payload
	if show != "" {
		out = append(out, stanza.TextEl(stanza.NSClient, "show", show))
	}
	for _, n := range notes {
		out = append(out, stanza.TextEl(stanza.NSClient, "status", n.Text).SetLang(n.Lang))
	}
	if ranked {
		out = append(out, stanza.TextEl(stanza.NSClient, "priority", itoa(priority)))
	}
	return out
}
