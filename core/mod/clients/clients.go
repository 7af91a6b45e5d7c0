// Package clients implements XEP-0494 (Client Access Management): users see which
// software has access to their account, and take it away.
//
// The table of clients is core/auth's; which of them are here is the router's. A
// client that logs in without an identifier (XEP-0388, user-agent) is seen as long
// as its session lasts.
//
//spec:xep-0494 0.1.0 complete | Client Access Management | clients with a user-agent id, and sessions without one
package clients

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// NS is the namespace of XEP-0494.
const NS = "urn:xmpp:cam:0"

// ErrPassword: the client knows the password, so that only a new one takes its
// access away.
var ErrPassword = errors.New("clients: the client knows the password")

// Module is the feature.
type Module struct {
	users *auth.Service
	host  *module.Host
}

// New returns the feature for the accounts of users.
func New(users *auth.Service) *Module { return &Module{users: users} }

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	m.host = h
	h.Feature(module.Server|module.Account, NS)
	h.IQ(module.Own, stanza.Get, NS, "list", m.list)
	h.IQ(module.Own, stanza.Set, NS, "revoke", m.revoke)
	return nil
}

// Client is one client of an account.
type Client struct {
	Ref       string // names it, for Revoke
	Software  string // may be empty
	Device    string // may be empty
	Password  bool   // it knows the password
	Token     bool   // it has a token of FAST
	Grant     bool   // it has logged in with a token of another authority
	Connected bool   // it has a session, which may be waiting to be resumed
	FirstSeen time.Time
	LastSeen  time.Time
}

// bearer is the mechanism of grants (RFC 7628).
const bearer = "OAUTHBEARER"

// Clients returns what has access to an account: the clients that may log in
// again, or are here, and then the sessions of which nothing else is known.
func (m *Module) Clients(ctx context.Context, account jid.JID) ([]Client, error) {
	known, err := m.users.Clients(ctx, account)
	if err != nil {
		return nil, err
	}
	here := map[string]time.Time{}
	var list, unknown []Client
	for _, s := range m.host.Router.Account(account.Bare()).Sessions() {
		if s.Client != "" {
			if here[s.Client].Before(s.Active()) {
				here[s.Client] = s.Active()
			}
			continue
		}
		// Without an id there are but passwords, or other mechanisms of RFC 6120.
		unknown = append(unknown, Client{Ref: sessionRef(s), Password: true, Connected: true, FirstSeen: s.Bound, LastSeen: s.Active()})
	}
	for _, k := range known {
		active, connected := here[k.ID]
		c := Client{
			Ref: k.Ref, Software: k.Software, Device: k.Device, Password: k.Password, Token: k.Token,
			Grant: k.Mechanism == bearer, Connected: connected, FirstSeen: k.FirstSeen, LastSeen: k.LastSeen,
		}
		if c.LastSeen.Before(active) {
			c.LastSeen = active
		}
		if c.Password || c.Token || c.Grant || c.Connected {
			list = append(list, c)
		}
	}
	return append(list, unknown...), nil
}

// sessionRef names a session that has no client's id.
func sessionRef(s *module.Session) string {
	sum := sha256.Sum256([]byte(s.JID.String()))
	return "session-" + base64.RawURLEncoding.EncodeToString(sum[:9])
}

// Revoke takes a client's access away, and ends its sessions. With force also that
// of one that knows the password, and can come back with it; otherwise the error is
// ErrPassword and nothing changes. It may be auth.ErrNoClient as well.
func (m *Module) Revoke(ctx context.Context, account jid.JID, ref string, force bool) error {
	return m.end(ctx, account, ref, force, nil)
}

// end is Revoke; last gets the session that asks, if that is among those to end.
func (m *Module) end(ctx context.Context, account jid.JID, ref string, force bool, last func(*module.Session) bool) error {
	list, err := m.Clients(ctx, account)
	if err != nil {
		return err
	}
	found := false
	for _, c := range list {
		if c.Ref == ref {
			found = true
			if c.Password && !force {
				return ErrPassword
			}
		}
	}
	if !found {
		return auth.ErrNoClient
	}
	client, err := m.users.RevokeClient(ctx, account, ref)
	if err != nil && !errors.Is(err, auth.ErrNoClient) {
		return err
	}
	var asks *module.Session
	for _, s := range m.host.Router.Account(account.Bare()).Sessions() {
		switch {
		case err == nil && s.Client != client.ID, err != nil && (s.Client != "" || sessionRef(s) != ref):
		case last != nil && last(s):
			asks = s
		default:
			s.Kick(revoked())
		}
	}
	if asks != nil {
		asks.Kick(revoked())
	}
	return nil
}

func revoked() *stream.Error {
	return stream.Err(stream.NotAuthorized, "the access of this client was revoked")
}

// list answers with the clients (XEP-0494 §3.1).
func (m *Module) list(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	clients, err := m.Clients(ctx, rq.To())
	if err != nil {
		return nil, err
	}
	all := stanza.El(NS, "clients")
	for _, c := range clients {
		all.Add(c.element())
	}
	return all, nil
}

func (c *Client) element() *stanza.Element {
	how := stanza.El(NS, "auth")
	for _, a := range []struct {
		name string
		has  bool
	}{{"password", c.Password}, {"grant", c.Grant}, {"fast", c.Token}} {
		if a.has {
			how.Add(stanza.El(NS, a.name))
		}
	}
	agent := stanza.El(NS, "user-agent")
	if c.Software != "" {
		agent.Add(stanza.TextEl(NS, "software", c.Software))
	}
	if c.Device != "" {
		agent.Add(stanza.TextEl(NS, "device", c.Device))
	}
	connected := "false"
	if c.Connected {
		connected = "true"
	}
	el := stanza.El(NS, "client",
		stanza.TextEl(NS, "first-seen", c.FirstSeen.UTC().Format(time.RFC3339)),
		stanza.TextEl(NS, "last-seen", c.LastSeen.UTC().Format(time.RFC3339)),
		how,
		// There is nothing that we let one client of an account do and another not.
		stanza.El(NS, "permission").Set("status", "unrestricted"))
	if len(agent.Nodes) > 0 {
		el.Add(agent)
	}
	return el.Set("connected", connected).Set("id", c.Ref).Set("type", "session")
}

// revoke takes a client's access away (XEP-0494 §3.2).
func (m *Module) revoke(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	self := false
	err := m.end(ctx, rq.To(), rq.Element().Attr("id"), false, func(s *module.Session) bool {
		if s != rq.Session {
			return false
		}
		// The one that asks gets its answer before it is ended.
		self = true
		s.Deliver(rq.Turn, rq.Stanza.Result(nil), nil)
		rq.Turn.Flush()
		s.FlushOut()
		return true
	})
	switch {
	case errors.Is(err, ErrPassword):
		return nil, &stanza.Error{
			Type: stanza.Cancel, Condition: stanza.ServiceUnavailable,
			Text: "the client knows the password: set another one",
			App:  stanza.El(NS, "password-reset-required"),
		}
	case errors.Is(err, auth.ErrNoClient):
		return nil, &stanza.Error{Condition: stanza.ItemNotFound}
	case err == nil && self:
		return nil, module.ErrHandled
	}
	return nil, err
}
