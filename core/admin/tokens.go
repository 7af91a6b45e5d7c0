package admin

import (
	"context"
	"strconv"
	"strings"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
)

// Token is an API token as operators see it. Secret is told once, when it is made.
type Token struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Scopes   []string   `json:"scopes"` // as in "send:juliet@example.org"
	SendAs   []string   `json:"send_as"`
	Read     []string   `json:"read"`
	Admin    []string   `json:"admin"`          // virtual hosts, or "*"
	Rate     int        `json:"rate,omitempty"` // requests a second; 0: as configured
	Created  time.Time  `json:"created"`
	Expires  *time.Time `json:"expires,omitempty"`
	LastUsed *time.Time `json:"last_used,omitempty"`
	Revoked  *time.Time `json:"revoked,omitempty"`
	Secret   string     `json:"secret,omitempty"`
}

// Subject is what the audit log calls it.
func (t Token) Subject() string { return t.ID }

// ShowToken returns the token as operators see it, without its secret.
func ShowToken(t *auth.Token) Token {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	out := Token{
		ID: t.ID, Name: t.Name, Scopes: strings.Fields(t.Scopes.String()), SendAs: texts(t.Scopes.SendAs), Read: texts(t.Scopes.Read),
		Admin: append([]string{}, t.Scopes.Admin...), Rate: t.Rate,
		Created: t.Created.UTC(), Expires: when(t.Expires), LastUsed: when(t.LastUsed), Revoked: when(t.Revoked),
	}
	return out
}

func texts(list []jid.Pattern) []string {
	out := []string{}
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

// Tokens declares the operations on API tokens. They may speak for any domain:
// gateways have domains of their own. now is the clock that Expires goes by.
func Tokens(users *auth.Service, now func() time.Time) []Operation {
	id := Arg{Name: "id", Help: "the token's id", Required: true}
	return []Operation{
		{
			Name: "token add", Help: "make an API token; its secret is shown once", Args: []Arg{
				{Name: "name", Help: "for people"},
				{Name: "send-as", Help: "whom it may speak for, and read: an address, a pattern, or a domain for all at it", Repeated: true},
				{Name: "send", Help: "whom it may speak for, without reading", Repeated: true},
				{Name: "read", Help: "whose traffic and data it may read", Repeated: true},
				{Name: "admin", Help: "which virtual host it may administer; * for the server", Repeated: true},
				{Name: "scope", Help: "scopes, as send:PATTERN, read:PATTERN or admin:HOST", Repeated: true},
				{Name: "expires", Help: "when it ends: a date and time (RFC 3339), or how long it lasts, such as 720h or 30d"},
				{Name: "rate", Help: "requests a second; what is configured for all if absent"},
			},
			Run: func(ctx context.Context, args Args) (any, error) {
				spec, err := tokenSpec(args, now())
				if err != nil {
					return nil, err
				}
				secret, t, err := users.AddToken(ctx, spec)
				if err != nil {
					return nil, told(err)
				}
				shown := ShowToken(&t)
				shown.Secret = secret
				return shown, nil
			},
		},
		{
			Name: "token list", ReadOnly: true, Help: "list the API tokens",
			Run: func(ctx context.Context, _ Args) (any, error) {
				all, err := users.Tokens(ctx)
				if err != nil {
					return nil, err
				}
				list := []Token{}
				for i := range all {
					if all[i].Revoked.IsZero() {
						list = append(list, ShowToken(&all[i]))
					}
				}
				return list, nil
			},
		},
		{
			Name: "token show", ReadOnly: true, Help: "show an API token", Args: []Arg{id},
			Run: func(ctx context.Context, args Args) (any, error) {
				t, err := users.Token(ctx, args["id"])
				if err != nil {
					return nil, told(err)
				}
				return ShowToken(&t), nil
			},
		},
		{
			Name: "token rotate", Help: "give an API token a new secret, shown once; the old one is worthless at once", Args: []Arg{id},
			Run: func(ctx context.Context, args Args) (any, error) {
				secret, t, err := users.RotateToken(ctx, args["id"])
				if err != nil {
					return nil, told(err)
				}
				shown := ShowToken(&t)
				shown.Secret = secret
				return shown, nil
			},
		},
		{
			Name: "token revoke", Help: "make an API token worthless", Args: []Arg{id},
			Run: func(ctx context.Context, args Args) (any, error) {
				return nil, told(users.RevokeToken(ctx, args["id"]))
			},
		},
	}
}

// tokenSpec reads the arguments of "token add".
func tokenSpec(args Args, now time.Time) (auth.TokenSpec, error) {
	spec := auth.TokenSpec{Name: args["name"]}
	scopes, err := auth.ParseScopes(strings.Join(args.List("scope"), " "))
	if err != nil {
		return spec, Errorf("%v", err)
	}
	patterns := func(name string, lists ...*[]jid.Pattern) {
		for _, s := range args.List(name) {
			p, perr := jid.ParsePattern(s)
			if perr != nil && err == nil {
				err = Errorf("%q is not an address nor a pattern of some: %v", s, perr)
			}
			for _, list := range lists {
				*list = append(*list, p)
			}
		}
	}
	patterns("send-as", &scopes.SendAs, &scopes.Read)
	patterns("send", &scopes.SendAs)
	patterns("read", &scopes.Read)
	if err != nil {
		return spec, err
	}
	scopes.Admin = append(scopes.Admin, args.List("admin")...)
	spec.Scopes = scopes
	if s := args["expires"]; s != "" {
		if spec.Expires, err = expiry(s, now); err != nil {
			return spec, err
		}
	}
	if s := args["rate"]; s != "" {
		if spec.Rate, err = strconv.Atoi(s); err != nil {
			return spec, Errorf("%q is not a number of requests a second", s)
		}
	}
	return spec, nil
}

// expiry reads a time, or how long until then.
func expiry(s string, now time.Time) (time.Time, error) {
	t, err := moment(s, now, 1)
	if err != nil {
		return t, Errorf("%q is not a time: write a date and time as 2030-01-31T12:00:00Z, or how long, as 720h or 30d", s)
	}
	return t, nil
}

// moment reads a time (RFC 3339), or how far it is from now, as Go writes it or in
// days, in the direction of sign.
func moment(s string, now time.Time, sign time.Duration) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16) // 179 years
		return now.Add(sign * time.Duration(n) * 24 * time.Hour), err
	}
	d, err := time.ParseDuration(s)
	return now.Add(sign * d), err
}
