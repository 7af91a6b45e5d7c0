// Package vcard implements XEP-0054 (vcard-temp): each account has one vCard
// that its owner sets and that others may read.
//
//spec:xep-0054 1.3.0 complete | vcard-temp | vcard-temp of accounts
package vcard

import (
	"context"
	"database/sql"
	"embed"
	"errors"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// NS is the namespace of XEP-0054.
const NS = "vcard-temp"

//go:embed migrations/*.sql
var migrations embed.FS

// Options of New.
type Options struct {
	MaxSize int // octets of one vCard; 128 KiB when 0
}

// Module is the feature.
type Module struct {
	db   *store.DB
	opts Options
}

// New returns the feature.
func New(o Options) *Module {
	if o.MaxSize == 0 {
		o.MaxSize = 128 << 10
	}
	return &Module{opts: o}
}

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	if err := h.Migrate("vcard", migrations); err != nil {
		return err
	}
	m.db = h.Store
	h.Feature(module.Server|module.Account, NS)
	h.IQ(module.Account, stanza.Get, NS, "vCard", m.get)
	h.IQ(module.Own, stanza.Set, NS, "vCard", m.set)
	h.Removed(func(tx *store.Tx, account jid.JID) error {
		_, err := tx.Exec("DELETE FROM vcard WHERE account = ?", account.String())
		return err
	})
	return nil
}

func (m *Module) get(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	var xml string
	err := m.db.QueryRow(ctx, "SELECT xml FROM vcard WHERE account = ?", rq.To().String()).Scan(&xml)
	switch {
	case errors.Is(err, sql.ErrNoRows) && rq.From().Bare() == rq.To():
		return stanza.El(NS, "vCard"), nil // XEP-0054 §3.1: none yet
	case errors.Is(err, sql.ErrNoRows):
		// XEP-0054 §3.3: the same as for a user who is not there.
		return nil, &stanza.Error{Condition: stanza.ServiceUnavailable}
	case err != nil:
		return nil, err
	}
	return stanza.Raw(xml), nil
}

func (m *Module) set(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	// The tree is written anew, so that what is stored stands by itself.
	xml, ok := rq.Element().Bounded(m.opts.MaxSize)
	if !ok {
		return nil, stanza.Err(stanza.NotAcceptable, "the vCard is too large")
	}
	return nil, m.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO vcard (account, xml) VALUES (?, ?)
			ON CONFLICT (account) DO UPDATE SET xml = excluded.xml`, rq.To().String(), xml)
		return err
	})
}
