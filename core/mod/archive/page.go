package archive

import (
	"context"
	"database/sql"
	"errors"
	"slices"
)

// page is what a query gets.
type page struct {
	rows  []result // by id
	more  bool     // it has been limited: there is more in the direction of the query
	count int      // of all that match, when no rows were asked for
	exact bool     // count is known
}

// result is one row of a page.
type result struct {
	id  int64
	doc []byte
}

// read reads the page of a query. Reading begins at an id and ends with the page,
// however large the archive is and wherever in it.
func (m *Module) read(ctx context.Context, num int64, q *query) (*page, error) {
	if err := m.know(ctx, num, q.known); err != nil {
		return nil, err
	}
	g := &page{}
	if q.lo >= q.hi || num == 0 || q.words != nil && len(q.words) == 0 {
		g.exact = true
		return g, nil
	}
	if q.limit == 0 {
		if err := m.measure(ctx, num, q, g); err != nil {
			return nil, err
		}
	}
	f := finder{m: m, num: num, q: q, page: g, lo: q.lo, hi: q.hi, room: m.opt.PageBytes}
	walk := f.walk
	if q.ids != nil && q.words == nil {
		walk = f.fetch
	}
	if err := walk(ctx); err != nil {
		return nil, err
	}
	if q.backwards {
		slices.Reverse(g.rows)
	}
	return g, nil
}

// know fails with item-not-found unless all these messages are in the archive.
func (m *Module) know(ctx context.Context, num int64, ids []int64) error {
	for _, id := range ids {
		var one int
		err := m.host.Store.QueryRow(ctx, `SELECT 1 FROM archive_entry WHERE account = ? AND id = ?`, num, id).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measure counts what matches, for a query that asks for no rows (XEP-0059 §2.7).
// It walks over entries alone; what needs the messages themselves is not counted.
func (m *Module) measure(ctx context.Context, num int64, q *query, g *page) error {
	if q.words != nil || q.ids != nil || q.with.any {
		return nil
	}
	statement, args := `SELECT count(*) FROM archive_entry WHERE account = ? AND id > ? AND id < ?`, []any{num, q.lo, q.hi}
	if q.with.filters() {
		statement, args = statement+` AND peer = ?`, append(args, q.with.hash)
	}
	g.exact = true
	return m.host.Store.QueryRow(ctx, statement, args...).Scan(&g.count)
}

// finder collects the rows of a page.
type finder struct {
	m      *Module
	num    int64
	q      *query
	page   *page
	lo, hi int64 // what has not been looked at lies between
	room   int   // octets that the page may still take
}

// take looks at one row, the next one in the direction of the query. It reports
// true when the page is complete.
func (f *finder) take(id int64, raw []byte) bool {
	if f.q.backwards {
		f.hi = id
	} else {
		f.lo = id
	}
	if !f.q.with.match(raw) || f.q.words != nil && f.q.ids != nil && !f.wanted(id) {
		return false
	}
	if len(f.page.rows) == f.q.limit || len(f.page.rows) > 0 && f.room < len(raw) {
		f.page.more = true
		return true
	}
	f.room -= len(raw)
	f.page.rows = append(f.page.rows, result{id, slices.Clone(raw)})
	return false
}

func (f *finder) wanted(id int64) bool {
	_, found := slices.BinarySearch(f.q.ids, id)
	return found
}

// fetch looks up single messages.
func (f *finder) fetch(ctx context.Context) error {
	ids := slices.Clone(f.q.ids)
	if f.q.backwards {
		slices.Reverse(ids)
	}
	for _, id := range ids {
		if id <= f.q.lo || id >= f.q.hi {
			continue
		}
		var raw []byte
		err := f.m.host.Store.QueryRow(ctx, `SELECT stanza FROM archive_message WHERE id = ? AND account = ?`, id, f.num).Scan(&raw)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound() // deleted in this moment
		}
		if err != nil {
			return err
		}
		if f.take(id, raw) {
			return nil
		}
	}
	return nil
}

// maxChunk is how many rows walk reads in one step at most.
const maxChunk = 1000

// walk reads along an index. The first step reads a page and one row more. A
// filter that rows are not found by may leave too few of them: the steps behind it
// read more at a time.
func (f *finder) walk(ctx context.Context) error {
	for chunk := 0; ; {
		chunk = max(f.q.limit+1-len(f.page.rows), min(2*chunk, maxChunk))
		if done, err := f.step(ctx, chunk); done || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (f *finder) step(ctx context.Context, chunk int) (done bool, err error) {
	statement, args := f.statement()
	// Watching ctx would cost more than the read takes.
	rows, err := f.m.host.Store.Query(context.WithoutCancel(ctx), statement, append(args, chunk)...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var id int64
		var raw sql.RawBytes
		if err := rows.Scan(&id, &raw); err != nil {
			return false, err
		}
		if f.take(id, raw) {
			return true, nil
		}
	}
	return n < chunk, rows.Err()
}

// The statements. Each walks along one index, from one end of the range on. SQLite
// plans by the value of a bare parameter in LIMIT, each time anew: hence the sum.
const (
	selectRow = `SELECT m.id, m.stanza FROM archive_entry e CROSS JOIN archive_message m ON m.id = e.id
		WHERE e.account = ? AND e.id > ? AND e.id < ?`
	selectPeer = selectRow + ` AND e.peer = ?`
	selectText = `SELECT m.id, m.stanza FROM archive_text t CROSS JOIN archive_message m ON m.id = t.rowid
		WHERE m.account = ? AND t.rowid > ? AND t.rowid < ? AND archive_text MATCH ?`

	upwards       = ` ORDER BY e.id LIMIT 0+?`
	downwards     = ` ORDER BY e.id DESC LIMIT 0+?`
	upwardsText   = ` ORDER BY t.rowid LIMIT 0+?`
	downwardsText = ` ORDER BY t.rowid DESC LIMIT 0+?`
)

func (f *finder) statement() (string, []any) {
	args := []any{f.num, f.lo, f.hi}
	switch {
	case f.q.words != nil && f.q.backwards:
		return selectText + downwardsText, append(args, match(f.num, f.q.words))
	case f.q.words != nil:
		return selectText + upwardsText, append(args, match(f.num, f.q.words))
	case f.q.with.filters() && !f.q.with.any && f.q.backwards:
		return selectPeer + downwards, append(args, f.q.with.hash)
	case f.q.with.filters() && !f.q.with.any:
		return selectPeer + upwards, append(args, f.q.with.hash)
	case f.q.backwards:
		return selectRow + downwards, args
	}
	return selectRow + upwards, args
}
