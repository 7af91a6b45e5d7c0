package store

import (
	"errors"
	"fmt"
)

// Classes of failure, to be tested with [errors.Is].
var (
	// ErrBusy: the queue of writes is full. Nothing was queued.
	ErrBusy = errors.New("store: too many writes waiting")
	// ErrClosed: the DB was closed before the operation was queued.
	ErrClosed = errors.New("store: closed")
	// ErrFull: the disk, or a quota on it, has no room. The operation did not
	// happen; later ones succeed once there is room again.
	ErrFull = errors.New("store: no space left")
	// ErrIO: the file cannot be read or written, or is damaged. The operation
	// did not happen.
	ErrIO = errors.New("store: input/output error")
	// ErrConstraint: a row breaks a rule of its table.
	ErrConstraint = errors.New("store: constraint violated")
	// ErrUnique: a row with that key exists. It is an ErrConstraint as well.
	ErrUnique = errors.New("store: not unique")
	// ErrLocked: another process held the database for longer than the writer
	// waits (five seconds). The operation did not happen.
	ErrLocked = errors.New("store: locked by another process")
)

// Error is a failure that the database engine reported.
type Error struct {
	Class error // ErrFull, ErrIO, ErrConstraint, ErrUnique, ErrLocked, or nil for others
	Code  int   // the engine's own code
	Err   error // what the engine said
}

func (e *Error) Error() string {
	if e.Class == nil {
		return fmt.Sprintf("store: %v", e.Err)
	}
	return fmt.Sprintf("%v: %v", e.Class, e.Err)
}

// Unwrap makes errors.Is find both the class and the engine's error.
func (e *Error) Unwrap() []error {
	switch e.Class {
	case nil:
		return []error{e.Err}
	case ErrUnique:
		return []error{ErrUnique, ErrConstraint, e.Err}
	}
	return []error{e.Class, e.Err}
}

// PanicError is what a done callback gets when its Op panicked. The Op's
// changes were rolled back and the stack was logged.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("store: operation panicked: %v", e.Value)
}
