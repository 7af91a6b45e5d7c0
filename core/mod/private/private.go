// Package private implements XEP-0049 (Private XML Storage): elements that an
// account keeps for itself, by their expanded names.
//
//spec:xep-0049 1.2 complete | Private XML Storage | private XML storage
package private

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

// NS is the namespace of XEP-0049.
const NS = "jabber:iq:private"

//go:embed migrations/*.sql
var migrations embed.FS

// Options of New.
type Options struct {
	MaxSize  int // octets of one element; 64 KiB when 0
	MaxItems int // elements of one account; 64 when 0
}

// Module is the feature.
type Module struct {
	db   *store.DB
	opts Options
}

// New returns the feature.
func New(o Options) *Module {
	if o.MaxSize == 0 {
		o.MaxSize = 64 << 10
	}
	if o.MaxItems == 0 {
		o.MaxItems = 64
	}
	return &Module{opts: o}
}

// Register implements module.Module.
func (m *Module) Register(h *module.Host) error {
	if err := h.Migrate("private", migrations); err != nil {
		return err
	}
	m.db = h.Store
	h.Feature(module.Server|module.Account, NS)
	h.IQ(module.Own, stanza.Get, NS, "query", m.get)
	h.IQ(module.Own, stanza.Set, NS, "query", m.set)
	h.Removed(func(tx *store.Tx, account jid.JID) error {
		_, err := tx.Exec("DELETE FROM private_xml WHERE account = ?", account.String())
		return err
	})
	return nil
}

// get answers with the stored element, or with the one asked for, empty.
func (m *Module) get(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	asked := rq.Element().Children("", "")
	if len(asked) != 1 {
		return nil, stanza.Err(stanza.BadRequest, "exactly one element is asked for")
	}
	if asked[0].Space == stanza.NSClient || asked[0].Space == "" || asked[0].Space == NS {
		return nil, stanza.Err(stanza.BadRequest, "the element has a namespace of its own") // XEP-0049 §2.2
	}
	e := asked[0]
	var xml string
	err := m.db.QueryRow(ctx, "SELECT xml FROM private_xml WHERE account = ? AND space = ? AND local = ?",
		rq.To().String(), e.Space, e.Local).Scan(&xml)
	if errors.Is(err, sql.ErrNoRows) {
		return stanza.El(NS, "query", stanza.El(e.Space, e.Local)), nil
	}
	if err != nil {
		return nil, err
	}
	return stanza.Raw("<query xmlns='" + NS + "'>" + xml + "</query>"), nil
}

func (m *Module) set(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	elements := rq.Element().Children("", "")
	if len(elements) == 0 {
		return nil, stanza.Err(stanza.NotAcceptable, "nothing to store") // XEP-0049 §2.2
	}
	texts := make([]string, len(elements))
	for i, e := range elements {
		if e.Space == stanza.NSClient || e.Space == "" || e.Space == NS {
			return nil, stanza.Err(stanza.NotAcceptable, "the element needs a namespace of its own")
		}
		var ok bool
		if texts[i], ok = e.Bounded(m.opts.MaxSize); !ok {
			return nil, stanza.Err(stanza.NotAcceptable, "the element is too large")
		}
	}
	account := rq.To().String()
	return nil, m.db.Write(ctx, func(tx *store.Tx) error {
		for i, e := range elements {
			if _, err := tx.Exec(`INSERT INTO private_xml (account, space, local, xml) VALUES (?, ?, ?, ?)
				ON CONFLICT (account, space, local) DO UPDATE SET xml = excluded.xml`,
				account, e.Space, e.Local, texts[i]); err != nil {
				return err
			}
		}
		var n int
		if err := tx.QueryRow("SELECT count(*) FROM private_xml WHERE account = ?", account).Scan(&n); err != nil {
			return err
		}
		if n > m.opts.MaxItems {
			return stanza.Err(stanza.ResourceConstraint, "too many elements are stored")
		}
		return nil
	})
}
