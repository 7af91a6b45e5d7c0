package upload

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Transfer is an upload under way. Until End it counts against what its owner may
// upload, and nobody else can upload the same file. It is used by one goroutine.
type Transfer struct {
	m     *Module
	file  File
	size  int64 // that was promised; negative: unknown
	room  int64
	ended bool
	void  atomic.Bool // the account has been removed
}

// load is what an owner has under way.
type load struct {
	n      int
	octets int64 // promised
}

// ErrUsed says that a file has been uploaded with this slot, or is being uploaded.
var ErrUsed = errors.New("upload: the slot has been used")

// errOver is a quota that is exceeded; over makes it an answer.
var errOver = errors.New("upload: over the quota")

// Begin begins an upload. A file without an ID gets one; its Size is what is going to
// come, negative when that is unknown. The error is ErrUsed, or a *stanza.Error when
// the owner may not upload it: TooLarge and RetryAt know more of that.
func (m *Module) Begin(ctx context.Context, f File) (*Transfer, error) {
	if m.opt.URL(f.Owner.Domain()) == "" {
		return nil, unavailable()
	}
	if f.ID == "" {
		f.ID = newID()
	}
	f.Name = CleanName(f.Name)
	t := &Transfer{m: m, file: f, size: f.Size}
	if err := m.claim(t); err != nil {
		return nil, err
	}
	if err := t.begin(ctx); err != nil {
		t.End()
		if !errors.Is(err, ErrUsed) {
			m.Stats.Refused.Add(1)
		}
		return nil, err
	}
	return t, nil
}

