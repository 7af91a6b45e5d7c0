// Package lastactivity implements XEP-0012 (Last Activity): the server's uptime,
// and when an account was last here, told only to those who may see its presence.
//
//spec:xep-0012 2.0 complete | Last Activity | uptime, and last activity of accounts; clients answer for themselves
package lastactivity

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"strconv"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// NS is the namespace of XEP-0012.
const NS = "jabber:iq:last"

//go:embed migrations/*.sql
var migrations embed.FS

// Contacts tells who may know when an account was here.
type Contacts interface {
	// Subscribed tells whether contact (a bare JID) has a subscription to the
	// presence of the account.
	Subscribed(ctx context.Context, account, contact jid.JID) (bool, error)
}

// statusMax bounds the status text that is kept, in octets.
const statusMax = 1024

// Module is the feature.
type Module struct {
	host     *module.Host
	contacts Contacts
	started  time.Time
	status   module.Key[string] // of the session's unavailable presence
}

// New returns the feature.
func New(contacts Contacts) *Module {
	return &Module{contacts: contacts, status: module.NewKey[string]()}
}

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	if err := h.Migrate("lastactivity", migrations); err != nil {
		return err
	}
	m.host, m.started = h, h.Now()
	h.Feature(module.Server|module.Account, NS)
	h.IQ(module.Server, stanza.Get, NS, "query", m.uptime)
	h.IQ(module.Account, stanza.Get, NS, "query", m.account)
	h.Broadcast(module.Guard, m.remember)
	h.Unbound(m.left)
	h.Removed(func(tx *store.Tx, account jid.JID) error {
		_, err := tx.Exec("DELETE FROM last_activity WHERE account = ?", account.String())
		return err
	})
	return nil
}

func answer(since time.Duration, status string) stanza.Payload {
	q := stanza.El(NS, "query").Set("seconds", strconv.FormatInt(int64(max(since, 0)/time.Second), 10))
	return q.AddText(status)
}

// uptime is XEP-0012 §6.
func (m *Module) uptime(context.Context, *module.Request) (stanza.Payload, error) {
	return answer(m.host.Now().Sub(m.started), ""), nil
}

// account is XEP-0012 §3.
func (m *Module) account(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	account := rq.To()
	if rq.From().Bare() != account {
		ok, err := m.contacts.Subscribed(ctx, account, rq.From().Bare())
		if err != nil {
			return nil, err
		}
		if !ok {
			// XEP-0012 §3 says forbidden; that would tell a stranger that the account
			// is there (RFC 6121 §11).
			return nil, &stanza.Error{Condition: stanza.ServiceUnavailable}
		}
	}
	for _, s := range m.host.Router.Account(account).Sessions() {
		if s.Available() {
			return answer(0, ""), nil // XEP-0012 §3: available now
		}
	}
	// It may have left only now: its time is in the store when what is queued is.
	if err := m.host.Store.Sync(ctx); err != nil {
		return nil, err
	}
	at, status, err := m.last(ctx, account)
	if err != nil {
		return nil, err
	}
	if at.IsZero() {
		return nil, &stanza.Error{Condition: stanza.ItemNotFound, Text: "never here"}
	}
	return answer(m.host.Now().Sub(at), status), nil
}

// last returns when an account was last here, zero if never, and what it said
// when it left.
func (m *Module) last(ctx context.Context, account jid.JID) (time.Time, string, error) {
	var at int64
	var status string
	err := m.host.Store.QueryRow(ctx, "SELECT at, status FROM last_activity WHERE account = ?", account.String()).Scan(&at, &status)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return time.Time{}, "", nil
	case err != nil:
		return time.Time{}, "", err
	}
	return time.Unix(at, 0), status, nil
}

// LastSeen returns when an account was last here, zero if never.
func (m *Module) LastSeen(ctx context.Context, account jid.JID) (time.Time, error) {
	at, _, err := m.last(ctx, account)
	return at, err
}

// remember keeps the status of an unavailable presence until the session ends.
func (m *Module) remember(_ context.Context, p *module.Packet) error {
	status := ""
	if p.Stanza.Type == stanza.Unavailable {
		if c, ok := p.Stanza.Child(stanza.NSClient, "status"); ok {
			if status = c.Element().Text(); len(status) > statusMax {
				status = ""
			}
		}
	}
	if status == "" && p.Stanza.Type == "" {
		return nil // the common case stores nothing with the session
	}
	m.status.Update(p.Session, func(string) string { return status })
	return nil
}

// left notes the time when the account's last session has gone.
func (m *Module) left(_ context.Context, _ *module.Turn, s *module.Session) {
	if len(s.Account.Sessions()) > 0 {
		return
	}
	at, status, account := m.host.Now().Unix(), m.status.Get(s), s.Account.Bare.String()
	err := m.host.Store.Submit(func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO last_activity (account, at, status) VALUES (?, ?, ?)
			ON CONFLICT (account) DO UPDATE SET at = excluded.at, status = excluded.status`, account, at, status)
		return err
	}, nil)
	if err != nil {
		m.host.Log.Warn("last activity is not stored", "account", account, "err", err)
	}
}
