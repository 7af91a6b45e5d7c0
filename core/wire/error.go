package wire

import "fmt"

// Stream error conditions of RFC 6120 §4.9.3 that a Scanner can report.
const (
	// BadFormat: well-formed XML that a stream cannot carry, such as character
	// data between stanzas (§4.9.3.1).
	BadFormat = "bad-format"
	// NotWellFormed: a violation of XML 1.0 or of Namespaces in XML, unbound
	// prefixes and invalid UTF-8 included (§4.9.3.13, §11.3).
	NotWellFormed = "not-well-formed"
	// PolicyViolation: a limit was reached (§4.9.3.14).
	PolicyViolation = "policy-violation"
	// RestrictedXML: a comment, processing instruction, DTD or entity reference
	// (§4.9.3.18, §11.1).
	RestrictedXML = "restricted-xml"
	// UnsupportedEncoding: another encoding than UTF-8 was declared or used
	// (§4.9.3.22, §11.6).
	UnsupportedEncoding = "unsupported-encoding"
	// UnsupportedStanzaType: the stream's root element again, inside the stream
	// (§4.9.3.24).
	UnsupportedStanzaType = "unsupported-stanza-type"
)

// Error says why the input was refused. The stream cannot go on after it.
type Error struct {
	Condition string // name of the stream error condition, RFC 6120 §4.9.3
	Text      string // for people; a constant of this package, never input
	Offset    int64  // octets since Reset before the offending one
}

// Error returns a line for logs. It holds nothing that the peer wrote.
func (e *Error) Error() string {
	return fmt.Sprintf("wire: %s at octet %d: %s", e.Condition, e.Offset, e.Text)
}
