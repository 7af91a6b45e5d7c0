// Package admin holds the operations of the server's operator. An operation is
// declared once, with its arguments; the admin socket, the command line and
// later REST and ad-hoc commands all show the same ones.
package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Arg is one argument of an operation.
type Arg struct {
	Name     string
	Help     string
	Required bool
	Secret   bool // not to be logged or echoed
	Repeated bool // a list, one value a line
}

// Args are the values of an operation's arguments by name.
type Args map[string]string

// List returns the values of a repeated argument.
func (a Args) List(name string) []string {
	var out []string
	for _, v := range strings.Split(a[name], "\n") {
		if v != "" {
			out = append(out, v)
		}
	}
	return out
}

// Operation is one thing that an operator may do.
type Operation struct {
	Name string // words separated by a space, e.g. "user add"
	Help string
	Args []Arg
	// Run does it. What it returns is shown to the operator as JSON or as a table.
	// An error for the operator is a *Error; any other is a bug.
	Run func(ctx context.Context, args Args) (any, error)
}

// Error is what an operator is told.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// Errorf makes an Error.
func Errorf(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Registry holds the operations. It is filled at start and then read by anybody.
type Registry struct{ ops []Operation }

// Add adds operations.
func (r *Registry) Add(ops ...Operation) { r.ops = append(r.ops, ops...) }

// Operations returns them in the order of their names.
func (r *Registry) Operations() []Operation {
	return slices.SortedFunc(slices.Values(r.ops), func(a, b Operation) int { return strings.Compare(a.Name, b.Name) })
}

// ErrUnknown says that there is no such operation.
var ErrUnknown = errors.New("admin: no such operation")

// Run runs an operation by name after checking its arguments.
func (r *Registry) Run(ctx context.Context, name string, args Args) (any, error) {
	i := slices.IndexFunc(r.ops, func(o Operation) bool { return o.Name == name })
	if i < 0 {
		return nil, ErrUnknown
	}
	op := &r.ops[i]
	for given := range args {
		if !slices.ContainsFunc(op.Args, func(a Arg) bool { return a.Name == given }) {
			return nil, Errorf("%s takes no argument %q", name, given)
		}
	}
	for _, a := range op.Args {
		if a.Required && args[a.Name] == "" {
			return nil, Errorf("%s needs the argument %q", name, a.Name)
		}
	}
	return op.Run(ctx, args)
}
