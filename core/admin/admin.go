// Package admin holds the operations of the server's operator, some of which
// users may run on their own accounts. An operation is declared once, with its
// arguments; the admin socket, the command line, ad-hoc commands (XEP-0050) and the
// REST interface all show the same ones. Who has changed what, by whatever road, is in
// the audit log.
package admin

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"trivium/core/jid"
)

// Arg is one argument of an operation.
type Arg struct {
	Name     string
	Help     string
	Required bool
	Secret   bool // not to be logged or echoed
	Repeated bool // a list, one value a line
	// Choices returns what there is to choose from, given the other arguments; nil for
	// an argument that takes anything. What it returns helps people and is not
	// enforced.
	Choices func(ctx context.Context, args Args) ([]Choice, error)
}

// Choice is one value of an argument.
type Choice struct{ Value, Label string }

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
	// Own names the argument that says on whose account it is done; then users may do
	// it on their own, for which OwnHelp says what it is. Empty: it is for operators
	// only.
	Own, OwnHelp string
	// ReadOnly: it changes nothing, and the audit log does not hear of it.
	ReadOnly bool
	// Run does it. What it returns is shown to the operator as JSON or as a table.
	// An error for the operator is a *Error; any other is a bug.
	Run func(ctx context.Context, args Args) (any, error)
}

// Registry holds the operations. It is filled at start and then read by anybody.
type Registry struct {
	// Audit takes note of every operation that is not ReadOnly, done or refused; nil:
	// nobody does.
	Audit *Audit
	ops   []Operation
}

// Add adds operations.
func (r *Registry) Add(ops ...Operation) { r.ops = append(r.ops, ops...) }

// Operations returns them in the order of their names.
func (r *Registry) Operations() []Operation {
	return slices.SortedFunc(slices.Values(r.ops), func(a, b Operation) int { return strings.Compare(a.Name, b.Name) })
}

// ErrUnknown says that there is no such operation.
var ErrUnknown = errors.New("admin: no such operation")

// Run runs an operation by name for a caller, after checking its arguments. Who may
// run what, the roads decide that lead here.
func (r *Registry) Run(ctx context.Context, c Caller, name string, args Args) (any, error) {
	op := r.find(name)
	if op == nil {
		return nil, ErrUnknown
	}
	return r.run(ctx, c, op, args, false)
}

// RunOwn is Run for a user, on his own account, whoever calls for him. An operation
// that is not for users is ErrUnknown.
func (r *Registry) RunOwn(ctx context.Context, c Caller, user jid.JID, name string, args Args) (any, error) {
	op := r.find(name)
	if op == nil || op.Own == "" {
		return nil, ErrUnknown
	}
	if _, given := args[op.Own]; given {
		return nil, Denied.Errorf("%s is for your own account only", name)
	}
	own := Args{op.Own: user.Bare().String()}
	maps.Copy(own, args)
	return r.run(ctx, c, op, own, c.Who == own[op.Own])
}

func (r *Registry) run(ctx context.Context, c Caller, op *Operation, args Args, own bool) (out any, err error) {
	if err = op.check(args); err == nil {
		out, err = op.Run(ctx, args)
	}
	if r.Audit != nil && !op.ReadOnly {
		e := op.entry(c, args, out, err)
		e.Own = own
		r.Audit.Record(ctx, e)
	}
	return out, err
}

func (r *Registry) find(name string) *Operation {
	i := slices.IndexFunc(r.ops, func(o Operation) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return &r.ops[i]
}

// check refuses arguments that the operation does not have, and the lack of those
// that it needs.
func (op *Operation) check(args Args) error {
	for given := range args {
		if !slices.ContainsFunc(op.Args, func(a Arg) bool { return a.Name == given }) {
			return Errorf("%s takes no argument %q", op.Name, given)
		}
	}
	for _, a := range op.Args {
		if a.Required && args[a.Name] == "" {
			return Errorf("%s needs the argument %q", op.Name, a.Name)
		}
	}
	return nil
}
