package commands

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/xdata"
)

// Actions and states of XEP-0050 §3.3.
const (
	execute  = "execute"
	next     = "next"
	prev     = "prev"
	complete = "complete"
	cancel   = "cancel"

	executing = "executing"
	completed = "completed"
	canceled  = "canceled"
)

// execution is a command that waits for its user. Its owner's session alone uses
// it, one request after the other.
type execution struct {
	id      string
	owner   jid.JID // full
	node    string
	expires time.Time // guarded by Module.mu

	stages [][]Arg
	stage  int
	values map[string]string
	form   *xdata.Form // what was asked last
}

// refuse makes an error with a condition of XEP-0050 §4.4.
func refuse(c stanza.Condition, app, text string) error {
	return &stanza.Error{Condition: c, Text: text, App: stanza.El(NS, app)}
}

// handle answers <command/>.
func (m *Module) handle(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	el := rq.Element()
	action := el.Attr("action")
	switch action {
	case "":
		action = execute
	case execute, next, prev, complete, cancel:
	default:
		return nil, refuse(stanza.BadRequest, "malformed-action", "")
	}
	c, err := m.find(rq, el.Attr("node"))
	if err != nil {
		return nil, err
	}
	if el.Attr("sessionid") == "" {
		if action != execute {
			return nil, refuse(stanza.BadRequest, "bad-action", "the command has not begun")
		}
		return m.begin(ctx, rq, c)
	}
	x, err := m.resume(rq, el)
	if err != nil {
		return nil, err
	}
	return m.step(ctx, x, c, action, el)
}

// begin starts a command: it is done at once, or asks for arguments.
func (m *Module) begin(ctx context.Context, rq *module.Request, c *Command) (stanza.Payload, error) {
	x := &execution{id: rand.Text(), owner: rq.From(), node: c.Node, values: map[string]string{}}
	var free, chosen []Arg
	for _, a := range c.Args {
		if a.Choices == nil {
			free = append(free, a)
		} else {
			chosen = append(chosen, a)
		}
	}
	for _, s := range [...][]Arg{free, chosen} {
		if len(s) > 0 {
			x.stages = append(x.stages, s)
		}
	}
	if len(x.stages) == 0 {
		return m.run(ctx, x, c)
	}
	return m.ask(ctx, x, c)
}

// step goes on with an execution that has asked for something.
func (m *Module) step(ctx context.Context, x *execution, c *Command, action string, el *stanza.Element) (stanza.Payload, error) {
	last := x.stage == len(x.stages)-1
	if action == execute { // what <actions/> has named
		action = next
		if last {
			action = complete
		}
	}
	switch {
	case action == cancel: // always allowed, §3.4
		m.drop(x.id)
		return x.answer(canceled), nil
	case action == prev && x.stage > 0:
		x.stage--
		return m.ask(ctx, x, c)
	case action == prev, action == next && last, action == complete && !last:
		return nil, refuse(stanza.BadRequest, "bad-action", "this stage does not allow it")
	}
	given, err := x.submitted(el)
	if err != nil {
		return nil, err
	}
	for _, a := range x.stages[x.stage] {
		delete(x.values, a.Name)
		if f := given.Field(a.Name); f != nil && len(f.Values) > 0 {
			x.values[a.Name] = strings.Join(f.Values, "\n")
		}
	}
	if last {
		m.drop(x.id)
		return m.run(ctx, x, c)
	}
	x.stage++
	return m.ask(ctx, x, c)
}

// submitted reads the form that answers the one that was asked.
func (x *execution) submitted(el *stanza.Element) (*xdata.Form, error) {
	form, err := xdata.Find(el)
	if err == nil && form == nil {
		err = stanza.Err(stanza.BadRequest, "a form is wanted")
	}
	if err == nil {
		if form.Type == xdata.Cancel {
			form.Type = xdata.Submit // §3.5.1
		}
		for i, f := range form.Fields {
			if len(f.Values) == 1 && f.Values[0] == "" {
				form.Fields[i].Values = nil // nothing was chosen
			}
		}
		form, err = x.form.Accept(form)
	}
	var e *stanza.Error
	if errors.As(err, &e) {
		return nil, refuse(stanza.BadRequest, "bad-payload", e.Text)
	}
	return form, err
}

