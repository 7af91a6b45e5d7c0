package admin

import (
	"context"
	"errors"
	"maps"
	"strings"

	"trivium/core/jid"
	"trivium/core/mod/commands"
)

// The nodes of ad-hoc commands begin with these: the rest is the operation's name
// with hyphens.
const (
	ownNode      = "urn:x-trivium:own#"
	operatorNode = "urn:x-trivium:admin#"
)

// Commands returns the operations as ad-hoc commands: to a user those on his own
// account, to an operator all. It is what commands.Options asks.
func (r *Registry) Commands(user jid.JID, operator bool) []commands.Command {
	var list []commands.Command
	caller := Caller{Who: user.Bare().String()}
	for _, op := range r.Operations() {
		if op.Own != "" {
			run := func(ctx context.Context, args Args) (any, error) { return r.RunOwn(ctx, caller, user, op.Name, args) }
			list = append(list, command(ownNode, op.OwnHelp, &op, run, Args{op.Own: user.Bare().String()}))
		}
	}
	if !operator {
		return list
	}
	for _, op := range r.Operations() {
		run := func(ctx context.Context, args Args) (any, error) { return r.Run(ctx, caller, op.Name, args) }
		list = append(list, command(operatorNode, op.Help, &op, run, nil))
	}
	return list
}

// command makes one. Arguments that are fixed are not asked for.
func command(prefix, help string, op *Operation, run func(context.Context, Args) (any, error), fixed Args) commands.Command {
	c := commands.Command{
		Node: prefix + strings.ReplaceAll(op.Name, " ", "-"),
		Name: capital(help),
		Run: func(ctx context.Context, args map[string]string) (any, error) {
			out, err := run(ctx, Args(args))
			var told *Error
			if errors.As(err, &told) {
				return nil, &commands.Error{Text: told.Text}
			}
			return out, err
		},
	}
	for _, a := range op.Args {
		if _, ok := fixed[a.Name]; ok {
			continue
		}
		arg := commands.Arg{
			Name: a.Name, Label: capital(a.Help),
			Required: a.Required, Address: a.Name == "jid", Secret: a.Secret, Repeated: a.Repeated,
		}
		if choices := a.Choices; choices != nil {
			arg.Choices = func(ctx context.Context, args map[string]string) ([]commands.Choice, error) {
				given := Args{}
				maps.Copy(given, args)
				maps.Copy(given, fixed)
				list, err := choices(ctx, given)
				var out []commands.Choice
				for _, ch := range list {
					out = append(out, commands.Choice(ch))
				}
				return out, err
			}
		}
		c.Args = append(c.Args, arg)
	}
	return c
}

// capital begins a text as a title does.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
