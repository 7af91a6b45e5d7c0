package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"trivium/core/admin"
	"trivium/core/auth"
	"trivium/core/jid"
)

// Account is an account of a virtual host.
type Account struct {
	JID      string     `json:"jid" format:"xmpp-jid" doc:"Its bare address." example:"juliet@example.org"`
	Created  *time.Time `json:"created,omitempty" doc:"When it was made; told in lists and when it is made."`
	Sessions int        `json:"sessions" doc:"How many sessions it has now."`
}

// NewAccount asks for an account.
type NewAccount struct {
	JID      string `json:"jid" format:"xmpp-account" minLength:"3" maxLength:"2047" doc:"Its bare address." example:"nurse@example.org"`
	Password string `json:"password" format:"xmpp-password" minLength:"1" maxLength:"1023" doc:"Its password: not empty, without control characters."`
}

// NewPassword asks for another password.
type NewPassword struct {
	Password string `json:"password" format:"xmpp-password" minLength:"1" maxLength:"1023" doc:"The password: not empty, without control characters."`
}

func (a *API) accountRoutes() []route {
	if a.opts.Operations == nil {
		return nil
	}
	host := &huma.Param{
		Name: "host", In: "query", Description: "A virtual host. All that the token may administer if absent.",
		Schema: &huma.Schema{Type: huma.TypeString, Format: "xmpp-domain"},
	}
	return []route{
		{
			method: http.MethodGet, path: "/accounts", id: "list-accounts", summary: "List accounts",
			text: "By host and then by name. Needs `admin:HOST`.", query: append([]*huma.Param{host}, paging()...), gives: Page[Account]{},
			also: map[int]string{404: "The server has no such host."}, do: (*call).listAccounts,
		},
		{
			method: http.MethodPost, path: "/accounts", id: "create-account", summary: "Create an account", text: "Needs `admin:HOST`.",
			takes: NewAccount{}, gives: Account{}, status: http.StatusCreated,
			also: map[int]string{404: "The server has no such host.", 409: "The account exists."}, do: (*call).createAccount,
		},
		{
			method: http.MethodGet, path: "/accounts/{account}", id: "get-account", summary: "Tell whether there is an account",
			text: "Needs `admin:HOST`, or a scope to read what is the account's or to speak for it.", gives: Account{}, do: (*call).getAccount,
		},
		{
			method: http.MethodDelete, path: "/accounts/{account}", id: "remove-account", summary: "Remove an account",
			text: "With all that is stored for it. Its contacts are told, its sessions end. Needs `admin:HOST`.", do: (*call).removeAccount,
		},
		{
			method: http.MethodPut, path: "/accounts/{account}/password", id: "set-password", summary: "Set an account's password",
			text: "Its sessions go on. Needs `admin:HOST`.", takes: NewPassword{}, do: (*call).setPassword,
		},
	}
}

// mayAdmin refuses a token that may not administer host; AnyHost is the server.
func (c *call) mayAdmin(host string) error {
	if c.token.MayAdmin(host) {
		return nil
	}
	return noScope(c.w, "The token may not administer this.", adminOf(host))
}

// operate runs an operation of the operator in the token's name.
func (c *call) operate(name string, args admin.Args) (any, error) {
	// What a change has begun it also ends, whether or not somebody still waits.
	return c.opts.Operations.Run(context.WithoutCancel(c.r.Context()), caller(c.r, &c.token), name, args)
}

