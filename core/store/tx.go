package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Tx runs an operation's statements. It is valid only during the Op it was given
// to, and only on that goroutine. Statements are prepared once per SQL text and
// kept, so texts must be constants and values must be arguments.
//
// It speaks to the driver without database/sql between, which saves a tenth of
// an insert's CPU and two thirds of its garbage (BenchmarkExec), and keeps the
// connection's fate in the writer's hands.
type Tx struct {
	conn  driver.ConnPrepareContext
	cache map[string]*statement
	wrote bool // a statement that may change rows ran in this operation
	open  []*Rows
	args  []driver.NamedValue // scratch
}

type statement struct {
	driver.Stmt
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
	reads bool // cannot change anything
	inUse bool // has open rows
	once  bool // not cached: close it after use
}

func (tx *Tx) init() { tx.cache = make(map[string]*statement) }

func (tx *Tx) attach(c driver.Conn) { tx.conn = c.(driver.ConnPrepareContext) }

func (tx *Tx) detach() {
	for _, s := range tx.cache {
		_ = s.Close()
	}
	clear(tx.cache)
	tx.conn = nil
}

func (tx *Tx) begin() { tx.wrote = false }

// end closes rows that the operation left open.
func (tx *Tx) end() error {
	var err error
	for len(tx.open) > 0 {
		if e := tx.open[len(tx.open)-1].Close(); err == nil {
			err = e
		}
	}
	return err
}

func (tx *Tx) prepare(query string) (*statement, error) {
	s := tx.cache[query]
	if s != nil && !s.inUse {
		return s, nil
	}
	if tx.conn == nil {
		return nil, ErrIO
	}
	ds, err := tx.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, classify(err)
	}
	made := &statement{Stmt: ds, exec: ds.(driver.StmtExecContext), query: ds.(driver.StmtQueryContext), reads: isSelect(query)}
	if s != nil || len(tx.cache) >= statementMax {
		made.once = true
	} else {
		tx.cache[query] = made
	}
	return made, nil
}

func isSelect(query string) bool {
	query = strings.TrimLeft(query, " \t\r\n")
	return len(query) >= 6 && strings.EqualFold(query[:6], "SELECT")
}

// bind converts args as database/sql would. The result is valid until the next call.
func (tx *Tx) bind(args []any) ([]driver.NamedValue, error) {
	tx.args = tx.args[:0]
	for i, a := range args {
		v := driver.NamedValue{Ordinal: i + 1}
		if named, ok := a.(sql.NamedArg); ok {
			v.Name, a = named.Name, named.Value
		}
		switch x := a.(type) {
		case nil, int64, float64, bool, string, []byte:
			v.Value = x
		case int:
			v.Value = int64(x)
		default:
			var err error
			if v.Value, err = driver.DefaultParameterConverter.ConvertValue(a); err != nil {
				return nil, fmt.Errorf("store: argument %d: %w", i+1, err)
			}
		}
		tx.args = append(tx.args, v)
	}
	return tx.args, nil
}

// Exec runs a statement that returns no rows.
func (tx *Tx) Exec(query string, args ...any) (sql.Result, error) {
	values, err := tx.bind(args)
	if err != nil {
		return nil, err
	}
	s, err := tx.prepare(query)
	if err != nil {
		return nil, err
	}
	tx.wrote = tx.wrote || !s.reads
	res, err := s.exec.ExecContext(context.Background(), values)
	if s.once {
		_ = s.Close()
	}
	if err != nil {
		return nil, classify(err)
	}
	return res, nil
}

// Query runs a statement that returns rows, which see the transaction's changes.
// Rows left open are closed when the Op returns.
func (tx *Tx) Query(query string, args ...any) (*Rows, error) {
	values, err := tx.bind(args)
	if err != nil {
		return nil, err
	}
	s, err := tx.prepare(query)
	if err != nil {
		return nil, err
	}
	tx.wrote = tx.wrote || !s.reads
	rows, err := s.query.QueryContext(context.Background(), values)
	if err != nil {
		if s.once {
			_ = s.Close()
		}
		return nil, classify(err)
	}
	s.inUse = true
	r := &Rows{tx: tx, stmt: s, rows: rows, values: make([]driver.Value, len(rows.Columns()))}
	tx.open = append(tx.open, r)
	return r, nil
}

// QueryRow runs a statement for its first row.
func (tx *Tx) QueryRow(query string, args ...any) *Row {
	rows, err := tx.Query(query, args...)
	return &Row{rows: rows, err: err}
}

// Rows walks over a result: Next, Scan, Next, ..., Err. It is used like
// [sql.Rows], inside the Op only.
type Rows struct {
	tx     *Tx
	stmt   *statement
	rows   driver.Rows
	values []driver.Value
	err    error
	closed bool
	ready  bool
}

// Next makes the next row ready for Scan; false means the end, or an error that
// Err tells.
func (r *Rows) Next() bool {
	if r.closed {
		return false
	}
	r.ready = false
	if err := r.rows.Next(r.values); err != nil {
		if err != io.EOF {
			r.err = classify(err)
		}
		if err := r.Close(); r.err == nil {
			r.err = err
		}
		return false
	}
	r.ready = true
	return true
}

// Scan copies the row's columns to dest, pointers as [sql.Rows.Scan] takes them.
func (r *Rows) Scan(dest ...any) error {
	if !r.ready {
		return errors.New("store: Scan without a row")
	}
	if len(dest) != len(r.values) {
		return fmt.Errorf("store: Scan of %d columns into %d variables", len(r.values), len(dest))
	}
	for i, d := range dest {
		if err := assign(d, r.values[i]); err != nil {
			return fmt.Errorf("store: column %d (%s): %w", i, r.rows.Columns()[i], err)
		}
	}
	return nil
}

// Err returns what ended the iteration, nil at the ordinary end.
func (r *Rows) Err() error { return r.err }

// Close ends the iteration early. It may be called again.
func (r *Rows) Close() error {
	if r.closed {
		return nil
	}
	r.closed, r.ready = true, false
	err := classify(r.rows.Close())
	r.stmt.inUse = false
	if r.stmt.once {
		if e := r.stmt.Close(); err == nil {
			err = classify(e)
		}
	}
	open := r.tx.open
	for i := len(open) - 1; i >= 0; i-- {
		if open[i] == r {
			r.tx.open = append(open[:i], open[i+1:]...)
			break
		}
	}
	return err
}

// Row is the first row of a result, or the reason why there is none.
type Row struct {
	rows *Rows
	err  error
}

// Scan copies the columns to dest and ends the query; without a row it returns
// [sql.ErrNoRows].
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	return r.rows.Close()
}

// Err returns the query's error without scanning.
func (r *Row) Err() error { return r.err }
