package admin

import (
	"context"
	"strings"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// Session is a session as its user and operators see it.
type Session struct {
	JID      string    `json:"jid"`
	Since    time.Time `json:"since"`
	Idle     int       `json:"idle"` // seconds since the client sent something
	Framing  string    `json:"framing"`
	Address  string    `json:"address,omitempty"`
	Secure   bool      `json:"secure"`
	Presence string    `json:"presence"` // "unavailable", "available", or what <show/> says (RFC 6121 §4.7.2.1)
	Priority int       `json:"priority"` // while it is available
	Client   string    `json:"client,omitempty"`
	Software string    `json:"software,omitempty"`
	Device   string    `json:"device,omitempty"`
	Inactive bool      `json:"inactive"` // the client says that nobody looks at it (XEP-0352)
	// Connection is "attached", or "hibernated" while the client has lost it and may
	// resume it; Management tells whether stream management (XEP-0198) is on, and
	// Unacknowledged how many stanzas the client has not confirmed.
	Connection     string `json:"connection"`
	Management     bool   `json:"management"`
	Unacknowledged int    `json:"unacknowledged"`
}

// Client is an installation of software that an account logs in from.
type Client struct {
	ID        string    `json:"id"`
	Software  string    `json:"software,omitempty"`
	Device    string    `json:"device,omitempty"`
	Mechanism string    `json:"mechanism,omitempty"` // of the last login
	Password  bool      `json:"password"`            // it has shown the password that holds now
	Token     bool      `json:"token"`               // it has a token to log in with (XEP-0484)
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	Sessions  int       `json:"sessions"`
}

// Sessions declares the operations on an account's sessions and clients. Users may
// run them on their own accounts.
func Sessions(users *auth.Service, mods *module.Host) []Operation {
	d := devices{users, mods}
	return []Operation{
		{
			Name: "session list", ReadOnly: true, Help: "list the sessions of an account", Own: "jid", OwnHelp: "list your sessions", Args: []Arg{who},
			Run: d.on(func(ctx context.Context, account jid.JID, _ Args) (any, error) { return d.sessions(ctx, account) }),
		},
		{
			Name: "session kick", Help: "end one session of an account, or all of them", Own: "jid", OwnHelp: "end one of your sessions, or all of them", Args: []Arg{
				{Name: "jid", Help: "address of the account, or of the one session", Required: true},
				{Name: "resource", Help: "resource of the one session; all if absent", Choices: d.resources},
			},
			Run: d.kick,
		},
		{
			Name: "client list", ReadOnly: true, Help: "list the clients that an account logs in from", Own: "jid", OwnHelp: "list the clients that you log in from", Args: []Arg{who},
			Run: d.on(func(ctx context.Context, account jid.JID, _ Args) (any, error) { return d.clients(ctx, account) }),
		},
		{
			Name: "client revoke", Help: "forget a client, its tokens and its sessions; with the password it can log in again", Own: "jid", OwnHelp: "take access away from one of your clients, unless it knows the password", Args: []Arg{
				who, {Name: "id", Help: "the client's id", Required: true, Choices: d.choices},
			},
			Run: d.on(d.revoke),
		},
	}
}

// devices knows the sessions and clients of accounts.
type devices struct {
	users *auth.Service
	mods  *module.Host
}

func (d devices) on(f func(context.Context, jid.JID, Args) (any, error)) func(context.Context, Args) (any, error) {
	return func(ctx context.Context, args Args) (any, error) {
		j, err := d.account(ctx, args["jid"])
		if err != nil {
			return nil, err
		}
		return f(ctx, j, args)
	}
}

// account reads the address of an account that is there. Anonymous ones are as
// long as they have sessions.
func (d devices) account(ctx context.Context, s string) (jid.JID, error) {
	j, err := account(s, d.mods.Hosts)
	if err != nil || d.mods.Router.Account(j) != nil {
		return j, err
	}
	switch ok, err := d.users.Exists(ctx, j); {
	case err != nil:
		return jid.JID{}, err
	case !ok:
		return jid.JID{}, told(auth.ErrNotFound)
	}
	return j, nil
}

func (d devices) sessions(ctx context.Context, account jid.JID) ([]Session, error) {
	known := map[string]auth.Client{}
	clients, err := d.users.Clients(ctx, account)
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		known[c.ID] = c
	}
	list := []Session{}
	for _, s := range d.mods.Router.Account(account).Sessions() {
		v := shown(s, d.mods.Now())
		if c, ok := known[s.Client]; ok && s.Client != "" {
			v.Client, v.Device = c.Ref, c.Device
			if c.Software != "" {
				v.Software = c.Software
			}
		}
		list = append(list, v)
	}
	return list, nil
}

