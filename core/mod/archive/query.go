package archive

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/rsm"
	"trivium/core/stanza"
	"trivium/core/xdata"
)

// Names of the form's fields, XEP-0313 §4.1 and XEP-0431 §3.1.
const (
	fieldWith      = "with"
	fieldStart     = "start"
	fieldEnd       = "end"
	fieldBeforeID  = "before-id"
	fieldAfterID   = "after-id"
	fieldIDs       = "ids"
	fieldGroupchat = "include-groupchat"
	fieldFullText  = "{" + NSFullText + "}fulltext"
)

// fields returns the form that queries may fill in, XEP-0313 §4.1.6.
func fields(fullText bool) *xdata.Form {
	f := xdata.New(
		xdata.Ask, NS,
		xdata.Field{Var: fieldWith, Type: xdata.JIDSingle},
		xdata.Field{Var: fieldStart, Type: xdata.TextSingle},
		xdata.Field{Var: fieldEnd, Type: xdata.TextSingle},
		xdata.Field{Var: fieldBeforeID, Type: xdata.TextSingle},
		xdata.Field{Var: fieldAfterID, Type: xdata.TextSingle},
		xdata.Field{Var: fieldIDs, Type: xdata.ListMulti, Open: true},
		xdata.Field{Var: fieldGroupchat, Type: xdata.Boolean},
	)
	if fullText {
		f.Fields = append(f.Fields, xdata.Field{Var: fieldFullText, Type: xdata.TextSingle})
	}
	return f
}

// form answers a request for the form.
func (m *Module) form(context.Context, *module.Request) (stanza.Payload, error) {
	return stanza.El(NS, "query", m.fields.Element()), nil
}

// query is one request for a page of an archive.
type query struct {
	name   string // 'queryid', empty: none
	lo, hi int64  // ids between these
	with   with
	ids    []int64 // ascending: only these; nil: all
	words  []string
	known  []int64 // ids that must be in the archive

	limit     int  // rows in the page
	backwards bool // the page in front of hi, not the one behind lo
	flip      bool // newest first
}

// catchesUp tells whether the query is for all messages in some time: whoever asks
// so gets what has come meanwhile.
func (q *query) catchesUp() bool {
	return q.limit > 0 && q.ids == nil && q.words == nil && !q.with.filters()
}

// parse reads a query. Its errors are stanza errors.
func (m *Module) parse(el *stanza.Element, account jid.JID) (*query, error) {
	if el.Attr("node") != "" { // XEP-0313 §6.1.3
		return nil, stanza.Err(stanza.FeatureNotImplemented, "an account's archive has no nodes")
	}
	want := Query{Flip: el.Child(NS, "flip-page") != nil}
	var err error
	if want.Page, err = rsm.Find(el); err != nil {
		return nil, err
	}
	submitted, err := xdata.Find(el)
	if err != nil {
		return nil, err
	}
	if submitted != nil {
		if err := m.parseForm(&want, submitted); err != nil {
			return nil, err
		}
	}
	q, err := m.plan(&want, account)
	if err != nil {
		return nil, err
	}
	q.name = el.Attr("queryid")
	return q, nil
}

// parseForm reads the filters of a query.
func (m *Module) parseForm(want *Query, submitted *xdata.Form) error {
	if name, found := m.fields.Unknown(submitted); found { // XEP-0313 §4.1.6: not to be ignored
		return stanza.Err(stanza.FeatureNotImplemented, "there is no field "+name)
	}
	f, err := m.fields.Accept(submitted)
	if err != nil {
		return err
	}
	if v := f.Value(fieldWith); v != "" {
		if want.With, err = jid.Parse(v); err != nil {
			return &stanza.Error{Condition: stanza.JIDMalformed, Cause: err}
		}
	}
	if want.Start, err = parseTime(fieldStart, f.Value(fieldStart)); err != nil {
		return err
	}
	if want.End, err = parseTime(fieldEnd, f.Value(fieldEnd)); err != nil {
		return err
	}
	want.After, want.Before, want.Text = f.Value(fieldAfterID), f.Value(fieldBeforeID), f.Value(fieldFullText)
	if ids := f.Field(fieldIDs); ids != nil {
		want.IDs = ids.Values
	}
	return nil
}