func (t *Transfer) begin(ctx context.Context) error {
	m, f := t.m, &t.file
	if err := m.entitled(ctx, f.Owner); err != nil {
		return err
	}
	var used bool
	err := m.host.Store.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM upload_file WHERE id = ?1) OR
		EXISTS (SELECT 1 FROM upload_gone WHERE id = ?1)`, f.ID).Scan(&used)
	if err != nil {
		return err
	}
	if used {
		return ErrUsed
	}
	if t.size >= 0 {
		t.room = t.size
		return m.admit(ctx, f.Owner, 0, t.size) // its octets count already
	}
	left, err := m.left(ctx, f.Owner)
	if err != nil {
		return err
	}
	t.room = max(min(left, m.opt.MaxSize), 0)
	return m.admit(ctx, f.Owner, 1, 1)
}

// entitled refuses who has no account any more, or never had one (SASL ANONYMOUS).
// Owners of other domains are vouched for by who uploads for them.
func (m *Module) entitled(ctx context.Context, owner jid.JID) error {
	if owner.Local() == "" || !m.host.Router.Hosts(owner.Domain()) {
		return nil
	}
	ok, err := m.host.Exists(ctx, owner)
	if err == nil && !ok {
		err = stanza.Err(stanza.Forbidden, "only accounts can upload files")
	}
	return err
}

// claim makes t the only transfer of its file.
func (m *Module) claim(t *Transfer) error {
	if t.size > m.opt.MaxSize {
		m.Stats.Refused.Add(1)
		return m.large()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.transfers[t.file.ID] != nil {
		return ErrUsed
	}
	l := m.under[t.file.Owner]
	if l == nil {
		l = &load{}
	}
	if l.n >= m.opt.Parallel {
		m.Stats.Refused.Add(1)
		return stanza.Err(stanza.ResourceConstraint, "too many uploads at a time")
	}
	m.transfers[t.file.ID], m.under[t.file.Owner] = t, l
	l.n++
	l.octets += max(t.size, 0)
	return nil
}

// File is the file as it will be.
func (t *Transfer) File() File { return t.file }

// Room is how many octets may come.
func (t *Transfer) Room() int64 { return t.room }

// Commit makes the upload a file that can be fetched, of as many octets as have come,
// and durable. Its octets must be on disk by then. Errors are those of Begin.
func (t *Transfer) Commit(ctx context.Context, size int64) error {
	m, now := t.m, t.m.host.Now()
	t.file.Size, t.file.Created = size, now.Truncate(time.Millisecond).UTC()
	if t.file.Type == "" {
		t.file.Type = "application/octet-stream" // §8
	}
	f := t.file
	err := m.host.Store.Write(ctx, func(tx *store.Tx) error {
		if t.void.Load() {
			return stanza.Err(stanza.Forbidden, "the account has been removed")
		}
		var files int
		var octets int64
		err := tx.QueryRow(`SELECT (SELECT coalesce(sum(files), 0) FROM upload_owner WHERE owner = ?1),
			(SELECT coalesce(sum(octets), 0) FROM upload_usage WHERE owner = ?1 AND hour > ?2)`,
			f.Owner.String(), hour(now)-24).Scan(&files, &octets)
		if err != nil {
			return err
		}
		if files >= m.opt.Files || m.opt.Quota > 0 && octets+size > m.opt.Quota {
			return errOver
		}
		return insert(tx, &f)
	})
	switch {
	case errors.Is(err, errOver):
		m.Stats.Refused.Add(1)
		return m.over(ctx, f.Owner, size)
	case err != nil:
		return err
	}
	m.Stats.Files.Add(1)
	m.Stats.Octets.Add(size)
	if kept := m.kept.Add(size); m.opt.MaxTotal > 0 && kept > m.opt.MaxTotal {
		m.poke()
	}
	return nil
}

// End ends the transfer. When it was not committed it has never been. Further calls
// do nothing.
func (t *Transfer) End() {
	if t.ended {
		return
	}
	t.ended = true
	m := t.m
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.transfers, t.file.ID)
	l := m.under[t.file.Owner]
	l.octets -= max(t.size, 0)
	if l.n--; l.n == 0 {
		delete(m.under, t.file.Owner)
	}
}

// Quotas. A day is made of the last 24 hours of the clock, the one that runs
// included.

func hour(t time.Time) int64 { return t.Unix() / 3600 }

// admit tells whether an owner may upload another file. That takes some free octets
// besides what is under way; size is for how many to wait if there are fewer.
func (m *Module) admit(ctx context.Context, owner jid.JID, free, size int64) error {
	if size > m.opt.MaxSize {
		return m.large()
	}
	left, err := m.left(ctx, owner)
	if err != nil {
		return err
	}
	var files int
	err = m.host.Store.QueryRow(ctx, `SELECT coalesce(sum(files), 0) FROM upload_owner WHERE owner = ?`, owner.String()).Scan(&files)
	if err != nil {
		return err
	}
	if left < free || files >= m.opt.Files {
		return m.over(ctx, owner, size)
	}
	return nil
}

// left is how many octets an owner may upload now, negative when more is under way
// than there is room for.
func (m *Module) left(ctx context.Context, owner jid.JID) (int64, error) {
	if m.opt.Quota < 0 {
		return m.opt.MaxSize, nil
	}
	var used int64
	err := m.host.Store.QueryRow(ctx, `SELECT coalesce(sum(octets), 0) FROM upload_usage WHERE owner = ? AND hour > ?`,
		owner.String(), hour(m.host.Now())-24).Scan(&used)
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.under[owner]; l != nil {
		used += l.octets
	}
	return m.opt.Quota - used, err
}

// over is the answer when a quota is exceeded: with the time from which on size
// octets may be uploaded, when that is known (XEP-0363 §7).
func (m *Module) over(ctx context.Context, owner jid.JID, size int64) error {
	rows, err := m.host.Store.Query(ctx, `SELECT hour, octets FROM upload_usage WHERE owner = ? AND hour > ? ORDER BY hour DESC`,
		owner.String(), hour(m.host.Now())-24)
	if err != nil {
		return err
	}
	defer rows.Close()
	var last int64 // the latest hour that has to be over
	for sum := size; rows.Next() && m.opt.Quota > 0; {
		var h, octets int64
		if err := rows.Scan(&h, &octets); err != nil {
			return err
		}
		if sum += octets; sum > m.opt.Quota {
			last = h
			break
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	e := &stanza.Error{Condition: stanza.ResourceConstraint, Text: "Quota reached. You can have " + strconv.Itoa(m.opt.Files) + " files"}
	if m.opt.Quota > 0 {
		e.Text += ", and upload " + strconv.FormatInt(m.opt.Quota, 10) + " octets in a day"
	}
	if last != 0 {
		e.App = retry{time.Unix((last+24)*3600, 0)}
	}
	return e
}

// large is the answer to files that are too large, XEP-0363 §7.
func (m *Module) large() error {
	return &stanza.Error{
		Type: stanza.Modify, Condition: stanza.NotAcceptable, App: tooLarge{m.opt.MaxSize},
		Text: fmt.Sprintf("File too large. The maximum file size is %d bytes", m.opt.MaxSize),
	}
}

// unavailable is the answer when files of a host have no address.
func unavailable() error {
	return stanza.Err(stanza.ServiceUnavailable, "files cannot be uploaded now")
}

// TooLarge tells whether an error says that a file is larger than max octets.
func TooLarge(err error) (maximum int64, ok bool) {
	var e *stanza.Error
	if errors.As(err, &e) {
		if t, is := e.App.(tooLarge); is {
			return t.max, true
		}
	}
	return 0, false
}

// RetryAt tells whether an error says from when on another attempt may succeed.
func RetryAt(err error) (at time.Time, ok bool) {
	var e *stanza.Error
	if errors.As(err, &e) {
		if r, is := e.App.(retry); is {
			return r.at, true
		}
	}
	return time.Time{}, false
}
