package store

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/pressly/goose/v3"
)

var moduleName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)

// Migrate brings a module's tables up to date. fsys holds the module's
// migrations at its root as NNNNN_name.sql, each with a "-- +goose Up" part;
// those already applied are remembered in the table goose_<module>. Each file is
// one transaction: a failure leaves the tables as the last good file made them.
// module consists of lower-case letters, digits and underscores.
func (db *DB) Migrate(ctx context.Context, module string, fsys fs.FS) error {
	if !moduleName.MatchString(module) {
		return fmt.Errorf("store: migrate: bad module name %q", module)
	}
	db.migrate.Lock()
	defer db.migrate.Unlock()
	// A connection of its own: the writer's is idle or holds the lock only for
	// a batch, which busy_timeout waits out.
	pool := sql.OpenDB(db.writer.connector)
	pool.SetMaxOpenConns(1)
	defer pool.Close()
	provider, err := goose.NewProvider(goose.DialectSQLite3, pool, fsys,
		goose.WithTableName("goose_"+module),
		goose.WithDisableGlobalRegistry(true),
		goose.WithSlog(db.log))
	if err != nil {
		return fmt.Errorf("store: migrate %s: %w", module, err)
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("store: migrate %s: %w", module, classify(err))
	}
	for _, r := range done {
		db.log.Info("database migrated", "module", module, "file", r.Source.Path, "took", r.Duration)
	}
	return nil
}
