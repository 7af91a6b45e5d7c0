// Package keyindex finds rows of tables that only grow at their end by names that
// are as good as random.
//
// An ordinary index would cost more than the rows: nearly every new name dirties a
// page of its own, which is written to the log and once more at the checkpoint. Here
// new names stay in memory; when there are many they are written together, in the
// order of the index, so that a page takes several. A filter spares the question
// for names that were never there, which nearly all are that are asked for.
//
// Rows are numbered by their owner, and keep their numbers. After a crash the owner
// adds again what is not in the index yet (New says from where on).
package keyindex

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/store"
	"trivium/httpapi/bloom"
)

// Options of New. Zero values are defaults.
type Options struct {
	// Keep is how long names have to be found, 24 h; they may be found for up to twice
	// that time.
	Keep time.Duration
	// Most is how many names are in memory before they are written: 32768.
	Most   int
	Logger *slog.Logger
	Now    func() time.Time
}

// Index is safe for concurrent use.
type Index struct {
	db   *store.DB
	opts Options
	sql  statements

	known atomic.Pointer[bloom.Filter] // of what lies in the tables; not nil after New

	mu      sync.Mutex
	recent  names // not in the tables
	leaving names // on their way into the tables; nil: none
	busy    bool  // somebody writes or reads the tables as a whole
	current int   // which of the two tables is written to
	since   int64 // when that began, microseconds since 1970
}

// names are some names, in the order in which they came.
type names struct {
	list []entry
	last map[bloom.Digest]int32 // of each name: the place in the list, plus one
}

type entry struct {
	name bloom.Digest
	row  int64
	prev int32 // the one before with the same name: its place plus one
}

func (n *names) add(d bloom.Digest, row int64) {
	if n.last == nil {
		n.last = map[bloom.Digest]int32{}
	}
	n.list = append(n.list, entry{d, row, n.last[d]})
	n.last[d] = int32(len(n.list))
}

func (n *names) find(rows []int64, d bloom.Digest) []int64 {
	for i := n.last[d]; i != 0 && len(rows) < Alike; i = n.list[i-1].prev {
		rows = append(rows, n.list[i-1].row)
	}
	return rows
}

// Alike is how many rows of one name are found at most, the latest.
const Alike = 64

// statements are those of one index. They are made once.
type statements struct {
	insert, find, clear, scan [2]string
	state, done, turn         string
}

// prepare makes the statements for the tables of that name: name_a, name_b with
// columns key and row, primary key (key, row), and name_state with current, since
// and indexed.
func prepare(name string) (s statements) {
	for i, t := range [2]string{name + "_a", name + "_b"} {
		s.insert[i] = `INSERT OR IGNORE INTO ` + t + ` (key, row) VALUES (?, ?)`
		s.find[i] = `SELECT row FROM ` + t + ` WHERE key = ? ORDER BY row DESC LIMIT ?`
		s.clear[i] = `DELETE FROM ` + t
		s.scan[i] = `SELECT key FROM ` + t + ` WHERE key > ? ORDER BY key LIMIT ?`
	}
	s.state = `SELECT current, since, indexed FROM ` + name + `_state`
	s.done = `UPDATE ` + name + `_state SET indexed = ?`
	s.turn = `UPDATE ` + name + `_state SET current = ?, since = ?`
	return s
}

