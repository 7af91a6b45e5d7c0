package archive

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"trivium/core/module"
	"trivium/core/stanza"
	"trivium/core/store"
)

// Ids ascend strictly, over all accounts and over restarts. An id is a time in
// microseconds since 1970, shifted left, with random bits below: what was kept
// between two times is a range of ids, and knowing one id does not give the next
// (XEP-0359 §3). When the clock is set back ids go on from the last one.
const randomBits = 11

// stamp returns the time in an id.
func stamp(id int64) time.Time { return time.UnixMicro(id >> randomBits).UTC() }

// stampFormat is XEP-0082 §3.2, as exact as an id.
const stampFormat = "2006-01-02T15:04:05.000000Z"

// idAt returns the lowest id of a time. Times that ids cannot hold give the lowest
// or the highest one.
func idAt(t time.Time) int64 {
	const most = int64(1)<<(63-randomBits) - 1
	switch s := t.Unix(); {
	case s < 0:
		return 0
	case s >= most/1_000_000:
		return most << randomBits
	}
	return t.UnixMicro() << randomBits
}

// text is how peers see an id, and parseID reads it; anything else that is a
// number is no id.
func text(id int64) string { return strconv.FormatInt(id, 10) }

func parseID(s string) (id int64, ok bool) {
	id, err := strconv.ParseInt(s, 10, 64)
	return id, err == nil && id > 0 && text(id) == s
}

// errFull says that too many rows are on their way.
var errFull = errors.New("archive: too many messages wait for the store")

// journal gives messages their ids and brings them into the store. Ids are given
// and rows appended under one lock, and batches are committed in order: whoever
// reads the store sees all rows up to some id and none behind it, so that what a
// query has passed by is never filled in later.
//
// Rows gather in a batch until the store comes to write it. That costs less than
// one operation for each, because one statement brings in several rows.
type journal struct {
	m    *Module
	safe atomic.Int64 // all rows up to this id are committed, or never will be

	mu      sync.Mutex
	newest  int64    // the last id given
	batches []*batch // waiting for the store, in order; rows are appended to the last
	rows    int      // waiting, and their octets
	bytes   int
	room    chan struct{} // closed when the journal is crowded no longer; nil: nobody waits

	// Owned by the store's goroutine.
	args    []any
	entries []*row
}

// batch is the rows of one operation of the store.
type batch struct {
	j      *journal
	rows   []row // by id
	sealed bool  // the store has begun to write it; guarded by journal.mu until then
}

// batchMax is how many rows one batch holds at most, and so how many statements
// are repeated when another operation of the transaction fails.
const batchMax = 256

// row is one message in one archive.
type row struct {
	id      int64
	owner   *owner
	num     int64 // of the owner; set by the store's goroutine
	peer    int64 // see archive_entry
	name    int64
	doc     []byte
	receipt *module.Receipt
	dropped bool // taken back before it was written
}

