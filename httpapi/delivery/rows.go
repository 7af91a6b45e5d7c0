package delivery

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/bloom"
	"trivium/httpapi/event"
)

// secret keys the hashes of this process: nobody can make names that collide.
func secret() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return b
}

// Row returns what stores the message, to be committed together with something
// else, or nil when it need not be stored. The operation is to be queued at once.
func (m *Message) Row() store.Op {
	if m == nil || !m.wantsRow {
		return nil
	}
	t := m.tracker
	account, from, to, id := m.ids()
	name := t.name(account, id)
	t.mu.Lock()
	seq := max(m.progress.created, t.last+1)
	t.last = seq
	m.hasRow = true // what comes from now on is written after the row, or is in it
	t.mu.Unlock()
	return func(tx *store.Tx) error {
		next := t.next.Load() // before the one that it may have become
		t.durable.Load().Add(name)
		if next != nil {
			next.Add(name)
		}
		t.mu.Lock()
		p := m.progress
		t.mu.Unlock()
		var why stanza.Error
		if p.reason != nil {
			why = *p.reason
		}
		_, err := tx.Exec(`INSERT OR REPLACE INTO delivery
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

// errorOf reads the error of a stanza (RFC 6120 §8.3.2).
func errorOf(st *stanza.Stanza) *stanza.Error {
	e := &stanza.Error{Condition: stanza.UndefinedCondition}
	c, ok := st.Child(stanza.NSClient, "error")
	if !ok {
		return e
	}
	el := c.Element()
	e.Type = stanza.ErrorType(bounded(el.Attr("type"), 16))
	e.Text = bounded(el.ChildText(stanza.NSStanzas, "text"), 1000)
	for _, n := range el.Children(stanza.NSStanzas, "") {
		if n.Local != "text" {
			e.Condition = stanza.Condition(bounded(n.Local, 64))
			break
		}
	}
	return e
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
	return string([]byte(s))
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
	rows, err := t.db.Query(ctx, `SELECT `+columns+` FROM delivery WHERE id = ? ORDER BY seq DESC LIMIT ?`, id, mostAlike)
	if err != nil {
		return Status{}, false, fmt.Errorf("delivery: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		p, from, to, err := scan(rows)
		if err != nil {
			return Status{}, false, fmt.Errorf("delivery: %w", err)
		}
		if j, err := jid.Parse(from); err == nil && fits(j) {
			return p.status(id, from, to), true, nil
		}
	}
	if err := rows.Err(); err != nil {
		return Status{}, false, fmt.Errorf("delivery: %w", err)
	}
	return Status{}, false, nil
}

// update writes down a change. With tell nothing in memory knew of the message, and
// what is news is told from here.
func (t *Tracker) update(account, id string, by jid.JID, state string, now int64, reason *stanza.Error, tell bool) {
	var news []Status
	by = by.Clone()
	account, id = string([]byte(account)), string([]byte(id))
	err := t.db.Submit(func(tx *store.Tx) error {
		news = nil
		p, from, to, ok, err := named(tx, account, id, func(to string) bool { return speaksFor(by, to, state) })
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
func named(tx *store.Tx, account, id string, fits func(to string) bool) (p progress, from, to string, ok bool, err error) {
	rows, err := tx.Query(`SELECT `+columns+` FROM delivery WHERE id = ? AND account = ? ORDER BY seq DESC LIMIT ?`, id, account, mostAlike)
	if err != nil {
		return p, "", "", false, err
	}
	defer rows.Close()
	for rows.Next() {
		if p, from, to, err = scan(rows); err != nil {
			return p, "", "", false, err
		}
		if fits(to) {
			return p, from, to, true, nil
		}
	}
	return p, "", "", false, rows.Err()
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
	if f := t.durable.Load(); f != nil && !f.Full() {
		return nil
	}
	return t.index(ctx)
}

// index makes the filter anew from the table. Rows are added to the filters by the
// operations that write them: those that come after the first query find the next
// one.
func (t *Tracker) index(ctx context.Context) error {
	t.indexing.Lock()
	defer t.indexing.Unlock()
	var count, last int64
	err := t.db.QueryRow(ctx, `SELECT COUNT(*), COALESCE(MAX(seq), 0) FROM delivery`).Scan(&count, &last)
	if err != nil {
		return fmt.Errorf("delivery: %w", err)
	}
	next := bloom.New(count)
	t.next.Store(next)
	if err := t.db.Sync(ctx); err != nil { // operations that had not seen it
		return fmt.Errorf("delivery: %w", err)
	}
	for n, at := loadStep, int64(-1); n == loadStep; {
		if n, at, err = t.names(ctx, next, at); err != nil {
			return err
		}
	}
	t.durable.Store(next)
	t.next.Store(nil)
	t.mu.Lock()
	t.last = max(t.last, last)
	t.mu.Unlock()
	if count > 0 {
		t.tracked.Add(1)
	}
	return nil
}

func (t *Tracker) names(ctx context.Context, f *bloom.Filter, at int64) (n int, last int64, err error) {
	rows, err := t.db.Query(ctx, `SELECT seq, account, id FROM delivery WHERE seq > ? ORDER BY seq LIMIT ?`, at, loadStep)
	if err != nil {
		return 0, at, fmt.Errorf("delivery: %w", err)
	}
	defer rows.Close()
	for last = at; rows.Next(); n++ {
		var account, id string
		if err := rows.Scan(&last, &account, &id); err != nil {
			return n, last, fmt.Errorf("delivery: %w", err)
		}
		f.Add(t.name(account, id))
	}
	if err := rows.Err(); err != nil {
		return n, last, fmt.Errorf("delivery: %w", err)
	}
	return n, last, nil
}
