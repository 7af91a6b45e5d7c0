package admin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/mod/commands"
	"trivium/core/mod/modtest"
)

func nodes(list []commands.Command) string {
	var all []string
	for _, c := range list {
		n := c.Node
		for _, a := range c.Args {
			n += " " + a.Name
			if a.Choices != nil {
				n += "?"
			}
		}
		all = append(all, n)
	}
	return strings.Join(all, "\n")
}

// Users get what they may do on their own accounts, without being asked whose;
// operators get everything as well.
func TestCommands(t *testing.T) {
	w := newHouse(t)
	const own = `urn:x-trivium:own#client-list
urn:x-trivium:own#client-revoke id?
urn:x-trivium:own#session-kick resource?
urn:x-trivium:own#session-list`
	const operators = `
urn:x-trivium:admin#client-list jid
urn:x-trivium:admin#client-revoke jid id?
urn:x-trivium:admin#session-kick jid resource?
urn:x-trivium:admin#session-list jid
urn:x-trivium:admin#token-add name send-as send read admin scope expires rate
urn:x-trivium:admin#token-list
urn:x-trivium:admin#token-revoke id
urn:x-trivium:admin#token-rotate id
urn:x-trivium:admin#token-show id
urn:x-trivium:admin#user-add jid password
urn:x-trivium:admin#user-list host after limit
urn:x-trivium:admin#user-passwd jid password
urn:x-trivium:admin#user-remove jid
urn:x-trivium:admin#user-show jid`
	user := jid.Must("juliet@example.org")
	if got := nodes(w.ops.Commands(user, false)); got != own {
		t.Errorf("a user gets\n%s", got)
	}
	if got := nodes(w.ops.Commands(user, true)); got != own+operators {
		t.Errorf("an operator gets\n%s", got)
	}
	for _, c := range w.ops.Commands(user, true) {
		if c.Name == "" {
			t.Errorf("%s has no name", c.Node)
		}
		for _, a := range c.Args {
			if a.Label == "" || a.Address != (a.Name == "jid") || a.Secret != (a.Name == "password") || a.Repeated != slices.Contains([]string{"send-as", "send", "read", "admin", "scope"}, a.Name) {
				t.Errorf("%s: %+v", c.Node, a)
			}
		}
	}
}

func TestCommandsRun(t *testing.T) {
	w := newHouse(t)
	w.connect("juliet@example.org/balcony", "", 0)
	w.connect("romeo@example.org/orchard", "", 0)
	find := func(node string) commands.Command {
		t.Helper()
		for _, c := range w.ops.Commands(jid.Must("juliet@example.org"), true) {
			if c.Node == node {
				return c
			}
		}
		t.Fatalf("no command %s", node)
		return commands.Command{}
	}
	kick := find(ownNode + "session-kick")
	choices, err := kick.Args[0].Choices(t.Context(), map[string]string{"jid": "romeo@example.org"})
	if err != nil || len(choices) != 1 || choices[0].Value != "balcony" {
		t.Errorf("%v, %v", choices, err)
	}
	run := func(c commands.Command, args map[string]string) string {
		t.Helper()
		_, err := c.Run(context.Background(), args)
		var told *commands.Error
		if errors.As(err, &told) {
			return told.Text
		} else if err != nil {
			t.Fatal(err)
		}
		return ""
	}
	if got := run(kick, map[string]string{"resource": "orchard"}); !strings.Contains(got, "no session") {
		t.Errorf("another's session: %s", got)
	}
	if got := run(kick, map[string]string{"jid": "romeo@example.org"}); !strings.Contains(got, "your own account only") {
		t.Errorf("another's account: %s", got)
	}
	if got := run(kick, map[string]string{"resource": "balcony"}); got != "" || len(w.kicks) != 1 || w.kicks["juliet@example.org/balcony"] == nil {
		t.Errorf("%s, kicked %v", got, w.kicks)
	}
	if got := run(find(operatorNode+"session-kick"), map[string]string{"jid": "romeo@example.org/orchard"}); got != "" || w.kicks["romeo@example.org/orchard"] == nil {
		t.Errorf("%s, kicked %v", got, w.kicks)
	}
}

// As a client sees it: XEP-0050 over the whole way.
func TestCommandsInAConversation(t *testing.T) {
	ops := &Registry{}
	s := modtest.New(t, commands.New(commands.Options{Commands: ops.Commands, Admins: []jid.JID{jid.Must("nurse@example.org")}}))
	users, err := auth.New(s.Store, auth.Options{Iterations: 4096})
	if err != nil {
		t.Fatal(err)
	}
	ops.Add(Accounts(users, s.Host)...)
	ops.Add(Tokens(users, time.Now)...)
	ops.Add(Sessions(users, s.Host)...)
	juliet, nurse := s.Connect("juliet@example.org/balcony"), s.Connect("nurse@example.org/hall")
	ask := func(c *modtest.Client, attrs, form string) string {
		c.Send(`<iq type='set' to='example.org' id='1'><command xmlns='http://jabber.org/protocol/commands' ` + attrs + `>` + form + `</command></iq>`)
		return c.Next()
	}
	contains := func(got string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(got, p) {
				t.Errorf("%s is missing in %s", p, got)
			}
		}
	}
	contains(ask(juliet, `node='urn:x-trivium:own#session-list'`, ""), `status='completed'`, `<reported>`, `<value>juliet@example.org/balcony</value>`)
	contains(ask(juliet, `node='urn:x-trivium:own#client-revoke'`, ""), `status='completed'`, `<note type='error'>`)
	contains(ask(juliet, `node='urn:x-trivium:admin#user-add'`, ""), `<forbidden `)

	form := ask(nurse, `node='urn:x-trivium:admin#user-add'`, "")
	contains(form, `status='executing'`, `<complete/>`, `var='jid'`, `type='jid-single'`, `var='password'`, `type='text-private'`)
	_, sid, _ := strings.Cut(form, `sessionid='`)
	sid, _, _ = strings.Cut(sid, `'`)
	contains(ask(nurse, `node='urn:x-trivium:admin#user-add' sessionid='`+sid+`'`, `<x xmlns='jabber:x:data' type='submit'>`+
		`<field var='jid'><value>Juliet@Example.org</value></field><field var='password'><value>R0m30</value></field></x>`),
		`status='completed'`, `<value>juliet@example.org</value>`)
	if ok, err := users.Exists(t.Context(), jid.Must("juliet@example.org")); err != nil || !ok {
		t.Errorf("no account was made: %v", err)
	}
}
