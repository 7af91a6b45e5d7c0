package stream

import (
	"errors"

	"trivium/core/wire"
)

// Condition is a defined condition of RFC 6120 §4.9.3.
type Condition string

// The defined conditions, RFC 6120 §4.9.3.1 to §4.9.3.25.
const (
	BadFormat              Condition = "bad-format"
	BadNamespacePrefix     Condition = "bad-namespace-prefix"
	Conflict               Condition = "conflict"
	ConnectionTimeout      Condition = "connection-timeout"
	HostGone               Condition = "host-gone"
	HostUnknown            Condition = "host-unknown"
	ImproperAddressing     Condition = "improper-addressing"
	InternalServerError    Condition = "internal-server-error"
	InvalidFrom            Condition = "invalid-from"
	InvalidNamespace       Condition = "invalid-namespace"
	InvalidXML             Condition = "invalid-xml"
	NotAuthorized          Condition = "not-authorized"
	NotWellFormed          Condition = "not-well-formed"
	PolicyViolation        Condition = "policy-violation"
	RemoteConnectionFailed Condition = "remote-connection-failed"
	Reset                  Condition = "reset"
	ResourceConstraint     Condition = "resource-constraint"
	RestrictedXML          Condition = "restricted-xml"
	SeeOtherHost           Condition = "see-other-host"
	SystemShutdown         Condition = "system-shutdown"
	UndefinedCondition     Condition = "undefined-condition"
	UnsupportedEncoding    Condition = "unsupported-encoding"
	UnsupportedFeature     Condition = "unsupported-feature"
	UnsupportedStanzaType  Condition = "unsupported-stanza-type"
	UnsupportedVersion     Condition = "unsupported-version"
)

// Error is a stream error: it ends the stream (RFC 6120 §4.9.1.1).
type Error struct {
	Condition Condition
	Text      string // for people; may be empty
	Host      string // the other host of see-other-host (§4.9.3.19)
	App       string // application-specific condition, vouched-for XML; may be empty
	Cause     error  // for the log, never sent
}

// Err returns an Error.
func Err(c Condition, text string) *Error { return &Error{Condition: c, Text: text} }

func (e *Error) Error() string {
	s := "stream error " + string(e.Condition)
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Cause != nil {
		s += " (" + e.Cause.Error() + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// FromWire turns what the scanner refused into the stream error that says so.
func FromWire(err error) error {
	var w *wire.Error
	if errors.As(err, &w) {
		return &Error{Condition: Condition(w.Condition), Text: w.Text, Cause: err}
	}
	return err
}

// AppendXML appends the <stream:error/> element (§4.9.2); the prefix is bound by
// the stream header.
func (e *Error) AppendXML(dst []byte) []byte {
	return e.appendAs(dst, "<stream:error>", "</stream:error>")
}

// AppendContent appends the error's children without the element around them,
// for a framing that writes that element itself.
func (e *Error) AppendContent(dst []byte) []byte { return e.appendAs(dst, "", "") }

func (e *Error) appendAs(dst []byte, open, end string) []byte {
	dst = append(dst, open...)
	dst = append(dst, '<')
	dst = append(dst, e.Condition...)
	dst = append(dst, " xmlns='"+NSStreams+"'"...)
	if e.Host == "" {
		dst = append(dst, "/>"...)
	} else {
		dst = append(dst, '>')
		dst = wire.AppendText(dst, e.Host)
		dst = append(dst, "</"...)
		dst = append(dst, e.Condition...)
		dst = append(dst, '>')
	}
	if e.Text != "" {
		dst = append(dst, "<text xmlns='"+NSStreams+"' xml:lang='en'>"...)
		dst = wire.AppendText(dst, e.Text)
		dst = append(dst, "</text>"...)
	}
	dst = append(dst, e.App...)
	return append(dst, end...)
}
