package delivery

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/event"
	"trivium/httpapi/keyindex"
)

// Row returns what stores the message, to be committed together with something
// else, or nil when it need not be stored. The operation is to be queued at once.
func (m *Message) Row() store.Op {
	if m == nil {
		return nil
	}
	t := m.tracker
	account, from, to, id := m.ids()
	t.mu.Lock()
	if m.keep != Always || m.hasRow {
		t.mu.Unlock()
		return nil
	}
	digest := name(id)
	seq := max(m.progress.created, t.last+1)
	t.last = seq
	m.hasRow = true // what comes from now on is written after the row, or is in it
	many := t.index.Add(digest, seq)
	t.mu.Unlock()
	if many {
		t.index.Write()
	}
	return func(tx *store.Tx) error {
		t.mu.Lock()
		p := m.progress
		t.mu.Unlock()
		var why stanza.Error
		if p.reason != nil {
			why = *p.reason
		}
		_, err := tx.Exec(`INSERT INTO delivery
			(seq, id, account, sender, recipient, accepted, delivered, displayed, failed, condition, error_type, explanation)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			seq, id, account, from, to, p.accepted, p.delivered, p.displayed, p.failed,
			string(why.Condition), typeOf(p.reason), why.Text)
		return err
	}
}

func typeOf(e *stanza.Error) string {
	if e == nil {
		return ""
	}
	return string(e.ErrType())
}

// Save stores the message, if it is to be. done is called once, from any goroutine,
// when it is committed or could not be.
func (m *Message) Save(done func(error)) {
	op := m.Row()
	if op == nil {
		done(nil)
		return
	}
	if err := m.tracker.db.Submit(op, done); err != nil {
		done(err)
	}
}

// errorOf reads the error of a stanza. It shares no memory with it.
func errorOf(st *stanza.Stanza) *stanza.Error {
	e := st.ReadError()
	return &stanza.Error{
		Type: stanza.ErrorType(strings.Clone(string(e.Type))), Condition: stanza.Condition(strings.Clone(string(e.Condition))), Text: bounded(e.Text, 1000),
	}
}

// bounded returns a copy of the start of s.
func bounded(s string, most int) string {
	if len(s) > most {
		cut := most
		for cut > 0 && s[cut]&0xC0 == 0x80 { // not in the middle of a character
			cut--
		}
		s = s[:cut]
	}
	return strings.Clone(s)
}

const columns = `seq, sender, recipient, accepted, delivered, displayed, failed, condition, error_type, explanation`

type scanner interface{ Scan(...any) error }

func scan(row scanner) (p progress, from, to string, err error) {
	var why stanza.Error
	var typ, condition string
	err = row.Scan(&p.created, &from, &to, &p.accepted, &p.delivered, &p.displayed, &p.failed, &condition, &typ, &why.Text)
	if condition != "" {
		why.Condition, why.Type = stanza.Condition(condition), stanza.ErrorType(typ)
		p.reason = &why
	}
	return p, from, to, err
}

// load is Find in the database.
func (t *Tracker) load(ctx context.Context, id string, fits func(jid.JID) bool) (Status, bool, error) {
	list, err := t.index.Find(ctx, name(id))
	if err != nil {
		return Status{}, false, err
	}
	for _, seq := range list {
		p, from, to, err := scan(t.db.QueryRow(ctx, `SELECT `+columns+` FROM delivery WHERE seq = ? AND id = ?`, seq, id))
		if errors.Is(err, sql.ErrNoRows) {
			continue
		} else if err != nil {
			return Status{}, false, fmt.Errorf("delivery: %w", err)
		}
		if j, err := jid.Parse(from); err == nil && fits(j) {
			return p.status(id, from, to), true, nil
		}
	}
	return Status{}, false, nil
}

// update writes down a change. With tell nothing in memory knew of the message, and
// what is news is told from here.
func (t *Tracker) update(account, id string, by jid.JID, state string, now int64, reason *stanza.Error, tell bool) {
	var news []Status
	by = by.Clone()
	account, id = strings.Clone(account), strings.Clone(id)
	err := t.db.Submit(func(tx *store.Tx) error {
		news = nil
		p, from, to, ok, err := t.named(tx, account, id, func(to string) bool { return speaksFor(by, to, state) })
		if err != nil || !ok {
			return err
		}
		change := func(p *progress, id, from, to string) error {
			if !p.reach(state, now, reason) {
				return nil
			}
			news = append(news, p.status(id, from, to))
			return write(tx, p)
		}
		if err := change(&p, id, from, to); err != nil || state != Displayed || len(news) == 0 {
			return err
		}
		// XEP-0333 §1: up to this point.
		rows, err := tx.Query(`SELECT id, `+columns+` FROM (SELECT * FROM delivery WHERE seq < ? ORDER BY seq DESC LIMIT ?)
			WHERE account = ? AND displayed = 0 AND failed = 0`, p.created, upTo, account)
		if err != nil {
			return err
		}
		type row struct {
			id, from, to string
			progress     progress
		}
		var before []row
		for rows.Next() {
			var r row
			r.progress, r.from, r.to, err = scan(shifted{rows, &r.id})
			if err != nil {
				return err
			}
			if bareOf(r.to) == bareOf(to) {
				before = append(before, r)
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for i := range before {
			if err := change(&before[i].progress, before[i].id, before[i].from, before[i].to); err != nil {
				return err
			}
		}
		return nil
	}, func(err error) {
		if err != nil {
			t.opts.Logger.Error("what became of a message was not stored", "err", err)
			return
		}
		if tell {
			for i := range news {
				t.tell(news[i])
			}
		}
	})
	if err != nil {
		t.opts.Logger.Error("what became of a message was not stored", "err", err)
	}
}

// named returns the latest row of that name whose recipient fits.
func (t *Tracker) named(tx *store.Tx, account, id string, fits func(to string) bool) (p progress, from, to string, ok bool, err error) {
	list, err := t.index.FindIn(tx, name(id))
	if err != nil {
		return p, "", "", false, err
	}
	for _, seq := range list {
		p, from, to, err = scan(tx.QueryRow(`SELECT `+columns+` FROM delivery WHERE seq = ? AND id = ? AND account = ?`, seq, id, account))
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return p, "", "", false, err
		case fits(to):
			return p, from, to, true, nil
		}
	}
	return p, "", "", false, nil
}

// shifted reads one more column before the others.
type shifted struct {
	scanner
	first *string
}

func (s shifted) Scan(dest ...any) error {
	return s.scanner.Scan(append([]any{s.first}, dest...)...)
}

func write(tx *store.Tx, p *progress) error {
	var why stanza.Error
	if p.reason != nil {
		why = *p.reason
	}
	_, err := tx.Exec(`UPDATE delivery SET accepted = ?, delivered = ?, displayed = ?, failed = ?, condition = ?, error_type = ?, explanation = ? WHERE seq = ?`,
		p.accepted, p.delivered, p.displayed, p.failed, string(why.Condition), typeOf(p.reason), why.Text, p.created)
	return err
}

// tell appends the event.
func (t *Tracker) tell(s Status) {
	if t.opts.Events == nil {
		return
	}
	from, err := jid.Parse(s.From)
	if err != nil {
		return // it was one when it was sent
	}
	to, err := jid.Parse(s.To)
	if err != nil {
		return
	}
	data, err := json.Marshal(&s)
	if err != nil {
		panic(err) // strings and times
	}
	err = t.opts.Events.Append(&event.Event{Type: event.Delivery, Host: from.Domain(), From: from, To: to, Data: data}, nil)
	if err != nil {
		t.opts.Logger.Error("what became of a message was not told", "err", err)
	}
}

const (
	trimStep  = 500
	loadStep  = 1000
	trimEvery = 10 * time.Minute
)

// Run trims the table until ctx ends.
func (t *Tracker) Run(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := t.Trim(ctx); err != nil && ctx.Err() == nil {
				t.opts.Logger.Error("the table of messages was not trimmed", "err", err)
			}
		}
	}
}

// Trim drops rows that have been kept long enough.
func (t *Tracker) Trim(ctx context.Context) error {
	before := t.opts.Now().Add(-t.opts.Keep).UnixMicro()
	for n := int64(trimStep); n == trimStep; {
		err := t.db.Write(ctx, func(tx *store.Tx) error {
			res, err := tx.Exec(`DELETE FROM delivery WHERE seq IN (SELECT seq FROM delivery WHERE seq < ? ORDER BY seq LIMIT ?)`, before, trimStep)
			if err == nil {
				n, err = res.RowsAffected()
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("delivery: %w", err)
		}
	}
	return t.index.Refresh(ctx)
}

// open opens the index and adds what is not in it yet.
func (t *Tracker) open(ctx context.Context) (err error) {
	t.index, t.last, err = keyindex.New(ctx, t.db, "delivery_id", keyindex.Options{Keep: t.opts.Keep, Logger: t.opts.Logger, Now: t.opts.Now})
	if err != nil {
		return err
	}
	for n := loadStep; n == loadStep; {
		if n, err = t.add(ctx); err != nil {
			return fmt.Errorf("delivery: %w", err)
		}
	}
	if t.last > 0 {
		t.tracked.Add(1)
	}
	return nil
}

// add adds some rows to the index.
func (t *Tracker) add(ctx context.Context) (n int, err error) {
	rows, err := t.db.Query(ctx, `SELECT seq, id FROM delivery WHERE seq > ? ORDER BY seq LIMIT ?`, t.last, loadStep)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var id string
		if err := rows.Scan(&t.last, &id); err != nil {
			return n, err
		}
		t.index.Add(name(id), t.last)
	}
	return n, rows.Err()
}
