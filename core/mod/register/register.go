// Package register implements XEP-0077 (In-Band Registration): new accounts
// where a host allows them, change of password, and removal of one's own account.
//
//spec:xep-0077 2.4 complete | In-Band Registration | registration (off by default), password change, removal
package register

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/sasl"
	"trivium/core/stanza"
	"trivium/core/stream"
)

// Namespaces of XEP-0077 §15.1.
const (
	NS        = "jabber:iq:register"
	NSFeature = "http://jabber.org/features/iq-register"
)

// Options of New.
type Options struct {
	Open  []string      // hosts where anybody may register; none by default
	Burst int           // new accounts from one address at once; 3 when 0
	Every time.Duration // and then one in this time; 10 min when 0
	// Elsewhere are the hosts whose passwords are not kept here: none can be set, and
	// so nobody registers.
	Elsewhere []string
}

// Module is the feature.
type Module struct {
	host      *module.Host
	users     *auth.Service
	opts      Options
	open      map[string]bool
	elsewhere map[string]bool // passwords are kept elsewhere

	mu    sync.Mutex
	rates map[netip.Prefix]*rate.Limiter
}

// New returns the feature.
func New(users *auth.Service, o Options) *Module {
	if o.Burst == 0 {
		o.Burst = 3
	}
	if o.Every == 0 {
		o.Every = 10 * time.Minute
	}
	m := &Module{users: users, opts: o, open: map[string]bool{}, elsewhere: map[string]bool{}, rates: map[netip.Prefix]*rate.Limiter{}}
	for _, h := range o.Open {
		m.open[prepared(h)] = true
	}
	for _, h := range o.Elsewhere {
		m.elsewhere[prepared(h)] = true
		delete(m.open, prepared(h))
	}
	return m
}

// prepared returns the domain as addresses have it (RFC 7622 §3.2).
func prepared(domain string) string {
	if j, err := jid.New("", domain, ""); err == nil {
		return j.Domain()
	}
	return domain
}

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	m.host = h
	h.Feature(module.Server, NS)
	h.StreamFeature(func(st module.Stage, host string) stanza.Payload {
		if st == module.BeforeLogin && m.open[host] {
			return stanza.El(NSFeature, "register") // XEP-0077 §8
		}
		return nil
	})
	h.BeforeAuth(stanza.Get, NS, "query", m.fields)
	h.BeforeAuth(stanza.Set, NS, "query", m.create)
	h.IQ(module.Server|module.Own, stanza.Get, NS, "query", m.current)
	h.IQ(module.Server|module.Own, stanza.Set, NS, "query", m.change)
	return nil
}

// fields answers what a new account needs (XEP-0077 §3.1.1).
func (m *Module) fields(_ context.Context, rq *module.Request) (stanza.Payload, error) {
	if !m.open[rq.To().Domain()] {
		return nil, stanza.Err(stanza.ServiceUnavailable, "registration is closed") // XEP-0077 §3.1
	}
	return stanza.El(NS, "query",
		stanza.TextEl(NS, "instructions", "Choose a username and password for use with this service."),
		stanza.El(NS, "username"), stanza.El(NS, "password")), nil
}

// create makes the account (XEP-0077 §3.1.2, §3.1.3).
func (m *Module) create(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	host := rq.To().Domain()
	if !m.open[host] {
		return nil, stanza.Err(stanza.ServiceUnavailable, "registration is closed") // XEP-0077 §3.1
	}
	q := rq.Element()
	user, password := q.ChildText(NS, "username"), q.ChildText(NS, "password")
	if user == "" || password == "" {
		return nil, stanza.Err(stanza.NotAcceptable, "username and password are required")
	}
	account, err := jid.New(user, host, "")
	if err != nil {
		return nil, &stanza.Error{Condition: stanza.NotAcceptable, Text: "not a valid username", Cause: err}
	}
	if !m.allow(rq.Remote) {
		// XEP-0077 §14: bulk registration is slowed down.
		return nil, &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: "too many registrations from this address"}
	}
	switch err := m.users.CreateAccount(ctx, account, password); {
	case errors.Is(err, auth.ErrExists):
		return nil, stanza.Err(stanza.Conflict, "the username is taken")
	case errors.Is(err, auth.ErrAddress):
		return nil, stanza.Err(stanza.NotAcceptable, "not a valid username")
	case errors.Is(err, sasl.ErrPassword):
		return nil, stanza.Err(stanza.NotAcceptable, "not a valid password")
	case err != nil:
		return nil, err
	}
	m.host.Log.Info("account registered", "account", account.String())
	return nil, nil
}

