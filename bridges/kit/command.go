package kit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/xdata"
)

// adhoc is a command of XEP-0050 that does what jabber:iq:register does, for clients
// that have no other way.
type adhoc struct{ node, name string }

const (
	commandRegister   = "register"
	commandUnregister = "unregister"
)

func (g *Gateway) commands() []adhoc {
	if g.def.Load().Registration == nil {
		return nil
	}
	return []adhoc{{commandRegister, "Register or edit the registration"}, {commandUnregister, "End the registration"}}
}

// commandNode describes a node of commands; nil: there is none of that name.
func (g *Gateway) commandNode(node string) *description {
	list := g.commands()
	if node == nsCommands && list != nil {
		return &description{category: "automation", typ: "command-list", name: "Commands", features: []string{nsCommands}}
	}
	for _, c := range list {
		if c.node == node { // XEP-0050 §2.2
			return &description{category: "automation", typ: "command-node", name: c.name, features: []string{nsCommands, xdata.NS}}
		}
	}
	return nil
}

// session is the id of an execution. Commands have one stage, so nothing has to be
// kept: the id tells that this user has been shown the form.
func (g *Gateway) session(user jid.JID, node string) string {
	h := hmac.New(sha256.New, g.key)
	h.Write([]byte(node + "\x00" + user.String()))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// command answers <command/>.
func (g *Gateway) command(ctx context.Context, st *stanza.Stanza, el *stanza.Element) (stanza.Payload, bool, error) {
	refuse := func(c stanza.Condition, app, text string) error { // XEP-0050 §4.4
		return &stanza.Error{Condition: c, Text: text, App: stanza.El(nsCommands, app)}
	}
	d, node, user := g.def.Load(), el.Attr("node"), st.From.Bare()
	if node != commandRegister && node != commandUnregister {
		return nil, false, stanza.Err(stanza.ItemNotFound, "no such command")
	}
	have, err := g.Registration(ctx, user)
	if err != nil && !errors.Is(err, ErrNotRegistered) {
		return nil, false, err
	}
	if node == commandUnregister && have == nil {
		return nil, false, &stanza.Error{Condition: stanza.RegistrationRequired}
	}
	id := g.session(st.From, node)
	answer := func(status string, payload ...*stanza.Element) *stanza.Element {
		return stanza.El(nsCommands, "command", payload...).Set("node", node).Set("sessionid", id).Set("status", status).SetLang("en")
	}
	action := el.Attr("action")
	if el.Attr("sessionid") == "" {
		if action != "" && action != "execute" {
			return nil, false, refuse(stanza.BadRequest, "bad-action", "the command has not begun")
		}
		actions := stanza.El(nsCommands, "actions", stanza.El(nsCommands, "complete")).Set("execute", "complete")
		form := g.form(d, have)
		if node == commandUnregister {
			form = xdata.New(xdata.Ask, "")
			form.Title = "End the registration"
			form.Instructions = []string{"All contacts of this gateway will be lost."}
		}
		return answer("executing", actions, form.Element()), true, nil
	}
	if el.Attr("sessionid") != id {
		return nil, false, refuse(stanza.BadRequest, "bad-sessionid", "")
	}
	completed := func(t *router.Turn, text string) func() {
		return func() {
			g.send(ctx, t, st.Result(answer("completed", stanza.TextEl(nsCommands, "note", text).Set("type", "info"))))
		}
	}
	switch action {
	case "cancel":
		return answer("canceled"), true, nil
	case "", "execute", "complete":
	case "next", "prev":
		return nil, false, refuse(stanza.BadRequest, "bad-action", "there is one stage")
	default:
		return nil, false, refuse(stanza.BadRequest, "malformed-action", "")
	}
	ctx = context.WithoutCancel(ctx)
	if node == commandUnregister {
		return nil, false, g.enter(func(ctx context.Context, t *router.Turn) {
			g.conclude(ctx, t, st, g.unregister(ctx, t, user, completed(t, "The registration has ended.")))
		})
	}
	form, err := xdata.Find(el)
	if err == nil && form == nil {
		err = stanza.Err(stanza.BadRequest, "a form is wanted")
	}
	var values map[string]string
	if err == nil {
		values, err = g.accept(d, have, form)
	}
	var told *stanza.Error
	switch {
	case errors.As(err, &told):
		return nil, false, refuse(stanza.BadRequest, "bad-payload", told.Text)
	case err != nil:
		return nil, false, err
	}
	return nil, false, g.enter(func(ctx context.Context, t *router.Turn) {
		g.conclude(ctx, t, st, g.register(ctx, t, user, values, completed(t, "You are registered.")))
	})
}
