package event

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"trivium/core/store"
)

const (
	trimEvery = 10 * time.Second
	trimStep  = 256 // events that are looked at in one transaction
)

var tableName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,60}$`)

// HeldBy names a table whose rows refer to events by a column seq, which should
// have an index: these events stay while there is such a row. It is called
// before Run.
func (l *Log) HeldBy(table string) {
	if !tableName.MatchString(table) {
		panic(fmt.Sprintf("event: HeldBy(%q): no name of a table", table))
	}
	l.held = append(l.held, table)
}

// Run removes events that are too old or too many, until ctx ends. It is called
// once.
func (l *Log) Run(ctx context.Context) {
	removable := ` FROM event_log WHERE seq > ? AND seq <= ?`
	for _, t := range l.held {
		removable += ` AND NOT EXISTS (SELECT 1 FROM ` + t + ` WHERE ` + t + `.seq = event_log.seq)`
	}
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		if err := l.trim(ctx, removable); err != nil && ctx.Err() == nil {
			l.log.Error("events were not removed from the log", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// trim notes how many events there are and removes those that have to go.
func (l *Log) trim(ctx context.Context, removable string) error {
	pushed, last := l.tail.count()
	events := l.base.Load() + pushed
	err := l.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE event_state SET counted = ?, events = ? WHERE id = 1`, last, events)
		return err
	})
	if err != nil {
		return err
	}
	// A number is never below the time of its event.
	upTo := l.opts.Now().Add(-l.opts.Keep).UnixMicro()
	if excess := events - int64(l.opts.MaxEvents); excess > 0 {
		var seq int64
		err := l.db.QueryRow(ctx, `SELECT seq FROM event_log ORDER BY seq LIMIT 1 OFFSET ?`, excess-1).Scan(&seq)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		upTo = max(upTo, seq)
	}
	return l.removeUpTo(ctx, removable, min(upTo, last))
}

// removeUpTo goes over the events in small steps, between which others write.
func (l *Log) removeUpTo(ctx context.Context, removable string, upTo int64) error {
	for from := int64(0); ; {
		var to, n int64
		err := l.db.QueryRow(ctx, `SELECT COALESCE(MAX(seq), 0), COUNT(*) FROM (
			SELECT seq FROM event_log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?) AS step`, from, upTo, trimStep).Scan(&to, &n)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		removed, err := l.remove(ctx, removable, from, to)
		if err != nil {
			return err
		}
		l.base.Add(-removed)
		from = to
	}
}

// remove is one step: of the events after from and up to to, those that nothing
// holds.
func (l *Log) remove(ctx context.Context, removable string, from, to int64) (removed int64, err error) {
	var last int64
	err = l.db.QueryRow(ctx, `SELECT COALESCE(MAX(seq), 0)`+removable, from, to).Scan(&last)
	if err != nil || last == 0 {
		return 0, err
	}
	// Marked before they go, so that a reader that does not find them knows why.
	l.trimmed.Store(max(l.trimmed.Load(), last))
	err = l.db.Write(ctx, func(tx *store.Tx) error {
		removed = 0
		res, err := tx.Exec(`DELETE`+removable, from, last)
		if err != nil {
			return err
		}
		if removed, err = res.RowsAffected(); err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE event_state SET trimmed = CASE WHEN trimmed < ? THEN ? ELSE trimmed END, events = events - ? WHERE id = 1`,
			last, last, removed)
		return err
	})
	return removed, err
}
