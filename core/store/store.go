// Package store owns the server's embedded database: opening it, migrating it,
// and the one writer that commits for everybody.
//
// A [DB] has two sides. Reads run on a small pool of read-only connections and
// see what was committed when they began. Writes are functions, [Op], put in one
// queue; a single goroutine takes whatever waits, runs it in order inside one
// transaction, commits, and then tells every submitter. One fsync thus serves
// all that arrived while the one before it was under way, and a nil error means
// the rows survive kill -9 and loss of power.
//
// Modules own their tables: each brings its own migrations ([DB.Migrate]) and
// its own SQL, written by hand with ? or ?NNN placeholders.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// Options tunes a [DB]. The zero value is an empty database that lives as long
// as the DB: fit for tests.
type Options struct {
	// Path names the database file; it and its directory are made when missing,
	// readable by the owner only. Empty means a database of its own that is
	// gone after Close and is never synced to disk.
	Path string
	// Logger takes the few events nobody else can report. Nil discards them.
	Logger *slog.Logger
	// BatchMax is how many operations share one transaction at most. 0 means 512.
	BatchMax int
	// QueueMax is how many operations may wait before [DB.Submit] refuses with
	// [ErrBusy]. 0 means 32768.
	QueueMax int
	// Readers is the number of read connections. 0 means 4.
	Readers int
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.BatchMax <= 0 {
		o.BatchMax = 512
	}
	if o.QueueMax <= 0 {
		o.QueueMax = 32768
	}
	if o.Readers <= 0 {
		o.Readers = 4
	}
}

// DB is an open database. All its methods may be called from any goroutine,
// except that an [Op] and a done callback must not wait for the DB's own writer.
type DB struct {
	opt       Options
	log       *slog.Logger
	path      string // the file in use
	tempDir   string // removed on Close when not empty
	readers   *sql.DB
	statement sync.Map // SQL text -> *sql.Stmt on readers
	prepared  counter  // entries in statement

	queue   queue
	writer  writer
	stopped chan struct{} // closed when the writer has returned

	migrate   sync.Mutex // one module at a time
	closeOnce sync.Once
	closeErr  error
}

// statementMax bounds each cache of prepared statements. SQL texts are constants
// of the program, so only a mistake reaches it; statements beyond it still run.
const statementMax = 1024

// Open opens or creates the database of o and starts its writer.
func Open(ctx context.Context, o Options) (*DB, error) {
	o.setDefaults()
	db := &DB{opt: o, log: o.Logger, path: o.Path, stopped: make(chan struct{})}
	durable := o.Path != ""
	if !durable {
		dir, err := os.MkdirTemp("", "trivium-store-")
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		db.tempDir, db.path = dir, filepath.Join(dir, "store.db")
	}
	if err := db.open(ctx, durable); err != nil {
		if db.tempDir != "" {
			_ = os.RemoveAll(db.tempDir)
		}
		return nil, fmt.Errorf("store: open %s: %w", db.path, err)
	}
	go func() {
		defer close(db.stopped)
		db.writer.run(&db.queue, db.opt.BatchMax)
	}()
	return db, nil
}

func (db *DB) open(ctx context.Context, durable bool) error {
	path, err := filepath.Abs(db.path)
	if err != nil {
		return err
	}
	db.path = path
	if err := createPrivate(path); err != nil {
		return err
	}
	writes, err := connector(path, durable, false)
	if err != nil {
		return err
	}
	reads, err := connector(path, durable, true)
	if err != nil {
		return err
	}
	db.queue.init(db.opt.QueueMax)
	db.writer.init(writes, db.log)
	// The writer comes first: it recovers a WAL left by a crash, and a reader
	// that meets a recovery gets a BUSY that no timeout retries.
	if err := db.writer.connect(ctx); err != nil {
		return err
	}
	db.readers = sql.OpenDB(reads)
	db.readers.SetMaxOpenConns(db.opt.Readers)
	db.readers.SetMaxIdleConns(db.opt.Readers)
	if err := db.readers.PingContext(ctx); err != nil {
		_ = db.readers.Close()
		db.writer.disconnect()
		return classify(err)
	}
	return nil
}

// createPrivate makes the file and its directory when missing. The file holds
// credentials and messages; SQLite gives its companions the same mode.
func createPrivate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Path returns the absolute name of the database file.
func (db *DB) Path() string { return db.path }

// Query runs a read on the reader pool. It sees everything whose commit was
// reported before the call. Close the rows before the goroutine asks for more:
// open rows hold one of Options.Readers connections and keep the write-ahead
// log from shrinking.
func (db *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	var rows *sql.Rows
	stmt, err := db.reader(ctx, query)
	switch {
	case err != nil:
	case stmt == nil:
		rows, err = db.readers.QueryContext(ctx, query, args...)
	default:
		rows, err = stmt.QueryContext(ctx, args...)
	}
	return rows, classify(err)
}

// QueryRow is Query for at most one row; its Scan returns [sql.ErrNoRows] when
// there is none. ctx counts until the read begins: watching it further would
// cost two goroutines, nearly as much as a read by key takes.
func (db *DB) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	if ctx.Err() == nil {
		ctx = context.WithoutCancel(ctx)
	}
	stmt, err := db.reader(ctx, query)
	if err != nil || stmt == nil {
		// A text that does not prepare reports so in the row's Scan.
		return db.readers.QueryRowContext(ctx, query, args...)
	}
	return stmt.QueryRowContext(ctx, args...)
}

// reader returns the statement for query, prepared once; nil means the cache is
// full and the text must be run as it is.
func (db *DB) reader(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := db.statement.Load(query); ok {
		return s.(*sql.Stmt), nil
	}
	if db.prepared.load() >= statementMax {
		return nil, nil
	}
	s, err := db.readers.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if won, loaded := db.statement.LoadOrStore(query, s); loaded {
		_ = s.Close() // another goroutine was first
		return won.(*sql.Stmt), nil
	}
	db.prepared.add(1)
	return s, nil
}

// Close refuses new operations, commits what is queued, reports it and closes
// the file. Later calls return the first one's result.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		db.queue.close()
		<-db.stopped
		// Readers first: the last connection to go folds the WAL into the
		// file, which a query_only connection cannot do.
		db.closeErr = errors.Join(db.readers.Close(), db.writer.disconnect())
		if db.tempDir != "" {
			db.closeErr = errors.Join(db.closeErr, os.RemoveAll(db.tempDir))
		}
	})
	return db.closeErr
}
