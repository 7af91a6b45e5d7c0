package admin

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"trivium/core/jid"
	"trivium/core/store"
)

// Caller is who has something done.
type Caller struct {
	Who    string // a token's id, or a bare JID, or one of the names below
	Name   string // for people, as a token has one; may be ""
	Remote string // where the request came from; "" where that is not known
}

// Callers without an address.
const (
	Socket      = "socket"       // through the admin socket
	CommandLine = "command line" // on the store, while no server runs
)

// Entry is one line of the audit log.
type Entry struct {
	ID        int64             `json:"id"`
	Time      time.Time         `json:"time"`
	Who       string            `json:"who"`
	Name      string            `json:"name,omitempty"`
	Remote    string            `json:"remote,omitempty"`
	Operation string            `json:"operation"`
	Subject   string            `json:"subject,omitempty"` // what it was done to: a JID, a host, an id
	Arguments map[string]string `json:"arguments,omitempty"`
	Outcome   string            `json:"outcome"` // OK, or what went wrong
	// Own: by a user, on his own account.
	Own bool `json:"own,omitempty"`
}

// String is the entry in a line, for people.
func (e Entry) String() string {
	line := fmt.Sprintf("%d %s %s: %s %s: %s", e.ID, e.Time.Format(time.RFC3339), e.Who, e.Operation, e.Subject, e.Outcome)
	for _, name := range slices.Sorted(maps.Keys(e.Arguments)) {
		line += fmt.Sprintf(" %s=%q", name, e.Arguments[name])
	}
	return line
}

// OK is the outcome of what was done.
const OK = "ok"

// hidden stands for the value of a secret argument.
const hidden = "(hidden)"

const (
	auditText  = 1024 // octets of one value
	auditTrim  = 64   // entries between two looks for those that are too old
	auditLimit = 100  // entries of a page, unless a reader says otherwise
	auditMax   = 1000
)

// AuditOptions tune an Audit. The zero value is the default.
type AuditOptions struct {
	Keep time.Duration // how long an entry is kept: 90 days
	// MaxEntries is how many are kept: 100000. Those of users on their own accounts
	// have a quarter of it, so that they cannot drive the others out.
	MaxEntries int
	Logger     *slog.Logger     // takes entries that cannot be written; nil discards them
	Now        func() time.Time // the clock; time.Now if nil
}

// Audit is the log of who did what. It is for concurrent use.
type Audit struct {
	db *store.DB
	o  AuditOptions
}

//go:embed migrations/*.sql
var migrations embed.FS

