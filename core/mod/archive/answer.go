package archive

import (
	"context"
	"slices"
	"strconv"

	"trivium/core/jid"
	"trivium/core/module"
	"trivium/core/rsm"
	"trivium/core/stanza"
)

// flushEvery is how many octets of messages are handed over at a time, so that they
// are on their way while the rest is written and do not gather in the outbox.
const flushEvery = 16 << 10

// query answers with the messages of a page, and at last with what page it was:
// XEP-0313 §4.
func (m *Module) query(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	if rq.Session == nil {
		return nil, &stanza.Error{Condition: stanza.NotAllowed} // nobody to send results to
	}
	q, err := m.parse(rq.Element(), rq.To())
	if err != nil {
		return nil, err
	}
	page, err := m.answer(ctx, rq.To(), q)
	if err != nil {
		return nil, err
	}
	if q.catchesUp() && !rq.Session.Available() {
		rq.Session.Set(m.covered, true)
	}
	m.deliver(rq, q, page)
	return page.fin(), nil
}

// answer reads the page of a query.
func (m *Module) answer(ctx context.Context, account jid.JID, q *query) (*page, error) {
	num, err := m.ready(ctx, account)
	if err != nil {
		return nil, err
	}
	if q.words != nil {
		if err := m.index(ctx, num); err != nil {
			return nil, err
		}
	}
	page, err := m.read(ctx, num, q)
	if err != nil {
		return nil, err
	}
	m.Stats.Queries.Add(1)
	m.Stats.Results.Add(int64(len(page.rows)))
	return page, nil
}

// ready waits until an account's rows can all be read. It returns what stands for
// the account in tables, 0 when there are none.
func (m *Module) ready(ctx context.Context, account jid.JID) (num int64, err error) {
	b, err := m.books.Get(ctx, account)
	if err != nil {
		return 0, err
	}
	if err := m.settle(ctx, b); err != nil {
		return 0, err
	}
	return m.number(ctx, b)
}

// deliver sends the rows of a page to the session that asked.
func (m *Module) deliver(rq *module.Request, q *query, g *page) {
	envelope := stanza.New(stanza.Message, "", rq.To(), rq.Session.JID, "")
	name := quoteAttr(q.name)
	size := 0
	for i := range g.rows {
		if q.flip { // XEP-0313 §5.4: the same results, the newest first
			i = len(g.rows) - 1 - i
		}
		r := &g.rows[i]
		if !rq.Session.DeliverTo(rq.Turn, envelope.Append(&forwarded{r, name}), rq.Session.JID, nil) {
			return // the session is lost, and so is the answer
		}
		if size += len(r.doc); size >= flushEvery {
			rq.Turn.Flush()
			size = 0
		}
	}
}

// forwarded is one <result/>, XEP-0313 §4.2: the octets of a row in their envelope.
type forwarded struct {
	*result
	name string // queryid, quoted; empty: none
}

// AppendXML implements stanza.Payload.
func (f *forwarded) AppendXML(dst []byte) []byte {
	dst = slices.Grow(dst, len(f.doc)+len(f.name)+280)
	dst = append(dst, "<result xmlns='"+NS+"'"...)
	if f.name != "" {
		dst = append(dst, " queryid="...)
		dst = append(dst, f.name...)
	}
	dst = append(dst, " id='"...)
	dst = strconv.AppendInt(dst, f.id, 10)
	dst = append(dst, "'><forwarded xmlns='"+NSForward+"'><delay xmlns='"+NSDelay+"' stamp='"...)
	dst = stamp(f.id).AppendFormat(dst, stampFormat)
	dst = append(dst, "'/>"...)
	dst = append(dst, f.doc...)
	return append(dst, "</forwarded></result>"...)
}

// quoteAttr returns a value as an attribute has it, quotes and all; empty for an
// empty one.
func quoteAttr(v string) string {
	if v == "" {
		return ""
	}
	const before, after = "<x v=", "/>"
	s := stanza.El(stanza.NSClient, "x").Set("v", v).String()
	return s[len(before) : len(s)-len(after)]
}

// fin is what follows the results, XEP-0313 §4.2, §5. There is no 'stable': what
// has been read does not change any more.
func (g *page) fin() *stanza.Element {
	fin := stanza.El(NS, "fin")
	if !g.more {
		fin.Set("complete", "true")
	}
	return fin.Add(g.bounds().Element())
}

// bounds tells what page of the result set it is.
func (g *page) bounds() (p rsm.Page) {
	if n := len(g.rows); n > 0 {
		p.First, p.Last = text(g.rows[0].id), text(g.rows[n-1].id)
	} else {
		p.Count, p.HasCount = g.count, g.exact
	}
	return p
}

// metadata answers with the ends of the archive, XEP-0313 §5.5.
func (m *Module) metadata(ctx context.Context, rq *module.Request) (stanza.Payload, error) {
	return m.ends(ctx, rq.To())
}

// welcome tells a session that binds by Bind 2 the ends of its archive, so that it
// can fetch what it has missed and need not be sent it (XEP-0386 §4.2).
func (m *Module) welcome(ctx context.Context, s *module.Session) stanza.Payload {
	el, err := m.ends(ctx, s.Account.Bare)
	if err != nil {
		m.host.Log.Error("the archive cannot be read", "account", s.Account.Bare.String(), "err", err)
		return nil
	}
	s.Set(m.covered, true)
	return el
}

func (m *Module) ends(ctx context.Context, account jid.JID) (*stanza.Element, error) {
	num, err := m.ready(ctx, account)
	if err != nil {
		return nil, err
	}
	el := stanza.El(NS, "metadata")
	var first, last int64
	err = m.host.Store.QueryRow(ctx, `SELECT (SELECT coalesce(min(id), 0) FROM archive_entry WHERE account = ?1),
		(SELECT coalesce(max(id), 0) FROM archive_entry WHERE account = ?1)`, num).Scan(&first, &last)
	if err != nil {
		return nil, err
	}
	if first == 0 {
		return el, nil // an empty archive
	}
	end := func(name string, id int64) *stanza.Element {
		return stanza.El(NS, name).Set("id", text(id)).Set("timestamp", stamp(id).Format(stampFormat))
	}
	return el.Add(end("start", first), end("end", last)), nil
}
