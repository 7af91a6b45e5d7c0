package archive

import (
	"context"
	"time"

	"trivium/core/jid"
	"trivium/core/store"
)

// sweepBatch is how many rows one operation of the store deletes, or counts a
// hundredfold.
const sweepBatch = 200

// goneFor is how long a removed account is remembered: rows that were on their way
// when it was removed come for a moment longer.
const goneFor = 24 * time.Hour

// remove makes an account's archive unreachable, in the transaction that removes
// the account. Its messages are deleted behind it, since they may be many.
func (m *Module) remove(tx *store.Tx, account jid.JID) error {
	if b, ok := m.books.Peek(account); ok {
		b.num.Store(0) // to be looked up again, whatever becomes of the transaction
	}
	m.books.Forget(account)
	_, err := tx.Exec(`INSERT OR IGNORE INTO archive_gone (num, since) SELECT num, ? FROM archive_account WHERE jid = ?`,
		m.host.Now().Unix(), account.String())
	if err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM archive_account WHERE jid = ?`, account.String())
	m.wake()
	return err
}

// wake has the background look for removed accounts; it waits for the transaction
// there.
func (m *Module) wake() {
	select {
	case m.removed <- struct{}{}:
	default:
	}
}

// background does what nobody waits for, until ctx ends.
func (m *Module) background(ctx context.Context) {
	tick := time.NewTicker(m.opt.Sweep)
	defer tick.Stop()
	m.sweep(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-m.retracted:
			if err := m.bury(ctx, r); err != nil && ctx.Err() == nil {
				m.host.Log.Error("a retracted message was not replaced", "account", r.owner.account.String(), "err", err)
			}
		case <-m.removed:
			m.sweep(ctx)
		case <-tick.C:
			m.sweep(ctx)
		}
	}
}

// sweep deletes what is not to be kept any longer: removed accounts' messages, old
// ones, and the oldest of accounts that have too many. Every operation is bounded,
// and others run between them.
func (m *Module) sweep(ctx context.Context) {
	if err := m.Sweep(ctx); err != nil && ctx.Err() == nil {
		m.host.Log.Error("old messages were not deleted", "err", err)
	}
}

// Sweep does what is otherwise done in the background, every Options.Sweep, and
// returns when it is done.
func (m *Module) Sweep(ctx context.Context) error {
	if err := m.purgeGone(ctx); err != nil {
		return err
	}
	if m.opt.MaxAge > 0 {
		if err := m.expire(ctx, idAt(m.host.Now().Add(-m.opt.MaxAge))); err != nil {
			return err
		}
	}
	if m.opt.MaxBytes > 0 {
		return m.trimAll(ctx)
	}
	return nil
}

// until runs an operation again and again until it says that nothing is left. The
// operation tells how many messages it has deleted because they were too old or
// too many.
func (m *Module) until(ctx context.Context, op func(tx *store.Tx) (expired int, left bool, err error)) error {
	for left := true; left; {
		var expired int
		err := m.host.Store.Write(ctx, func(tx *store.Tx) (err error) {
			expired, left, err = op(tx)
			return err
		})
		if err != nil {
			return err
		}
		m.Stats.Expired.Add(int64(expired))
	}
	return nil
}

// purgeGone deletes the messages of removed accounts.
func (m *Module) purgeGone(ctx context.Context) error {
	if err := m.host.Store.Sync(ctx); err != nil { // see wake
		return err
	}
	forget := m.host.Now().Add(-goneFor).Unix()
	return m.until(ctx, func(tx *store.Tx) (int, bool, error) {
		n, err := deleteWhere(tx, `SELECT account, id, size FROM archive_entry WHERE account IN (SELECT num FROM archive_gone) LIMIT ?`, sweepBatch)
		if err != nil || n > 0 {
			return 0, true, err
		}
		_, err = tx.Exec(`DELETE FROM archive_gone WHERE since < ?`, forget)
		return 0, false, err
	})
}

// expire deletes messages before an id, the oldest first (XEP-0313 §3.2).
func (m *Module) expire(ctx context.Context, before int64) error {
	return m.until(ctx, func(tx *store.Tx) (int, bool, error) {
		n, err := deleteWhere(tx, `SELECT account, id, length(stanza) FROM archive_message WHERE id < ? ORDER BY id LIMIT ?`, before, sweepBatch)
		return n, n == sweepBatch, err
	})
}

// trimAll looks for the accounts that have got messages since the last time. That
// only reads, so that all others cost the store nothing.
func (m *Module) trimAll(ctx context.Context) error {
	const accounts = 256
	for num := int64(0); ; {
		rows, err := m.host.Store.Query(ctx, `SELECT num FROM archive_account a WHERE num > ? AND (bytes > ? OR
			EXISTS (SELECT 1 FROM archive_entry e WHERE e.account = a.num AND e.id > a.counted)) ORDER BY num LIMIT ?`,
			num, m.opt.MaxBytes, accounts)
		if err != nil {
			return err
		}
		var nums []int64
		for rows.Next() {
			if err := rows.Scan(&num); err != nil {
				rows.Close()
				return err
			}
			nums = append(nums, num)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, n := range nums {
			if err := m.trim(ctx, n); err != nil {
				return err
			}
		}
		if len(nums) < accounts {
			return nil
		}
	}
}

// trim counts what has come into an account's archive since the last time, and
// deletes the oldest messages until it has no more than Options.MaxBytes.
func (m *Module) trim(ctx context.Context, num int64) error {
	err := m.until(ctx, func(tx *store.Tx) (int, bool, error) {
		var n, last, size int64
		err := tx.QueryRow(`SELECT count(*), coalesce(max(id), 0), coalesce(sum(size), 0) FROM (
			SELECT e.id, e.size FROM archive_account a JOIN archive_entry e ON e.account = a.num AND e.id > a.counted
			WHERE a.num = ? ORDER BY e.id LIMIT ?)`, num, 100*sweepBatch).Scan(&n, &last, &size)
		if err != nil || n == 0 {
			return 0, false, err
		}
		_, err = tx.Exec(`UPDATE archive_account SET counted = ?, bytes = bytes + ? WHERE num = ?`, last, size, num)
		return 0, n == 100*sweepBatch, err
	})
	if err != nil {
		return err
	}
	return m.until(ctx, func(tx *store.Tx) (int, bool, error) {
		var bytes int64
		err := tx.QueryRow(`SELECT coalesce(sum(bytes), 0) FROM archive_account WHERE num = ?`, num).Scan(&bytes)
		if err != nil || bytes <= m.opt.MaxBytes {
			return 0, false, err
		}
		rows, err := collect(tx, `SELECT account, id, size FROM archive_entry WHERE account = ? ORDER BY id LIMIT ?`, num, sweepBatch)
		if err != nil {
			return 0, false, err
		}
		for i := range rows { // as few as need to go
			if bytes <= m.opt.MaxBytes {
				rows = rows[:i]
				break
			}
			bytes -= rows[i].size
		}
		return len(rows), len(rows) == sweepBatch, deleteRows(tx, rows)
	})
}

// old is a row to be deleted.
type old struct{ num, id, size int64 }

// collect reads which rows are meant: account, id and size.
func collect(tx *store.Tx, query string, args ...any) ([]old, error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []old
	for rows.Next() {
		var o old
		if err := rows.Scan(&o.num, &o.id, &o.size); err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, rows.Err()
}

// deleteWhere deletes the rows that a query for collect names, and returns how many.
func deleteWhere(tx *store.Tx, query string, args ...any) (n int, err error) {
	rows, err := collect(tx, query, args...)
	if err != nil {
		return 0, err
	}
	return len(rows), deleteRows(tx, rows)
}

// deleteRows deletes rows wherever they are.
func deleteRows(tx *store.Tx, rows []old) error {
	for _, r := range rows {
		err := execAll(
			tx,
			statement{`DELETE FROM archive_entry WHERE account = ? AND id = ?`, []any{r.num, r.id}},
			statement{`DELETE FROM archive_message WHERE id = ?`, []any{r.id}},
			statement{`DELETE FROM archive_text WHERE rowid = ?`, []any{r.id}},
			statement{`UPDATE archive_account SET bytes = bytes - ? WHERE num = ? AND counted >= ?`, []any{r.size, r.num, r.id}},
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// statement is one of those that belong together.
type statement struct {
	query string
	args  []any
}

func execAll(tx *store.Tx, all ...statement) error {
	for _, s := range all {
		if _, err := tx.Exec(s.query, s.args...); err != nil {
			return err
		}
	}
	return nil
}