func (c *call) listAccounts() (any, error) {
	hosts := slices.Sorted(slices.Values(c.opts.Hosts))
	if c.args.Has("host") {
		j, err := jid.Parse(c.args.Get("host"))
		if err != nil || !j.IsHost() || !slices.Contains(hosts, j.Domain()) {
			if !c.token.MayAdmin(auth.AnyHost) {
				return nil, noScope(c.w, "The token may not administer this.")
			}
			return nil, problem(http.StatusNotFound, "The server has no such host.")
		}
		if err := c.mayAdmin(j.Domain()); err != nil {
			return nil, err
		}
		hosts = []string{j.Domain()}
	}
	hosts = slices.DeleteFunc(hosts, func(h string) bool { return !c.token.MayAdmin(h) })
	if len(hosts) == 0 {
		return nil, noScope(c.w, "The token may administer no host.", adminOf(auth.AnyHost))
	}
	after, err := c.place()
	if err != nil {
		return nil, err
	}
	from, local, _ := strings.Cut(after, "/") // "host/local": the first cannot hold a slash
	page := &Page[Account]{Items: []Account{}}
	limit := c.limit()
	for _, h := range hosts {
		if h < from {
			continue
		}
		begin := ""
		if h == from {
			begin = local
		}
		list, err := c.opts.Auth.Accounts(c.r.Context(), h, begin, limit+1-len(page.Items))
		if err != nil {
			return nil, err
		}
		for _, acc := range list {
			if len(page.Items) == limit {
				last, err := jid.Parse(page.Items[limit-1].JID)
				if err != nil {
					return nil, err
				}
				page.Next = cursor(last.Domain() + "/" + last.Local())
				return page, nil
			}
			created := acc.Created.UTC()
			page.Items = append(page.Items, Account{acc.JID.String(), &created, len(c.opts.Router.Account(acc.JID).Sessions())})
		}
	}
	return page, nil
}

func (c *call) createAccount() (any, error) {
	var in NewAccount
	if err := c.into(&in); err != nil {
		return nil, err
	}
	j, err := jid.Parse(in.JID)
	if err != nil || j.Local() == "" || !j.IsBare() {
		return nil, unfit("body.jid", "is not the address of an account")
	}
	if err := c.mayAdmin(j.Domain()); err != nil {
		return nil, err
	}
	if _, err := c.operate("user add", admin.Args{"jid": j.String(), "password": in.Password}); err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	return &outcome{value: &Account{JID: j.String(), Created: &now}, location: "/accounts/" + segment(j.String())}, nil
}

func (c *call) getAccount() (any, error) {
	j, err := c.account()
	if err != nil {
		return nil, err
	}
	if !c.token.MayAdmin(j.Domain()) && !c.token.MayRead(j) && !c.token.MaySend(j) {
		return nil, noScope(c.w, "The token may not see this account.", readOf(j))
	}
	if err := c.exists(j); err != nil {
		return nil, err
	}
	return &Account{JID: j.String(), Sessions: len(c.opts.Router.Account(j).Sessions())}, nil
}

// exists refuses accounts that there are not.
func (c *call) exists(account jid.JID) error {
	if !slices.Contains(c.opts.Hosts, account.Domain()) {
		return problem(http.StatusNotFound, "There is no such account.")
	}
	ok, err := c.opts.Exists(c.r.Context(), account)
	if err == nil && !ok {
		err = problem(http.StatusNotFound, "There is no such account.")
	}
	return err
}

func (c *call) removeAccount() (any, error) {
	j, err := c.account()
	if err == nil {
		err = c.mayAdmin(j.Domain())
	}
	if err != nil {
		return nil, err
	}
	_, err = c.operate("user remove", admin.Args{"jid": j.String()})
	return nil, err
}

func (c *call) setPassword() (any, error) {
	j, err := c.account()
	if err == nil {
		err = c.mayAdmin(j.Domain())
	}
	var in NewPassword
	if err == nil {
		err = c.into(&in)
	}
	if err != nil {
		return nil, err
	}
	_, err = c.operate("user passwd", admin.Args{"jid": j.String(), "password": in.Password})
	return nil, err
}

// unfit is the problem of a part of the body that the schema cannot tell.
func unfit(location, text string) error {
	p := problem(http.StatusUnprocessableEntity, "The body is not as it should be.")
	p.Errors = []Fault{{location, text}}
	return p
}

// segment is a text as a part of a path.
func segment(s string) string { return url.PathEscape(s) }
