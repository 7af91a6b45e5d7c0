package upload

import (
	"context"
	"time"

	"trivium/core/jid"
	"trivium/core/store"
)

// batch is how many files one operation of the store condemns.
const batch = 200

// condemned is a file that is to be deleted.
type condemned struct {
	id, owner string
	size      int64
}

// condemn takes files out of reach. Their octets are deleted after that.
func condemn(tx *store.Tx, now time.Time, files ...condemned) error {
	for _, f := range files {
		if _, err := tx.Exec(`INSERT INTO upload_gone (id, since) VALUES (?, ?) ON CONFLICT DO NOTHING`, f.id, now.UnixMilli()); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM upload_file WHERE id = ?`, f.id); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE upload_owner SET files = files - 1, octets = octets - ? WHERE owner = ?`, f.size, f.owner); err != nil {
			return err
		}
	}
	return nil
}

// remove condemns the files of an account that is removed, and has what it is
// uploading come to nothing.
func (m *Module) remove(tx *store.Tx, account jid.JID) error {
	owner := account.Bare().String()
	for _, s := range []struct {
		query string
		args  []any
	}{
		{`INSERT INTO upload_gone (id, since) SELECT id, ? FROM upload_file WHERE owner = ? ON CONFLICT DO NOTHING`, []any{m.host.Now().UnixMilli(), owner}},
		{`DELETE FROM upload_file WHERE owner = ?`, []any{owner}},
		{`DELETE FROM upload_owner WHERE owner = ?`, []any{owner}},
		{`DELETE FROM upload_usage WHERE owner = ?`, []any{owner}},
	} {
		if _, err := tx.Exec(s.query, s.args...); err != nil {
			return err
		}
	}
	m.mu.Lock()
	for _, t := range m.transfers {
		if t.file.Owner == account.Bare() {
			t.void.Store(true)
		}
	}
	m.mu.Unlock()
	m.poke()
	return nil
}

func (m *Module) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Wake delivers when there may be something to delete.
func (m *Module) Wake() <-chan struct{} { return m.wake }

// Expire condemns the files that are too old, those whose time is over, and the
// oldest ones beyond Options.MaxTotal.
func (m *Module) Expire(ctx context.Context) error {
	now := m.host.Now()
	oldest := int64(-1 << 62)
	if m.opt.MaxAge > 0 {
		oldest = now.Add(-m.opt.MaxAge).UnixMilli()
	}
	forget := now.Add(-2 * m.opt.SlotLife).UnixMilli()
	err := m.host.Store.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM upload_gone WHERE unlinked = 1 AND since < ?`, forget); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM upload_owner WHERE files = 0`); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM upload_usage WHERE hour <= ?`, hour(now)-24)
		return err
	})
	if err != nil {
		return err
	}
	for _, s := range []struct {
		query string
		arg   int64
	}{
		{`SELECT id, owner, size FROM upload_file WHERE expires > 0 AND expires <= ? LIMIT ?`, now.UnixMilli()},
		{`SELECT id, owner, size FROM upload_file WHERE created < ? ORDER BY created, id LIMIT ?`, oldest},
	} {
		for n := batch; n == batch; {
			if n, err = m.condemnSome(ctx, -1, s.query, s.arg, batch); err != nil {
				return err
			}
		}
	}
	if err := m.recount(ctx); err != nil || m.opt.MaxTotal <= 0 {
		return err
	}
	for over := m.kept.Load() - m.opt.MaxTotal; over > 0; over = m.kept.Load() - m.opt.MaxTotal {
		n, err := m.condemnSome(ctx, over, `SELECT id, owner, size FROM upload_file ORDER BY created, id LIMIT ?`, batch)
		if err != nil || n == 0 {
			return err
		}
		if err := m.recount(ctx); err != nil {
			return err
		}
	}
	return nil
}

// condemnSome condemns the files that a query names, as many as it takes to free some
// octets, all when that is negative. It returns how many.
func (m *Module) condemnSome(ctx context.Context, octets int64, query string, args ...any) (n int, err error) {
	now := m.host.Now()
	err = m.host.Store.Write(ctx, func(tx *store.Tx) error {
		n = 0
		rows, err := tx.Query(query, args...)
		if err != nil {
			return err
		}
		var files []condemned
		left := octets
		for rows.Next() && (octets < 0 || left > 0) {
			var f condemned
			if err := rows.Scan(&f.id, &f.owner, &f.size); err != nil {
				return err
			}
			files = append(files, f)
			left -= f.size
		}
		if err := rows.Err(); err != nil {
			return err
		}
		rows.Close()
		n = len(files)
		return condemn(tx, now, files...)
	})
	if err == nil {
		m.Stats.Expired.Add(int64(n))
	}
	return n, err
}

// recount finds out how much there is.
func (m *Module) recount(ctx context.Context) error {
	var kept int64
	err := m.host.Store.QueryRow(ctx, `SELECT coalesce(sum(octets), 0) FROM upload_owner`).Scan(&kept)
	if err == nil {
		m.kept.Store(kept)
	}
	return err
}

// Condemned returns the ids of some files whose octets are to be deleted, and
// Unlinked says that they have been.
func (m *Module) Condemned(ctx context.Context) (ids []string, err error) {
	if err := m.host.Store.Sync(ctx); err != nil { // what woke us may be on its way: see remove
		return nil, err
	}
	rows, err := m.host.Store.Query(ctx, `SELECT id FROM upload_gone WHERE unlinked = 0 ORDER BY since LIMIT ?`, batch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		m.mu.Lock()
		moving := m.transfers[id] != nil // its octets are not in their place yet
		m.mu.Unlock()
		if !moving {
			ids = append(ids, id)
		}
	}
	return ids, rows.Err()
}

// Unlinked says that the octets of these files are gone.
func (m *Module) Unlinked(ctx context.Context, ids []string) error {
	return m.host.Store.Write(ctx, func(tx *store.Tx) error {
		for _, id := range ids {
			if _, err := tx.Exec(`UPDATE upload_gone SET unlinked = 1 WHERE id = ?`, id); err != nil {
				return err
			}
		}
		return nil
	})
}
