// Package commands implements XEP-0050 (Ad-Hoc Commands) on the server's address.
//
// What there is to do comes from Options.Commands, which knows who may do what;
// here it becomes nodes of service discovery, forms and results. A command that
// needs arguments is asked for them in one stage, or in two where what there is to
// choose from hangs on the others. Only the server's own sessions may use it.
//
//spec:xep-0050 1.3.0 complete | Ad-Hoc Commands | operations on the user's own account, and those of the operator
package commands

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/xdata"
)

// NS is the namespace of XEP-0050, and the node under which commands are found.
const NS = "http://jabber.org/protocol/commands"

// Command is one thing to do.
type Command struct {
	Node string // unique
	Name string // for people
	Args []Arg
	// Run does it, with the values of the arguments by name; a repeated one has a
	// value a line. What it returns is shown: nil, a string, a struct, or a slice of
	// strings or structs, whose fields are named by their json tags. An error for the
	// user is a *Error; any other is a bug.
	Run func(ctx context.Context, args map[string]string) (any, error)
}

// Arg is one argument of a command.
type Arg struct {
	Name     string
	Label    string
	Required bool
	Address  bool // an XMPP address
	Secret   bool // not to be shown
	Repeated bool // a list
	// Choices returns what there is to choose from, given the arguments without
	// choices; nil for an argument that takes anything.
	Choices func(ctx context.Context, args map[string]string) ([]Choice, error)
}

// Choice is one value of an argument.
type Choice struct{ Value, Label string }

// Error is what a user is told when a command has failed.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// Options of New. Zero fields take the defaults named.
type Options struct {
	Admins []jid.JID // bare addresses of the accounts that may do what operators may
	// Commands returns what a user may do, as an operator or not. It is asked at each
	// request. Nil: there are none.
	Commands func(user jid.JID, operator bool) []Command

	Lifetime   time.Duration // of an execution that waits for its user: 10 min
	PerAccount int           // executions that wait; more end the oldest: 8
	Total      int           // of all accounts: 1024
}

// Module is the feature.
type Module struct {
	opt  Options
	host *module.Host

	mu      sync.Mutex
	waiting map[string]*execution // by session id
}

// New returns the feature.
func New(o Options) *Module {
	if o.Commands == nil {
		o.Commands = func(jid.JID, bool) []Command { return nil }
	}
	if o.Lifetime <= 0 {
		o.Lifetime = 10 * time.Minute
	}
	if o.PerAccount <= 0 {
		o.PerAccount = 8
	}
	if o.Total <= 0 {
		o.Total = 1024
	}
	return &Module{opt: o, waiting: map[string]*execution{}}
}

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	m.host = h
	h.Feature(module.Server, NS)
	h.IQ(module.Server, stanza.Set, NS, "command", m.handle)
	h.Unbound(func(_ context.Context, _ *module.Turn, s *module.Session) { m.forget(s.JID) })
	return nil
}

// allowed returns the commands for who asks; nobody but our sessions gets any.
func (m *Module) allowed(rq *module.Request) []Command {
	if rq.Session == nil || rq.Session.JID != rq.From() {
		return nil
	}
	user := rq.From().Bare()
	return m.opt.Commands(user, m.operator(user))
}

func (m *Module) operator(user jid.JID) bool { return slices.Contains(m.opt.Admins, user) }

// find returns a command for who asks. The errors are those of XEP-0050 §4.4.
func (m *Module) find(rq *module.Request, node string) (*Command, error) {
	is := func(c Command) bool { return c.Node == node }
	list := m.allowed(rq)
	if i := slices.IndexFunc(list, is); i >= 0 {
		return &list[i], nil
	}
	if slices.ContainsFunc(m.opt.Commands(rq.From().Bare(), true), is) {
		return nil, &stanza.Error{Type: stanza.Cancel, Condition: stanza.Forbidden}
	}
	return nil, stanza.Err(stanza.ItemNotFound, "no such command")
}

// DiscoNode describes the list of commands, and each of them, as disco shows the
// server itself; nil says that there is no such node.
func (m *Module) DiscoNode(_ context.Context, rq *module.Request, node string) (*module.Disco, error) {
	if node == NS {
		// XEP-0050 §2.2
		d := &module.Disco{
			ServerIdentities: []module.Identity{{Category: "automation", Type: "command-list", Name: "Commands"}},
			ServerFeatures:   []string{NS},
		}
		list := m.allowed(rq)
		d.Items = func(context.Context, string) []module.Item {
			var items []module.Item
			for _, c := range list {
				items = append(items, module.Item{JID: rq.To(), Node: c.Node, Name: c.Name})
			}
			return items
		}
		return d, nil
	}
	c, err := m.find(rq, node)
	var e *stanza.Error
	switch {
	case errors.As(err, &e) && e.Condition == stanza.ItemNotFound:
		return nil, nil
	case err != nil:
		return nil, err // XEP-0050 §2.2: forbidden
	}
	return &module.Disco{
		ServerIdentities: []module.Identity{{Category: "automation", Type: "command-node", Name: c.Name}},
		ServerFeatures:   []string{NS, xdata.NS},
	}, nil
}