// New returns the index whose tables begin with name, in db. The owner has to add all
// rows with a higher number than indexed, in their order, before anything else.
func New(ctx context.Context, db *store.DB, name string, o Options) (x *Index, indexed int64, err error) {
	if o.Keep <= 0 {
		o.Keep = 24 * time.Hour
	}
	if o.Most <= 0 {
		o.Most = 32768
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	x = &Index{db: db, opts: o, sql: prepare(name)}
	if err := db.QueryRow(ctx, x.sql.state).Scan(&x.current, &x.since, &indexed); err != nil {
		return nil, 0, fmt.Errorf("keyindex: %w", err)
	}
	if err := x.filter(ctx); err != nil {
		return nil, 0, err
	}
	return x, indexed, nil
}

// Add adds the name of a row. The numbers of rows have to rise from call to call. It
// does not wait; when it returns true, Write should be called soon.
func (x *Index) Add(d bloom.Digest, row int64) (many bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.recent.add(d, row)
	return len(x.recent.list) >= x.opts.Most && !x.busy
}

// Find returns the numbers of the rows with that name, the latest first. Some of them
// may not be there any more, or not yet.
func (x *Index) Find(ctx context.Context, d bloom.Digest) ([]int64, error) {
	rows, more := x.here(d)
	if !more {
		return rows, nil
	}
	for i := range x.sql.find {
		var err error
		if rows, err = x.read(ctx, rows, i, d); err != nil {
			return nil, err
		}
	}
	return latest(rows), nil
}

// FindIn is Find inside an operation, whose rows it sees too.
func (x *Index) FindIn(tx *store.Tx, d bloom.Digest) ([]int64, error) {
	rows, more := x.here(d)
	if !more {
		return rows, nil
	}
	for i := range x.sql.find {
		found, err := tx.Query(x.sql.find[i], d[:], Alike)
		if err != nil {
			return nil, err
		}
		for found.Next() {
			var row int64
			if err := found.Scan(&row); err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
		if err := found.Err(); err != nil {
			return nil, err
		}
	}
	return latest(rows), nil
}

// here finds what is in memory, and tells whether the tables may have more. What
// leaves the one is in the other before.
func (x *Index) here(d bloom.Digest) (rows []int64, more bool) {
	x.mu.Lock()
	rows = x.leaving.find(x.recent.find(nil, d), d)
	x.mu.Unlock()
	return rows, x.known.Load().Has(d)
}

func latest(rows []int64) []int64 {
	slices.SortFunc(rows, func(a, b int64) int { return cmp.Compare(b, a) })
	return slices.Compact(rows)
}

// MayHave tells, without waiting, whether Find may find something.
func (x *Index) MayHave(d bloom.Digest) bool {
	x.mu.Lock()
	here := x.recent.last[d] != 0 || x.leaving.last[d] != 0
	x.mu.Unlock()
	return here || x.known.Load().Has(d)
}

func (x *Index) read(ctx context.Context, rows []int64, table int, d bloom.Digest) ([]int64, error) {
	found, err := x.db.Query(ctx, x.sql.find[table], d[:], Alike)
	if err != nil {
		return nil, fmt.Errorf("keyindex: %w", err)
	}
	defer found.Close()
	for found.Next() {
		var row int64
		if err := found.Scan(&row); err != nil {
			return nil, fmt.Errorf("keyindex: %w", err)
		}
		rows = append(rows, row)
	}
	if err := found.Err(); err != nil {
		return nil, fmt.Errorf("keyindex: %w", err)
	}
	return rows, nil
}

// writeStep is how many names are written in one operation: others need not wait long.
const writeStep = 1024

// Write begins to write the names in memory into the tables, unless that is under way.
// It does not wait.
func (x *Index) Write() { x.write(func(error) {}) }

// write calls done when it has come to an end, from any goroutine.
func (x *Index) write(done func(error)) {
	x.mu.Lock()
	if x.busy || len(x.recent.list) == 0 && len(x.leaving.list) == 0 {
		x.mu.Unlock()
		done(nil)
		return
	}
	x.busy = true
	if len(x.leaving.list) == 0 { // else an earlier attempt has failed
		x.leaving, x.recent = x.recent, names{}
	}
	now := x.opts.Now().UnixMicro()
	turn := now-x.since >= x.opts.Keep.Microseconds()
	before, began := x.current, x.since
	if turn {
		x.current, x.since = 1-x.current, now
	}
	table, list := x.current, x.leaving.list
	x.mu.Unlock()

	indexed := list[len(list)-1].row
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b entry) int { return bytes.Compare(a.name[:], b.name[:]) })
	known := x.known.Load()
	for i := range sorted {
		known.Add(sorted[i].name)
	}
	turned := false // only the callbacks touch it, one after another
	end := func(err error) {
		if err != nil {
			x.opts.Logger.Error("an index was not written", "err", err)
		}
		x.mu.Lock()
		switch {
		case err == nil:
			x.leaving = names{}
		case !turned: // the next attempt begins with it
			x.current, x.since = before, began
		}
		x.busy = false
		x.mu.Unlock()
		done(err)
	}
	var step func(from int)
	step = func(from int) {
		part := sorted[from:min(len(sorted), from+writeStep)]
		last := from+len(part) == len(sorted)
		op := func(tx *store.Tx) error {
			if from == 0 && turn { // what lies there was the last to be found Keep ago
				if _, err := tx.Exec(x.sql.clear[table]); err != nil {
					return err
				}
				if _, err := tx.Exec(x.sql.turn, table, now); err != nil {
					return err
				}
			}
			for i := range part {
				if _, err := tx.Exec(x.sql.insert[table], part[i].name[:], part[i].row); err != nil {
					return err
				}
			}
			if last {
				_, err := tx.Exec(x.sql.done, indexed)
				return err
			}
			return nil
		}
		err := x.db.Submit(op, func(err error) {
			turned = turned || err == nil
			if err != nil || last {
				end(err)
				return
			}
			step(from + writeStep)
		})
		if err != nil {
			end(err)
		}
	}
	step(0)
}

// Refresh makes the filter anew when it has become too full: names that have gone make
// room in it then. It may take a while; the owner calls it now and then.
func (x *Index) Refresh(ctx context.Context) error {
	if !x.known.Load().Full() {
		return nil
	}
	x.mu.Lock()
	if x.busy {
		x.mu.Unlock()
		return nil // the next time
	}
	x.busy = true // nothing is written meanwhile
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		x.busy = false
		x.mu.Unlock()
	}()
	return x.filter(ctx)
}

const scanStep = 5000

// filter makes the filter from the tables, in which nothing is written meanwhile.
func (x *Index) filter(ctx context.Context) error {
	var all []bloom.Digest
	for _, query := range x.sql.scan {
		for at := []byte{}; ; {
			n, last, err := x.scan(ctx, query, at, &all)
			if err != nil {
				return err
			}
			if n < scanStep {
				break
			}
			at = last
		}
	}
	next := bloom.New(2 * int64(len(all)))
	for _, d := range all {
		next.Add(d)
	}
	x.known.Store(next)
	return nil
}

func (x *Index) scan(ctx context.Context, query string, at []byte, all *[]bloom.Digest) (n int, last []byte, err error) {
	rows, err := x.db.Query(ctx, query, at, scanStep)
	if err != nil {
		return 0, nil, fmt.Errorf("keyindex: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var key []byte
		if err := rows.Scan(&key); err != nil {
			return 0, nil, fmt.Errorf("keyindex: %w", err)
		}
		var d bloom.Digest
		copy(d[:], key)
		*all = append(*all, d)
		last = key
		n++
	}
	if err := rows.Err(); err != nil {
		return 0, nil, fmt.Errorf("keyindex: %w", err)
	}
	return n, last, nil
}
