package admin

import (
	"context"
	"errors"
	"slices"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/sasl"
	"trivium/core/stream"
)

// User is an account as operators see it.
type User struct {
	JID      string    `json:"jid"`
	Created  time.Time `json:"created"`
	Sessions int       `json:"sessions"`
}

// Token is an API token as operators see it. Secret is told once, when it is made.
type Token struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	SendAs   []string   `json:"send_as"`
	Created  time.Time  `json:"created"`
	LastUsed *time.Time `json:"last_used,omitempty"`
	Secret   string     `json:"secret,omitempty"`
}

// Accounts declares the operations on accounts and API tokens. Users of hosts that
// are not the server's are refused. Tokens may speak for any domain: gateways have
// domains of their own.
func Accounts(users *auth.Service, mods *module.Host) []Operation {
	r, hosts := mods.Router, mods.Hosts
	account := func(args Args) (jid.JID, error) { return account(args["jid"], hosts) }
	password := Arg{Name: "password", Help: "the password", Required: true, Secret: true}
	end := func(account jid.JID, text string) {
		for _, s := range r.Account(account).Sessions() {
			s.Kick(stream.Err(stream.NotAuthorized, text))
		}
	}
	return []Operation{
		{
			Name: "user add", Help: "create an account", Args: []Arg{who, password},
			Run: func(ctx context.Context, args Args) (any, error) {
				j, err := account(args)
				if err != nil {
					return nil, err
				}
				if err := users.CreateAccount(ctx, j, args["password"]); err != nil {
					return nil, told(err)
				}
				return User{JID: j.String(), Created: time.Now().UTC().Truncate(time.Second)}, nil
			},
		},
		{
			Name: "user passwd", Help: "set an account's password; its sessions go on", Args: []Arg{who, password},
			Run: func(ctx context.Context, args Args) (any, error) {
				j, err := account(args)
				if err != nil {
					return nil, err
				}
				return nil, told(users.SetPassword(ctx, j, args["password"]))
			},
		},
		{
			Name: "user remove", Help: "remove an account with all it has stored, and end its sessions", Args: []Arg{who},
			Run: func(ctx context.Context, args Args) (any, error) {
				j, err := account(args)
				if err != nil {
					return nil, err
				}
				switch ok, err := users.Exists(ctx, j); {
				case err != nil:
					return nil, err
				case !ok:
					return nil, told(auth.ErrNotFound)
				}
				var t router.Turn
				if err := mods.AccountLeaving(ctx, &t, j); err != nil {
					return nil, err
				}
				end(j, "the account is being removed")
				if err := users.RemoveAccount(ctx, j); err != nil {
					return nil, told(err)
				}
				end(j, "the account was removed") // who came in between
				return nil, nil
			},
		},
		{
			Name: "user list", Help: "list the accounts of a host, or of all", Args: []Arg{{Name: "host", Help: "virtual host"}},
			Run: func(ctx context.Context, args Args) (any, error) {
				list, of := []User{}, hosts
				if args["host"] != "" {
					j, err := jid.Parse(args["host"])
					if err != nil || !slices.Contains(hosts, j.String()) {
						return nil, Errorf("%q is not a host of this server; its hosts are %v", args["host"], hosts)
					}
					of = []string{j.String()}
				}
				for _, h := range of {
					for after := ""; ; {
						page, err := users.Accounts(ctx, h, after, 500)
						if err != nil {
							return nil, err
						}
						for _, a := range page {
							list = append(list, User{a.JID.String(), a.Created.UTC(), len(r.Account(a.JID).Sessions())})
							after = a.JID.Local()
						}
						if len(page) < 500 {
							break
						}
					}
				}
				return list, nil
			},
		},
		{
			Name: "token add", Help: "make an API token; its secret is shown once", Args: []Arg{
				{Name: "name", Help: "for people"},
				{Name: "send-as", Help: "whom it may speak for: an address, or a domain for all at it", Required: true, Repeated: true},
			},
			Run: func(ctx context.Context, args Args) (any, error) {
				spec := auth.TokenSpec{Name: args["name"]}
				for _, s := range args.List("send-as") {
					j, err := jid.Parse(s)
					if err != nil {
						return nil, Errorf("%q is not an address: %v", s, err)
					}
					spec.SendAs = append(spec.SendAs, j)
				}
				secret, t, err := users.AddToken(ctx, spec)
				if err != nil {
					return nil, told(err)
				}
				shown := token(&t)
				shown.Secret = secret
				return shown, nil
			},
		},
		{
			Name: "token list", Help: "list the API tokens",
			Run: func(ctx context.Context, _ Args) (any, error) {
				all, err := users.Tokens(ctx)
				if err != nil {
					return nil, err
				}
				list := []Token{}
				for i := range all {
					if all[i].Revoked.IsZero() {
						list = append(list, token(&all[i]))
					}
				}
				return list, nil
			},
		},
		{
			Name: "token revoke", Help: "make an API token worthless", Args: []Arg{{Name: "id", Help: "the token's id", Required: true}},
			Run: func(ctx context.Context, args Args) (any, error) {
				return nil, told(users.RevokeToken(ctx, args["id"]))
			},
		},
	}
}

// who is the argument of operations on one account.
var who = Arg{Name: "jid", Help: "address of the account, user@domain", Required: true}

// account reads the address of an account of one of the hosts.
func account(s string, hosts []string) (jid.JID, error) {
	j, err := jid.Parse(s)
	if err != nil || !j.IsBare() || j.Local() == "" {
		return jid.JID{}, Errorf("%q is not the address of an account: write user@domain", s)
	}
	if !slices.Contains(hosts, j.Domain()) {
		return jid.JID{}, Errorf("%s is not a host of this server; its hosts are %v", j.Domain(), hosts)
	}
	return j, nil
}

func token(t *auth.Token) Token {
	out := Token{ID: t.ID, Name: t.Name, Created: t.Created.UTC(), SendAs: []string{}}
	for _, j := range t.SendAs {
		out.SendAs = append(out.SendAs, j.String())
	}
	if !t.LastUsed.IsZero() {
		used := t.LastUsed.UTC()
		out.LastUsed = &used
	}
	return out
}

// told turns the errors of accounts into words for the operator.
func told(err error) error {
	var busy *sasl.Failure
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrExists):
		return Errorf("the account exists already")
	case errors.Is(err, auth.ErrNotFound):
		return Errorf("there is no such account")
	case errors.Is(err, auth.ErrNoClient):
		return Errorf("there is no such client")
	case errors.Is(err, auth.ErrToken):
		return Errorf("there is no such token")
	case errors.Is(err, auth.ErrTokenSpec):
		return Errorf("a token needs one or more addresses to send as")
	case errors.As(err, &busy):
		return Errorf("the server is busy with other passwords: try again")
	case errors.Is(err, sasl.ErrPassword):
		return Errorf("not a valid password: it must not be empty nor hold control characters")
	case errors.Is(err, auth.ErrAddress):
		return Errorf("not the address of an account")
	}
	return err
}