// ask answers with the form of the execution's stage.
func (m *Module) ask(ctx context.Context, x *execution, c *Command) (stanza.Payload, error) {
	form := xdata.New(xdata.Ask, "")
	form.Title = c.Name
	for _, a := range x.stages[x.stage] {
		f := xdata.Field{Var: a.Name, Label: a.Label, Type: xdata.TextSingle, Required: a.Required}
		switch {
		case a.Choices != nil:
			f.Type = xdata.ListSingle
			choices, err := a.Choices(ctx, maps.Clone(x.values))
			if err != nil {
				return m.failed(x, err)
			}
			if len(choices) == 0 && a.Required {
				return m.failed(x, &Error{a.Label + ": there is nothing to choose from"})
			}
			for _, ch := range choices {
				f.Options = append(f.Options, xdata.Option{Label: ch.Label, Value: ch.Value})
			}
		case a.Secret:
			f.Type = xdata.TextPrivate
		case a.Repeated:
			f.Type = xdata.TextMulti
		case a.Address:
			f.Type = xdata.JIDSingle
		}
		if v, ok := x.values[a.Name]; ok && a.Choices == nil && !a.Secret { // after prev: what was said before
			f.Values = strings.Split(v, "\n")
		}
		form.Fields = append(form.Fields, f)
	}
	x.form = form
	m.keep(x)
	actions := stanza.El(NS, "actions")
	if x.stage > 0 {
		actions.Add(stanza.El(NS, prev))
	}
	way := next
	if x.stage == len(x.stages)-1 {
		way = complete
	}
	actions.Add(stanza.El(NS, way)).Set("execute", way)
	return x.answer(executing, actions, form.Element()), nil
}

// run does what the command is for.
func (m *Module) run(ctx context.Context, x *execution, c *Command) (stanza.Payload, error) {
	out, err := c.Run(ctx, x.values)
	if m.operator(x.owner.Bare()) {
		m.host.Log.Info("command run", "node", x.node, "user", x.owner.String(), "failed", err != nil)
	}
	if err != nil {
		return m.failed(x, err)
	}
	return x.answer(completed, show(c.Name, out)...), nil
}

// failed ends an execution: what its user is to know comes as a note (§3.6).
func (m *Module) failed(x *execution, err error) (stanza.Payload, error) {
	m.drop(x.id)
	var told *Error
	if !errors.As(err, &told) {
		return nil, err
	}
	return x.answer(completed, stanza.TextEl(NS, "note", told.Text).Set("type", "error")), nil
}

// answer is <command/> with the state that the execution has now.
func (x *execution) answer(status string, payload ...*stanza.Element) *stanza.Element {
	el := stanza.El(NS, "command", payload...).Set("node", x.node).Set("sessionid", x.id).Set("status", status)
	return el.SetLang("en") // §3.7
}

// keep notes an execution that waits for its user, for a while. The oldest make
// room for it.
func (m *Module) keep(x *execution) {
	now := m.host.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	x.expires = now.Add(m.opt.Lifetime)
	m.waiting[x.id] = x
	var oldest, oldestOwn *execution
	own := 0
	for id, w := range m.waiting {
		if now.After(w.expires) {
			delete(m.waiting, id)
			continue
		}
		if oldest == nil || w.expires.Before(oldest.expires) {
			oldest = w
		}
		if w.owner.Bare() != x.owner.Bare() {
			continue
		}
		own++
		if oldestOwn == nil || w.expires.Before(oldestOwn.expires) {
			oldestOwn = w
		}
	}
	switch {
	case own > m.opt.PerAccount:
		delete(m.waiting, oldestOwn.id)
	case len(m.waiting) > m.opt.Total:
		delete(m.waiting, oldest.id)
	}
}

func (m *Module) drop(id string) {
	m.mu.Lock()
	delete(m.waiting, id)
	m.mu.Unlock()
}

// forget drops what waits for a session that has ended.
func (m *Module) forget(owner jid.JID) {
	m.mu.Lock()
	maps.DeleteFunc(m.waiting, func(_ string, x *execution) bool { return x.owner == owner })
	m.mu.Unlock()
}

// resume finds the execution that a request goes on with.
func (m *Module) resume(rq *module.Request, el *stanza.Element) (*execution, error) {
	id := el.Attr("sessionid")
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.waiting[id]
	switch {
	case x != nil && m.host.Now().After(x.expires):
		delete(m.waiting, id)
		fallthrough
	case x == nil && len(id) == len(rand.Text()): // one of ours, once
		return nil, refuse(stanza.NotAllowed, "session-expired", "")
	case x == nil, x.owner != rq.From(), x.node != el.Attr("node"):
		return nil, refuse(stanza.BadRequest, "bad-sessionid", "")
	}
	return x, nil
}