// ratesMax bounds how many addresses are remembered.
const ratesMax = 4096

// allow takes one registration from an address's allowance. IPv6 counts by /64.
func (m *Module) allow(remote net.Addr) bool {
	a, ok := remote.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return true
	}
	addr := a.AddrPort().Addr().Unmap()
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return true
	}
	now := m.host.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.rates[prefix]
	if l == nil {
		if len(m.rates) >= ratesMax {
			for p, old := range m.rates { // those who have their whole allowance again
				if old.TokensAt(now) >= float64(m.opts.Burst) {
					delete(m.rates, p)
				}
			}
			if len(m.rates) >= ratesMax {
				return false
			}
		}
		l = rate.NewLimiter(rate.Every(m.opts.Every), m.opts.Burst)
		m.rates[prefix] = l
	}
	return l.AllowN(now, 1)
}

// own refuses everybody but sessions of the account's host asking for themselves.
func own(rq *module.Request) (jid.JID, error) {
	if rq.Session == nil || rq.Session.JID.Domain() != rq.To().Domain() {
		return jid.JID{}, &stanza.Error{Condition: stanza.NotAllowed}
	}
	return rq.Session.JID.Bare(), nil
}

// current tells an account that it is registered (XEP-0077 §3.1.1).
func (m *Module) current(_ context.Context, rq *module.Request) (stanza.Payload, error) {
	account, err := own(rq)
	if err != nil {
		return nil, err
	}
	q := stanza.El(NS, "query", stanza.El(NS, "registered"), stanza.TextEl(NS, "username", account.Local()))
	if !m.elsewhere[account.Domain()] {
		q.Add(stanza.El(NS, "password"))
	}
	return q, nil
}

// change sets a new password (XEP-0077 §3.3) or removes the account (§3.2).
func (m *Module) change(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	account, err := own(rq)
	if err != nil {
		return nil, err
	}
	q := rq.Element()
	if q.Child(NS, "remove") != nil {
		if len(q.Children("", "")) != 1 {
			return nil, stanza.Err(stanza.BadRequest, "remove stands alone")
		}
		return nil, m.remove(ctx, rq, account)
	}
	user, password := q.ChildText(NS, "username"), q.ChildText(NS, "password")
	if user == "" || password == "" {
		return nil, stanza.Err(stanza.BadRequest, "username and password are required")
	}
	if named, err := jid.New(user, account.Domain(), ""); err != nil || named != account {
		return nil, stanza.Err(stanza.NotAllowed, "the username is another's")
	}
	if m.elsewhere[account.Domain()] {
		return nil, stanza.Err(stanza.NotAllowed, "passwords are not kept here") // XEP-0077 §3.3
	}
	switch err := m.users.SetPassword(ctx, account, password); {
	case errors.Is(err, sasl.ErrPassword):
		return nil, stanza.Err(stanza.BadRequest, "not a valid password")
	case errors.Is(err, auth.ErrNotFound): // a session of ANONYMOUS
		return nil, &stanza.Error{Condition: stanza.NotAllowed}
	case err != nil:
		return nil, err
	}
	return nil, nil
}

// remove removes the account and ends its sessions; the one that asked gets its
// answer first (XEP-0077 §3.2).
func (m *Module) remove(ctx context.Context, rq *module.Request, account jid.JID) error {
	if err := m.host.AccountLeaving(ctx, rq.Turn, account); err != nil {
		return err
	}
	switch err := m.users.RemoveAccount(ctx, account); {
	case errors.Is(err, auth.ErrNotFound):
		return &stanza.Error{Condition: stanza.NotAllowed}
	case err != nil:
		return err
	}
	m.host.Log.Info("account removed by its owner", "account", account.String())
	sessions := m.host.Router.Account(account).Sessions()
	for _, s := range sessions {
		if s != rq.Session {
			s.Kick(stream.Err(stream.NotAuthorized, "the account was removed"))
		}
	}
	rq.Session.Deliver(rq.Turn, rq.Stanza.Result(nil), nil)
	rq.Turn.Flush()
	rq.Session.FlushOut()
	rq.Session.Kick(stream.Err(stream.NotAuthorized, "the account was removed"))
	return module.ErrHandled
}