// plan finds what to read for a query. Its errors are stanza errors.
func (m *Module) plan(want *Query, account jid.JID) (*query, error) {
	if want.Page.HasIndex { // XEP-0059 §2.6: it would have to count
		return nil, stanza.Err(stanza.FeatureNotImplemented, "pages are found by id")
	}
	q := &query{
		hi: math.MaxInt64, flip: want.Flip,
		limit: want.Page.Limit(m.opt.Page, m.opt.PageMax), backwards: want.Page.Backwards,
	}
	if !want.With.IsZero() {
		q.with = newWith(want.With, account)
	}
	if t := want.Start; !t.IsZero() {
		// §4.1.2: equal to or later. A time between two microseconds is later than the first.
		q.lo = max(q.lo, idAt(t.Add(time.Microsecond-1))-1)
	}
	if t := want.End; !t.IsZero() {
		q.hi = min(q.hi, idAt(t.Add(time.Microsecond)))
	}
	for _, id := range [...]string{want.After, want.Page.After} {
		if err := q.above(id); err != nil {
			return nil, err
		}
	}
	for _, id := range [...]string{want.Before, want.Page.Before} {
		if err := q.below(id); err != nil {
			return nil, err
		}
	}
	if len(want.IDs) > 0 {
		if err := m.parseIDs(q, want.IDs); err != nil {
			return nil, err
		}
	}
	if want.Text != "" { // XEP-0431 §2.2: if non-empty
		if !m.opt.FullText {
			return nil, stanza.Err(stanza.FeatureNotImplemented, "archives cannot be searched")
		}
		var err error
		if q.words, err = searchWords(want.Text); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// parseIDs reads the ids of single messages.
func (m *Module) parseIDs(q *query, values []string) error {
	if len(values) > m.opt.PageMax {
		return stanza.Err(stanza.PolicyViolation, "too many ids in one query")
	}
	for _, v := range values {
		id, ok := parseID(v)
		if !ok {
			return notFound()
		}
		q.ids = append(q.ids, id)
	}
	slices.Sort(q.ids)
	q.ids = slices.Compact(q.ids)
	q.known = append(q.known, q.ids...)
	return nil
}

// above and below narrow the range to one side of a message, which must exist.
func (q *query) above(v string) error {
	if v == "" {
		return nil
	}
	id, ok := parseID(v)
	if !ok {
		return notFound()
	}
	q.known, q.lo = append(q.known, id), max(q.lo, id)
	return nil
}

func (q *query) below(v string) error {
	if v == "" {
		return nil
	}
	id, ok := parseID(v)
	if !ok {
		return notFound()
	}
	q.known, q.hi = append(q.known, id), min(q.hi, id)
	return nil
}

// notFound is the answer to ids that are not in the archive, XEP-0313 §4.1.4, §5.2.
func notFound() error {
	return stanza.Err(stanza.ItemNotFound, "there is no such message in the archive")
}

// parseTime reads a DateTime of XEP-0082 §3.2. An empty one is the zero time, which
// bounds nothing.
func parseTime(field, v string) (time.Time, error) {
	if v == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(v))
	if err != nil {
		return t, stanza.Err(stanza.BadRequest, "the field "+field+" is not a time")
	}
	if t.IsZero() {
		t = t.Add(time.Nanosecond) // a time all the same, though before all messages
	}
	return t, nil
}

// with is the filter for the other side of messages, XEP-0313 §4.1.1. The zero
// value lets all through.
type with struct {
	jid    jid.JID
	self   bool   // it is an address of the account
	hash   int64  // what rows must have; it says nothing when any is true
	any    bool   // rows have no telling hash
	quoted string // the address as it stands in rows
}

func newWith(j, account jid.JID) with {
	j = j.Clone()
	w := with{jid: j, self: j.Bare() == account, hash: peerOf(j), quoted: quote(j)}
	// A resource of one's own is on one side of messages to all others.
	w.any = w.self && j.IsFull()
	return w
}

// quote returns an address as stanzas write it.
func quote(j jid.JID) string {
	s := stanza.New(stanza.Message, "", j, jid.JID{}, "").String()
	return strings.TrimSuffix(strings.TrimPrefix(s, "<message from='"), "'/>")
}

// filters tells whether the filter lets anything through but all.
func (w *with) filters() bool { return !w.jid.IsZero() }

// match looks at the addresses in a row.
func (w *with) match(doc []byte) bool {
	if !w.filters() {
		return true
	}
	from, to := addresses(doc)
	if w.self && !w.any {
		// "the server MUST only return results where both the 'to' and 'from' match"
		return w.is(from) && w.is(to)
	}
	return w.is(from) || w.is(to)
}

// is compares an address as it stands in a row. Without a resource any is meant.
func (w *with) is(quoted []byte) bool {
	n := len(w.quoted)
	if len(quoted) < n || string(quoted[:n]) != w.quoted {
		return false
	}
	return len(quoted) == n || w.jid.IsBare() && quoted[n] == '/'
}

// addresses returns what stands in the first two attributes of a row: 'from' and
// 'to' as AppendDocument writes them.
func addresses(doc []byte) (from, to []byte) {
	const start = "<message xmlns='" + stanza.NSClient + "'"
	if len(doc) < len(start) {
		return nil, nil
	}
	doc = doc[len(start):]
	take := func(name string) (value []byte) {
		if len(doc) < len(name) || string(doc[:len(name)]) != name {
			return nil
		}
		value = doc[len(name):]
		i := bytes.IndexByte(value, '\'')
		if i < 0 {
			return nil
		}
		doc = value[i+1:]
		return value[:i]
	}
	from = take(" from='")
	return from, take(" to='")
}
