package admin

import "fmt"

// Kind says what is wrong when an operation is refused.
type Kind int

// The kinds of errors.
const (
	Invalid  Kind = iota // the arguments are not what the operation takes
	NotFound             // what it is to be done to is not there
	Conflict             // it is there already, or in another state
	Denied               // the caller may not
	Busy                 // not now; later perhaps
)

// Error is what an operator is told.
type Error struct {
	Text string
	Kind Kind
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an Error of the kind.
func (k Kind) Errorf(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), k}
}

// Errorf makes an Error about the arguments.
func Errorf(format string, args ...any) error { return Invalid.Errorf(format, args...) }
