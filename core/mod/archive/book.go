package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"trivium/core/jid"
	"trivium/core/store"
)

// book is what is kept in memory of one account: who it is for the store, and what
// it wants kept. It is immutable; its owner is shared by all books of the account.
type book struct {
	*owner
	prefs preferences
}

// owner is an account as the archive knows it.
type owner struct {
	account jid.JID // bare
	mark    string  // the account's <stanza-id/>, up to the id
	passing bool    // no account: nothing is kept
	// num stands for the account in tables. It is 0 until a row is committed, and when
	// the account is removed.
	num atomic.Int64
	// last is the id of the newest row that was made since the book was loaded, or
	// of any account's when it was.
	last atomic.Int64
}

func (b *book) weight() uint32 { return 1 + uint32(len(b.prefs.always)+len(b.prefs.never)) }

// load reads what is known of an account.
func (m *Module) load(ctx context.Context, account jid.JID) (*book, error) {
	account = account.Clone()
	b := &book{owner: &owner{account: account}}
	// The parts of a bare address need no escaping: RFC 7622 §3.2, §3.3.1.
	b.mark = "<stanza-id xmlns='" + NSID + "' by='" + account.String() + "' id='"
	b.last.Store(m.journal.last())
	var num int64
	var fallback, always, never string
	err := m.host.Store.QueryRow(ctx, `SELECT num, fallback, always, never FROM archive_account WHERE jid = ?`,
		account.String()).Scan(&num, &fallback, &always, &never)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		if m.opt.Exists != nil {
			ok, err := m.opt.Exists(ctx, account)
			if err != nil {
				return nil, err
			}
			b.passing = !ok
		}
		return b, nil
	case err != nil:
		return nil, err
	}
	b.num.Store(num)
	b.prefs.fallback = Policy(fallback)
	if b.prefs.always, err = splitJIDs(always); err == nil {
		b.prefs.never, err = splitJIDs(never)
	}
	if err != nil {
		return nil, fmt.Errorf("archive: stored preferences of %s: %w", account, err)
	}
	return b, nil
}

// number returns what stands for an account in tables, 0 when nothing does.
func (m *Module) number(ctx context.Context, b *book) (num int64, err error) {
	if num = b.num.Load(); num != 0 {
		return num, nil
	}
	err = m.host.Store.QueryRow(ctx, `SELECT num FROM archive_account WHERE jid = ?`, b.account.String()).Scan(&num)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return num, err
}

// numberOf returns what stands for an account in tables, and makes it.
func numberOf(tx *store.Tx, account jid.JID) (num int64, err error) {
	err = tx.QueryRow(`SELECT num FROM archive_account WHERE jid = ?`, account.String()).Scan(&num)
	if !errors.Is(err, sql.ErrNoRows) {
		return num, err
	}
	res, err := tx.Exec(`INSERT INTO archive_account (jid) VALUES (?)`, account.String())
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}