// NewAudit brings the table up to date and returns the log in it.
func NewAudit(ctx context.Context, db *store.DB, o AuditOptions) (*Audit, error) {
	if o.Keep <= 0 {
		o.Keep = 90 * 24 * time.Hour
	}
	if o.MaxEntries <= 0 {
		o.MaxEntries = 100_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	files, err := fs.Sub(migrations, "migrations")
	if err == nil {
		err = db.Migrate(ctx, "admin", files)
	}
	a := &Audit{db, o}
	if err == nil {
		err = db.Write(ctx, func(tx *store.Tx) error { return a.trim(tx) })
	}
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return a, nil
}

// Record writes an entry, of which ID and Time are set here, and returns when it is
// on the disk. Values are cut to a bound. It does so also when ctx has ended: what was
// done has been done. An entry that cannot be written goes to the logger.
func (a *Audit) Record(ctx context.Context, e Entry) {
	e.Time = a.o.Now()
	e.Arguments = cutAll(e.Arguments)
	arguments, err := json.Marshal(e.Arguments)
	if err != nil {
		panic(err) // strings
	}
	var host string
	if j, err := jid.Parse(e.Subject); err == nil {
		host = j.Domain()
	}
	own := 0
	if e.Own {
		own = 1
	}
	err = a.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		res, err := tx.Exec(`INSERT INTO audit_log (time, who, name, remote, operation, subject, host, arguments, outcome, own)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, e.Time.UnixMicro(), cut(e.Who), cut(e.Name), cut(e.Remote), cut(e.Operation), cut(e.Subject),
			host, string(arguments), cut(e.Outcome), own)
		if err != nil {
			return err
		}
		if id, err := res.LastInsertId(); err != nil || id%auditTrim != 0 {
			return err
		}
		return a.trim(tx)
	})
	if err != nil {
		a.o.Logger.Error("an entry of the audit log was not written", "err", err, "who", e.Who, "remote", e.Remote,
			"operation", e.Operation, "subject", e.Subject, "outcome", e.Outcome)
	}
}

// trim deletes what is too old or too much.
func (a *Audit) trim(tx *store.Tx) error {
	if _, err := tx.Exec(`DELETE FROM audit_log WHERE time < ?`, a.o.Now().Add(-a.o.Keep).UnixMicro()); err != nil {
		return err
	}
	for own, most := range []int{a.o.MaxEntries - a.o.MaxEntries/4, a.o.MaxEntries / 4} {
		_, err := tx.Exec(`DELETE FROM audit_log WHERE own = ? AND id <=
			(SELECT id FROM audit_log WHERE own = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`, own, own, most)
		if err != nil {
			return err
		}
	}
	return nil
}

// Filter chooses entries; zero fields choose all.
type Filter struct {
	Who       string
	Operation string // or the first of its words: "token"
	Subject   string
	Host      string    // whose subject is at this domain
	Since     time.Time // inclusive
	Until     time.Time // exclusive
}

// Page is a part of what a Filter chooses. The zero value is the first 100.
type Page struct {
	After int64 // the last entry's ID of the page before
	Limit int   // 1 to 1000; 100 if 0
}

// Read returns entries, the newest first, and the After of the next page, 0 if this
// is the last.
func (a *Audit) Read(ctx context.Context, f Filter, p Page) (list []Entry, next int64, err error) {
	if p.Limit <= 0 {
		p.Limit = auditLimit
	}
	p.Limit = min(p.Limit, auditMax)
	since := a.o.Now().Add(-a.o.Keep) // what is too old may lie there still
	if f.Since.After(since) {
		since = f.Since
	}
	where, args := []string{"time >= ?"}, []any{since.UnixMicro()}
	and := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if !f.Until.IsZero() {
		and("time < ?", f.Until.UnixMicro())
	}
	if f.Who != "" {
		and("who = ?", f.Who)
	}
	if f.Operation != "" {
		// Of a word, what comes behind a space: "!" is the character after it.
		and("(operation = ? OR operation >= ? AND operation < ?)", f.Operation, f.Operation+" ", f.Operation+"!")
	}
	if f.Subject != "" {
		and("subject = ?", f.Subject)
	}
	if f.Host != "" {
		and("host = ?", f.Host)
	}
	if p.After > 0 {
		and("id < ?", p.After)
	}
	// One more tells whether there is a next page.
	rows, err := a.db.Query(ctx, `SELECT id, time, who, name, remote, operation, subject, arguments, outcome, own FROM audit_log
		WHERE `+strings.Join(where, " AND ")+` ORDER BY id DESC LIMIT 0+?`, append(args, p.Limit+1)...)
	if err != nil {
		return nil, 0, fmt.Errorf("admin: %w", err)
	}
	defer rows.Close()
	list = []Entry{}
	for rows.Next() {
		var e Entry
		var at int64
		var arguments string
		if err := rows.Scan(&e.ID, &at, &e.Who, &e.Name, &e.Remote, &e.Operation, &e.Subject, &arguments, &e.Outcome, &e.Own); err != nil {
			return nil, 0, fmt.Errorf("admin: %w", err)
		}
		if err := json.Unmarshal([]byte(arguments), &e.Arguments); err != nil {
			return nil, 0, fmt.Errorf("admin: audit entry %d: %w", e.ID, err)
		}
		e.Time = time.UnixMicro(at).UTC()
		list = append(list, e)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, fmt.Errorf("admin: %w", err)
	}
	if len(list) > p.Limit {
		list = list[:p.Limit]
		next = list[p.Limit-1].ID
	}
	return list, next, nil
}

// cut bounds a value, between characters.
func cut(s string) string {
	if len(s) > auditText {
		s = s[:auditText] + "..."
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "")
	}
	return s
}

func cutAll(args map[string]string) map[string]string {
	out := make(map[string]string, len(args))
	for k, v := range args {
		out[cut(k)] = cut(v)
	}
	return out
}

// Outcome is what an entry says of an error: what the caller is told, and nothing of
// the inner workings.
func Outcome(err error) string {
	var told *Error
	switch {
	case err == nil:
		return OK
	case errors.As(err, &told):
		return told.Text
	}
	return "failed: see the server's log"
}

// entry describes an operation that was run. Values of arguments that it does not
// have are left out: they may be anything, a misplaced password too.
func (op *Operation) entry(c Caller, args Args, out any, err error) Entry {
	e := Entry{Who: c.Who, Name: c.Name, Remote: c.Remote, Operation: op.Name, Outcome: Outcome(err), Arguments: map[string]string{}}
	for _, a := range op.Args {
		v, given := args[a.Name]
		switch {
		case !given:
			continue
		case a.Secret:
			v = hidden
		}
		e.Arguments[a.Name] = v
	}
	for _, name := range subjects {
		if v := e.Arguments[name]; v != "" && v != hidden {
			e.Subject = v
			if j, err := jid.Parse(v); err == nil {
				e.Subject = j.String() // as it is looked for
			}
			break
		}
	}
	if s, ok := out.(interface{ Subject() string }); ok && err == nil && e.Subject == "" {
		e.Subject = s.Subject()
	}
	return e
}

// subjects are the arguments that name what an operation is done to.
var subjects = []string{"jid", "host", "domain", "id"}
