package store

import (
	"database/sql/driver"
	"errors"
	"net/url"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// connector returns the way to open connections to the file at path, an
// absolute name. Pragmas travel in the name, so that every connection has them,
// and in an order that matters: busy_timeout first, because setting the journal
// mode may already have to wait.
func connector(path string, durable, readOnly bool) (driver.Connector, error) {
	pragmas := []string{"busy_timeout(5000)"}
	if readOnly {
		// A small page cache each: behind it is the kernel's.
		pragmas = append(pragmas, "query_only(1)", "cache_size(-4000)")
	} else {
		pragmas = append(pragmas, "journal_mode(WAL)", "journal_size_limit(67108864)", "cache_size(-16000)",
			// 32 MiB: with the default of 4 the same pages are copied home again and again
			// while many small commits come.
			"wal_autocheckpoint(8000)")
		if durable {
			// NORMAL would lose acknowledged commits at power loss.
			pragmas = append(pragmas, "synchronous(FULL)")
		} else {
			pragmas = append(pragmas, "synchronous(OFF)")
		}
	}
	pragmas = append(pragmas, "foreign_keys(1)", "temp_store(MEMORY)")
	name := url.URL{
		Scheme:   "file",
		Path:     path,
		RawQuery: url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}.Encode(),
	}
	return sqlite.NewConnector(name.String())
}

// classify wraps what the driver said in an *Error; anything else stays as it is.
func classify(err error) error {
	var known *Error
	var native *sqlite.Error
	if err == nil || errors.As(err, &known) || !errors.As(err, &native) {
		return err
	}
	e := &Error{Code: native.Code(), Err: err}
	switch native.Code() & 0xff {
	case sqlitelib.SQLITE_FULL:
		e.Class = ErrFull
	case sqlitelib.SQLITE_IOERR, sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_READONLY,
		sqlitelib.SQLITE_CORRUPT, sqlitelib.SQLITE_NOTADB, sqlitelib.SQLITE_NOMEM, sqlitelib.SQLITE_PROTOCOL:
		e.Class = ErrIO
	case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED:
		e.Class = ErrLocked
	case sqlitelib.SQLITE_CONSTRAINT:
		e.Class = ErrConstraint
		switch native.Code() {
		case sqlitelib.SQLITE_CONSTRAINT_UNIQUE, sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY, sqlitelib.SQLITE_CONSTRAINT_ROWID:
			e.Class = ErrUnique
		}
	}
	return e
}

// plainError reports the engine's catch-all code: wrong SQL, or a transaction
// statement that does not fit the connection's state.
func plainError(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == sqlitelib.SQLITE_ERROR
}