// open reads where the ids stand.
func (j *journal) open(ctx context.Context, m *Module) error {
	j.m = m
	var newest int64
	// Old rows are deleted first, so the newest is there, unless all are gone.
	if err := m.host.Store.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM archive_message`).Scan(&newest); err != nil {
		return err
	}
	if ahead := stamp(newest).Sub(m.host.Now()); ahead > time.Hour {
		m.host.Log.Warn("the archive's newest message is in the future: new ones are stamped like it", "ahead", ahead)
	}
	j.newest = newest
	j.safe.Store(newest)
	return nil
}

func (j *journal) last() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.newest
}

// append takes a message into an archive and returns its id. The receipt is held
// until the row is committed. An error means that nothing happened.
func (j *journal) append(o *owner, st *stanza.Stanza, peer int64, rc *module.Receipt) (int64, error) {
	r := row{owner: o, peer: peer, name: nameOf(st.ID), receipt: rc}
	r.doc = st.AppendDocument(make([]byte, 0, st.Size()+32))
	now := idAt(j.m.host.Now()) | rand.Int64N(1<<randomBits)

	j.mu.Lock()
	defer j.mu.Unlock()
	if j.rows >= j.m.opt.Waiting || j.bytes+len(r.doc) > j.m.opt.WaitingBytes {
		return 0, errFull
	}
	var b *batch
	if n := len(j.batches); n > 0 && len(j.batches[n-1].rows) < batchMax {
		b = j.batches[n-1]
	} else {
		b = &batch{j: j}
		if err := j.m.host.Store.Submit(b.write, b.done); err != nil {
			return 0, err
		}
		j.batches = append(j.batches, b)
	}
	if now <= j.newest {
		now = j.newest + 1 + now&15
	}
	r.id, j.newest = now, now
	o.last.Store(now)
	rc.Hold()
	b.rows = append(b.rows, r)
	j.rows++
	j.bytes += len(r.doc)
	return now, nil
}

// crowded tells whether so many rows wait that those who send should do too: one
// in four of those that may. It is called with the lock held.
func (j *journal) crowded() bool {
	return j.rows > j.m.opt.Waiting/4 || j.bytes > j.m.opt.WaitingBytes/4
}

// pause holds up a session that sends faster than the store writes, until there is
// room or for Options.Pause. Without it senders that do not wait for answers, but
// send when they see that something was delivered, would run into refusals.
func (j *journal) pause(ctx context.Context, t *module.Turn) {
	j.mu.Lock()
	if !j.crowded() {
		j.mu.Unlock()
		return
	}
	if j.room == nil {
		j.room = make(chan struct{})
	}
	room := j.room
	j.mu.Unlock()
	t.Flush() // others wait for what is in there
	patience := time.NewTimer(j.m.opt.Pause)
	defer patience.Stop()
	select {
	case <-room:
	case <-patience.C:
	case <-ctx.Done():
	}
}

// less notes that rows wait no longer. It is called with the lock held.
func (j *journal) less(rows, bytes int) {
	j.rows -= rows
	j.bytes -= bytes
	if j.room != nil && !j.crowded() {
		close(j.room)
		j.room = nil
	}
}

// undo takes a row back that has not been written yet. It reports false when that
// is too late.
func (j *journal) undo(id int64) bool {
	j.mu.Lock()
	rc, found := j.drop(id)
	j.mu.Unlock()
	if found {
		rc.Release(nil) // whoever refused the message tells the sender
	}
	return found
}

func (j *journal) drop(id int64) (*module.Receipt, bool) {
	for _, b := range j.batches {
		i := sort.Search(len(b.rows), func(i int) bool { return b.rows[i].id >= id })
		if i < len(b.rows) && b.rows[i].id == id && !b.rows[i].dropped {
			r := &b.rows[i]
			r.dropped = true
			j.less(1, len(r.doc))
			rc := r.receipt
			r.receipt, r.doc = nil, nil
			return rc, true
		}
	}
	return nil, false
}

// seal ends the time in which rows are appended and taken back.
func (b *batch) seal() {
	j := b.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if b.sealed {
		return // the store runs it again
	}
	b.sealed = true
	i := slices.Index(j.batches, b)
	j.batches = slices.Delete(j.batches, i, i+1)
}

// write is the batch's operation.
func (b *batch) write(tx *store.Tx) error {
	b.seal()
	j := b.j
	j.entries = j.entries[:0]
	for i := range b.rows {
		r := &b.rows[i]
		if r.dropped {
			continue
		}
		if r.num = r.owner.num.Load(); r.num == 0 {
			var err error
			if r.num, err = numberOf(tx, r.owner.account); err != nil {
				return err
			}
		}
		j.entries = append(j.entries, r)
	}
	defer func() { clear(j.entries); clear(j.args) }()
	if err := j.insert(tx, messages); err != nil {
		return err
	}
	// Sorted, entries of one account fall into one page.
	slices.SortFunc(j.entries, func(a, b *row) int { return cmp.Or(cmp.Compare(a.num, b.num), cmp.Compare(a.id, b.id)) })
	return j.insert(tx, entries)
}

// groups are how many rows one statement may bring in: the more, the less each row
// takes, and there are few statements to keep prepared.
var groups = [...]int{16, 4, 1}

// table is how rows are brought into one table.
type table struct {
	statements [len(groups)]string
	args       func([]any, *row) []any
}

// intoTable makes the statements. OR FAIL: SQLite need not be able to undo half a
// statement, since the store undoes the whole operation when one fails. That saves
// it copies of the pages.
func intoTable(columns, values string, args func([]any, *row) []any) *table {
	t := &table{args: args}
	for i, n := range groups {
		t.statements[i] = "INSERT OR FAIL INTO " + columns + " VALUES " + strings.Repeat(values+",", n-1) + values
	}
	return t
}

var (
	messages = intoTable("archive_message (id, account, stanza)", "(?,?,?)", func(a []any, r *row) []any {
		return append(a, r.id, r.num, r.doc)
	})
	entries = intoTable("archive_entry (account, id, peer, name, size)", "(?,?,?,?,?)", func(a []any, r *row) []any {
		return append(a, r.num, r.id, r.peer, r.name, int64(len(r.doc)))
	})
)

func (j *journal) insert(tx *store.Tx, t *table) error {
	rows := j.entries
	for i, n := range groups {
		for len(rows) >= n {
			j.args = j.args[:0]
			for _, r := range rows[:n] {
				j.args = t.args(j.args, r)
			}
			if _, err := tx.Exec(t.statements[i], j.args...); err != nil {
				return err
			}
			rows = rows[n:]
		}
	}
	return nil
}

// done is called by the store when the rows are safe, or cannot be kept.
func (b *batch) done(err error) {
	j := b.j
	b.seal() // an operation that was never run
	rows, bytes := 0, 0
	for i := range b.rows {
		if r := &b.rows[i]; !r.dropped {
			rows++
			bytes += len(r.doc)
			if err == nil {
				r.owner.num.CompareAndSwap(0, r.num)
			}
		}
	}
	j.mu.Lock()
	j.less(rows, bytes)
	j.mu.Unlock()
	if n := len(b.rows); n > 0 {
		j.safe.Store(b.rows[n-1].id)
	}
	stats := &j.m.Stats
	if err != nil {
		stats.Failed.Add(int64(rows))
		j.m.host.Log.Error("messages were not archived", "messages", rows, "err", err)
	} else {
		stats.Stored.Add(int64(rows))
	}
	for i := range b.rows {
		b.rows[i].receipt.Release(err) // nil for those taken back
	}
}