func shown(s *router.Session, now time.Time) Session {
	st := s.State()
	v := Session{
		JID: s.JID.String(), Since: s.Bound.UTC().Truncate(time.Second), Idle: max(0, int(now.Sub(s.Active())/time.Second)),
		Framing: st.Info.Framing, Secure: st.Info.Secure, Presence: stanza.Unavailable, Inactive: st.Quiet,
		Connection: "attached", Management: st.Managed, Unacknowledged: st.Unacked,
	}
	if st.Info.Remote != nil {
		v.Address = st.Info.Remote.String()
	}
	if st.Away {
		v.Connection = "hibernated"
	}
	if pr := s.Presence(); pr != nil {
		v.Presence, v.Priority = "available", int(pr.Priority)
		if c, ok := pr.Stanza.Child(stanza.NSClient, "show"); ok {
			if show := strings.TrimSpace(c.Element().Text()); show != "" {
				v.Presence = show
			}
		}
		// XEP-0115 §4: the node names the software.
		if c, ok := pr.Stanza.Child("http://jabber.org/protocol/caps", "c"); ok {
			v.Software = c.Element().Attr("node")
		}
	}
	return v
}

// kick ends sessions and returns which.
func (d devices) kick(ctx context.Context, args Args) (any, error) {
	full, err := jid.Parse(args["jid"])
	if err != nil {
		return nil, Errorf("%q is not an address", args["jid"])
	}
	account, err := d.account(ctx, full.Bare().String())
	if err != nil {
		return nil, err
	}
	resource := full.Resource()
	if r := args["resource"]; r != "" {
		if resource != "" && resource != r {
			return nil, Errorf("%s has another resource than %q", full, r)
		}
		resource = r
	}
	ended := []string{}
	for _, s := range d.mods.Router.Account(account).Sessions() {
		if resource == "" || s.JID.Resource() == resource {
			s.Kick(stream.Err(stream.PolicyViolation, "the session was ended by its user or by an operator"))
			ended = append(ended, s.JID.String())
		}
	}
	if resource != "" && len(ended) == 0 {
		return nil, NotFound.Errorf("%s has no session with the resource %q", account, resource)
	}
	return ended, nil
}

func (d devices) clients(ctx context.Context, account jid.JID) ([]Client, error) {
	all, err := d.users.Clients(ctx, account)
	if err != nil {
		return nil, err
	}
	sessions := map[string]int{}
	for _, s := range d.mods.Router.Account(account).Sessions() {
		sessions[s.Client]++
	}
	list := make([]Client, 0, len(all))
	for _, c := range all {
		list = append(list, Client{
			ID: c.Ref, Software: c.Software, Device: c.Device, Mechanism: c.Mechanism, Password: c.Password, Token: c.Token,
			FirstSeen: c.FirstSeen.UTC().Truncate(time.Second), LastSeen: c.LastSeen.UTC().Truncate(time.Second), Sessions: sessions[c.ID],
		})
	}
	return list, nil
}

// revoke returns the sessions that it has ended.
func (d devices) revoke(ctx context.Context, account jid.JID, args Args) (any, error) {
	c, err := d.users.RevokeClient(ctx, account, args["id"])
	if err != nil {
		return nil, told(err)
	}
	ended := []string{}
	for _, s := range d.mods.Router.Account(account).Sessions() {
		if s.Client == c.ID {
			s.Kick(stream.Err(stream.NotAuthorized, "this client was revoked"))
			ended = append(ended, s.JID.String())
		}
	}
	return ended, nil
}

// resources are the choices of "session kick".
func (d devices) resources(ctx context.Context, args Args) ([]Choice, error) {
	j, err := jid.Parse(args["jid"])
	if err != nil {
		return nil, nil
	}
	list, err := d.sessions(ctx, j.Bare())
	if err != nil {
		return nil, err
	}
	choices := make([]Choice, 0, len(list))
	for _, s := range list {
		_, resource, _ := strings.Cut(s.JID, "/")
		choices = append(choices, Choice{resource, strings.Join(words(resource, s.Software, s.Device, s.Presence, s.Connection), ", ")})
	}
	return choices, nil
}

// choices are those of "client revoke".
func (d devices) choices(ctx context.Context, args Args) ([]Choice, error) {
	j, err := account(args["jid"], d.mods.Hosts)
	if err != nil {
		return nil, nil
	}
	list, err := d.clients(ctx, j)
	if err != nil {
		return nil, err
	}
	choices := make([]Choice, 0, len(list))
	for _, c := range list {
		choices = append(choices, Choice{c.ID, strings.Join(words(c.Software, c.Device, "last seen "+c.LastSeen.Format(time.RFC3339)), ", ")})
	}
	return choices, nil
}

// words returns those that are not empty.
func words(all ...string) (some []string) {
	for _, w := range all {
		if w != "" {
			some = append(some, w)
		}
	}
	return some
}
