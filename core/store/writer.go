package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"
)

// writer is the only one that changes the database. Its fields belong to the
// goroutine of run, but for stats.
type writer struct {
	connector driver.Connector
	log       *slog.Logger
	conn      driver.Conn // nil after a failure that may have spoilt it
	tx        Tx
	batch     []entry
	errs      []error // parallel to batch
	failing   bool    // the last batch met ErrFull or ErrIO: log the change only
	stats     writerStats
}

func (w *writer) init(c driver.Connector, log *slog.Logger) {
	w.connector, w.log = c, log
	w.tx.init()
}

func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	conn, err := w.connector.Connect(ctx)
	if err != nil {
		return classify(err)
	}
	w.conn = conn
	w.tx.attach(conn)
	return nil
}

func (w *writer) disconnect() error {
	if w.conn == nil {
		return nil
	}
	w.tx.detach()
	err := w.conn.Close()
	w.conn = nil
	return err
}

// run commits batches until the queue is closed and empty.
func (w *writer) run(q *queue, max int) {
	for {
		w.batch = q.take(w.batch[:0], max)
		if len(w.batch) == 0 {
			return
		}
		w.errs = append(w.errs[:0], make([]error, len(w.batch))...)
		began := time.Now()
		w.commit()
		w.stats.count(len(w.batch), time.Since(began))
		w.report()
		for i := 0; i < len(w.batch); {
			i = w.finish(i)
		}
		clear(w.batch)
		// Let those who were just answered submit what they do next, so that it
		// shares one commit instead of being split over two.
		runtime.Gosched()
	}
}

// outcome tells what became of a shared transaction.
type outcome int

const (
	committed outcome = iota
	unbegun           // the engine gave no transaction
	spoilt            // an operation failed after it wrote; rolled back
	lost              // the engine ended the transaction or could not commit it
)

// commit runs the batch and fills errs. Three ways, each slower and surer:
// everything in one transaction; the same with a savepoint around each
// operation, when one of them fails after it wrote; and a transaction for each,
// when the engine gave up the shared one or could not commit it.
func (w *writer) commit() {
	if err := w.connect(context.Background()); err != nil {
		w.fail(0, err)
		return
	}
	result, err := w.together(false)
	if result == spoilt && len(w.batch) > 1 {
		w.stats.replays.add(1)
		result, err = w.together(true)
	}
	switch {
	case result == unbegun:
		w.fail(0, err)
	case result == lost && len(w.batch) > 1:
		w.stats.replays.add(1)
		w.alone()
	case result == lost:
		w.errs[0] = err
	}
}

func (w *writer) fail(from int, err error) {
	for i := from; i < len(w.errs); i++ {
		w.errs[i] = err
	}
}

// together runs the batch in one transaction. An operation that fails before it
// wrote anything needs no undoing; one that fails later is undone by its
// savepoint, or without savepoints by giving up the transaction.
func (w *writer) together(savepoints bool) (outcome, error) {
	if err := w.control("BEGIN IMMEDIATE"); err != nil {
		w.rollback(err)
		return unbegun, err
	}
	for i := range w.batch {
		if savepoints {
			if err := w.control("SAVEPOINT op"); err != nil {
				w.rollback(err)
				return lost, err
			}
		}
		err := w.attempt(w.batch[i].op)
		w.errs[i] = err
		if err != nil && w.tx.wrote {
			if !savepoints {
				w.rollback(err)
				return spoilt, nil
			}
			if w.control("ROLLBACK TO op") != nil { // the engine has ended the transaction
				w.rollback(err)
				return lost, err
			}
		}
		if savepoints {
			if err := w.control("RELEASE op"); err != nil {
				w.rollback(err)
				return lost, err
			}
		}
	}
	if err := w.control("COMMIT"); err != nil {
		w.rollback(err)
		return lost, err
	}
	return committed, nil
}

// alone gives each operation a transaction of its own. A file that refuses
// several in a row refuses the rest unasked, so that a dead disk does not hold
// up the queue.
func (w *writer) alone() {
	const giveUp = 4
	inputOutput := 0
	for i := range w.batch {
		if err := w.connect(context.Background()); err != nil {
			w.fail(i, err)
			return
		}
		err := w.control("BEGIN IMMEDIATE")
		if err == nil {
			if err = w.attempt(w.batch[i].op); err == nil {
				err = w.control("COMMIT")
			}
		}
		w.errs[i] = err
		if err == nil {
			inputOutput = 0
			continue
		}
		w.rollback(err)
		if errors.Is(err, ErrIO) || errors.Is(err, ErrLocked) {
			if inputOutput++; inputOutput == giveUp {
				w.fail(i+1, err)
				return
			}
		}
	}
}

// attempt runs one operation; a panic is its error.
func (w *writer) attempt(op Op) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		if e := w.tx.end(); e != nil && err == nil {
			err = e
		}
	}()
	w.tx.begin()
	return op(&w.tx)
}

// control runs a statement of the writer's own.
func (w *writer) control(query string) error {
	s, err := w.tx.prepare(query)
	if err == nil {
		_, err = s.exec.ExecContext(context.Background(), nil)
	}
	return classify(err)
}

// rollback ends the transaction, if there is one, after cause. A connection
// whose state is uncertain is given up: the next batch opens another.
func (w *writer) rollback(cause error) {
	err := w.control("ROLLBACK")
	// The plain error says that the engine has rolled back already.
	if (err != nil && !plainError(err)) || errors.Is(cause, ErrIO) {
		if err := w.disconnect(); err != nil {
			w.log.Warn("closing the database connection failed", "err", err)
		}
	}
}

// report logs panics, and when the disk begins to refuse and takes writes again.
func (w *writer) report() {
	var refused error
	for _, err := range w.errs {
		if err != nil {
			w.stats.failed.add(1)
			var panicked *PanicError
			if errors.As(err, &panicked) {
				w.log.Error("a write panicked", "panic", panicked.Value, "stack", string(panicked.Stack))
			}
			if refused == nil && (errors.Is(err, ErrFull) || errors.Is(err, ErrIO) || errors.Is(err, ErrLocked)) {
				refused = err
			}
		}
	}
	switch {
	case refused != nil && !w.failing:
		w.log.Error("the database refuses writes", "err", refused)
	case refused == nil && w.failing:
		w.log.Info("the database takes writes again")
	}
	w.failing = refused != nil
}

// finish calls the callbacks from i on and returns the next one to call: one
// that panics costs only itself.
func (w *writer) finish(i int) (next int) {
	defer func() {
		if v := recover(); v != nil {
			w.log.Error("a write's callback panicked", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	for next = i; next < len(w.batch); {
		e, err := w.batch[next], w.errs[next]
		next++
		if e.done != nil {
			e.done(err)
		}
	}
	return next
}
