package jid

import "errors"

// ErrMalformed is what every error of this package is, in the sense of
// errors.Is. Towards a peer it becomes jid-malformed (RFC 6120 §8.3.3.8).
var ErrMalformed = errors.New("malformed address")

// Part names a part of an address.
type Part string

// The parts of RFC 7622 §3.1.
const (
	Localpart    Part = "localpart"
	Domainpart   Part = "domainpart"
	Resourcepart Part = "resourcepart"
)

// Error tells which part of an address is malformed, and why. It does not repeat
// the address, which may be long and of a stranger's making.
type Error struct {
	Part   Part
	Reason string // completes a sentence that begins with the part
	Err    error  // what the Unicode libraries said, may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return "jid: " + string(e.Part) + " " + e.Reason
	}
	return "jid: " + string(e.Part) + " " + e.Reason + ": " + e.Err.Error()
}

// Is makes every Error an ErrMalformed.
func (e *Error) Is(target error) bool { return target == ErrMalformed }

// Unwrap returns the library's error.
func (e *Error) Unwrap() error { return e.Err }
