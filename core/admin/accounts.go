package admin

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
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

// UserDetails is what operators see of one account. The times that are nil never were.
type UserDetails struct {
	JID         string     `json:"jid"`
	Created     time.Time  `json:"created"`
	PasswordSet *time.Time `json:"password_set,omitempty"` // nil: it has no password of ours
	LastSeen    *time.Time `json:"last_seen,omitempty"`    // the last login of one of its clients, not exact
	Clients     int        `json:"clients"`
	Sessions    int        `json:"sessions"`
}

// Accounts declares the operations on accounts. Users of hosts that are not the
// server's are refused.
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
			Name: "user list", ReadOnly: true, Help: "list the accounts of a host, or of all", Args: []Arg{
				{Name: "host", Help: "virtual host"},
				{Name: "after", Help: "begin behind this address: the last one of the page before"},
				{Name: "limit", Help: "the most accounts to list; all if absent"},
			},
			Run: func(ctx context.Context, args Args) (any, error) { return listUsers(ctx, users, mods, args) },
		},
		{
			Name: "user show", ReadOnly: true, Help: "show an account", Args: []Arg{who},
			Run: func(ctx context.Context, args Args) (any, error) {
				j, err := account(args)
				if err != nil {
					return nil, err
				}
				a, err := users.Account(ctx, j)
				if err != nil {
					return nil, told(err)
				}
				clients, err := users.Clients(ctx, j)
				if err != nil {
					return nil, err
				}
				v := UserDetails{JID: j.String(), Created: a.Created.UTC(), Clients: len(clients), Sessions: len(r.Account(j).Sessions())}
				if !a.PasswordSet.IsZero() {
					set := a.PasswordSet.UTC()
					v.PasswordSet = &set
				}
				for _, c := range clients {
					if seen := c.LastSeen.UTC().Truncate(time.Second); v.LastSeen == nil || seen.After(*v.LastSeen) {
						v.LastSeen = &seen
					}
				}
				return v, nil
			},
		},
	}
}

// listUsers returns accounts in the order of the hosts, and of their localparts there.
func listUsers(ctx context.Context, users *auth.Service, mods *module.Host, args Args) ([]User, error) {
	hosts := mods.Hosts
	if args["host"] != "" {
		j, err := jid.Parse(args["host"])
		if err != nil || !slices.Contains(hosts, j.String()) {
			return nil, NotFound.Errorf("%q is not a host of this server; its hosts are %v", args["host"], hosts)
		}
		hosts = []string{j.String()}
	}
	after := ""
	if s := args["after"]; s != "" {
		j, err := account(s, hosts)
		if err != nil {
			return nil, err
		}
		after, hosts = j.Local(), hosts[slices.Index(hosts, j.Domain()):]
	}
	limit, err := number(args, "limit", 1, math.MaxInt32)
	if err != nil {
		return nil, err
	}
	const portion = 500
	list := []User{}
	for _, h := range hosts {
		for {
			n := portion
			if limit > 0 {
				if n = min(portion, limit-len(list)); n == 0 {
					return list, nil
				}
			}
			page, err := users.Accounts(ctx, h, after, n)
			if err != nil {
				return nil, err
			}
			for _, a := range page {
				list = append(list, User{a.JID.String(), a.Created.UTC(), len(mods.Router.Account(a.JID).Sessions())})
				after = a.JID.Local()
			}
			if len(page) < n {
				break
			}
		}
		after = ""
	}
	return list, nil
}

// number reads an argument that is one; 0 if it is absent.
func number(args Args, name string, least, most int) (int, error) {
	s := args[name]
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, Errorf("%s is a number from %d to %d, not %q", name, least, most, s)
	}
	return n, nil
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
		return jid.JID{}, NotFound.Errorf("%s is not a host of this server; its hosts are %v", j.Domain(), hosts)
	}
	return j, nil
}

// told turns the errors of accounts into words for the operator.
func told(err error) error {
	var busy *sasl.Failure
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrExists):
		return Conflict.Errorf("the account exists already")
	case errors.Is(err, auth.ErrNotFound):
		return NotFound.Errorf("there is no such account")
	case errors.Is(err, auth.ErrNoClient):
		return NotFound.Errorf("there is no such client")
	case errors.Is(err, auth.ErrToken):
		return NotFound.Errorf("there is no such token")
	case errors.Is(err, auth.ErrTokenSpec):
		return Errorf("%v", err)
	case errors.As(err, &busy):
		return Busy.Errorf("the server is busy with other passwords: try again")
	case errors.Is(err, sasl.ErrPassword):
		return Errorf("not a valid password: it must not be empty nor hold control characters")
	case errors.Is(err, auth.ErrAddress):
		return Errorf("not the address of an account")
	}
	return err
}
