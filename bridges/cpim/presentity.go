package cpim

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"trivium/bridges/cpim/address"
	"trivium/bridges/cpim/entity"
	"trivium/bridges/cpim/message"
	"trivium/bridges/cpim/pidf"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// closedFor is how long a tuple that has closed stays in the documents.
const closedFor = time.Minute

// A Presentity holds what one XMPP user lets one audience see, and makes the
// documents that say so. All resources go into one document (RFC 3922 §6.3.1).
//
// It is owned by one goroutine.
type Presentity struct {
	m       *Mapper
	account jid.JID
	entity  string // pres: URI
	contact string // im: URI
	tuples  []tuple
	last    time.Time // newest timestamp given out
}

type tuple struct {
	pidf.Tuple
	closed time.Time // when the resource left; zero while it is there
}

// Presentity returns a user of whom nothing is known yet. The error is a
// *stanza.Error: the account has no pres: address.
func (m *Mapper) Presentity(account jid.JID) (*Presentity, error) {
	p := &Presentity{m: m, account: account.Bare().Clone()}
	var err error
	if p.entity, err = address.URI(address.Pres, account); err == nil {
		p.contact, err = address.URI(address.IM, account)
	}
	if err != nil {
		return nil, failed(err)
	}
	return p, nil
}

// Update takes a presence stanza of the user: RFC 3922 §5.1. It tells whether the
// documents change; subscriptions, probes, errors and the presence of others do
// not change them.
func (p *Presentity) Update(st *stanza.Stanza, now time.Time) bool {
	if st.Kind != stanza.Presence || st.From.Bare() != p.account || st.Type != "" && st.Type != stanza.Unavailable {
		return false
	}
	if st.Type == stanza.Unavailable && st.From.IsBare() {
		// The whole account has gone.
		open := false
		for i := range p.tuples {
			if t := &p.tuples[i]; t.Basic == pidf.Open {
				open = true
				p.set(i, p.tuple(st, t.ID), now)
			}
		}
		if open || len(p.tuples) > 0 {
			return open
		}
	}
	id := TupleID(st.From.Resource())
	i, found := slices.BinarySearchFunc(p.tuples, id, func(t tuple, id string) int { return strings.Compare(t.ID, id) })
	t := p.tuple(st, id)
	if !found {
		p.tuples = slices.Insert(p.tuples, i, tuple{})
	} else if sameTuple(&p.tuples[i].Tuple, &t) {
		return false
	}
	p.set(i, t, now)
	return true
}

// set replaces tuple i by t, which is new at now.
func (p *Presentity) set(i int, t pidf.Tuple, now time.Time) {
	// RFC 3863 §4.1.7: no two documents of one presentity with the same timestamp.
	if now = now.Truncate(time.Millisecond).UTC(); !now.After(p.last) {
		now = p.last.Add(time.Millisecond)
	}
	p.last = now
	t.Timestamp = now
	p.tuples[i] = tuple{Tuple: t}
	if t.Basic == pidf.Closed {
		p.tuples[i].closed = now
	}
}

// tuple maps a stanza: RFC 3922 §5.1.4 to §5.1.9.
func (p *Presentity) tuple(st *stanza.Stanza, id string) pidf.Tuple {
	t := pidf.Tuple{ID: id, Basic: pidf.Open, Contact: pidf.Contact{URI: p.contact}}
	if st.Type == stanza.Unavailable {
		t.Basic = pidf.Closed
	}
	st.Each(func(c stanza.Child) bool {
		if c.Space != stanza.NSClient {
			p.m.lose(c.Local+" of "+c.Space, "extensions are not mapped") // RFC 3922 §5.1.8
			return true
		}
		text, lang := textOf(c)
		text = strings.Clone(text) // kept for long: it must not keep the stanza in memory
		switch c.Local {
		case "show":
			if validShow(text) && t.Basic == pidf.Open {
				t.Show, t.IM = text, imOf(text)
			}
		case "status":
			if lang == "" {
				lang = st.Lang
			}
			if text != "" {
				t.Notes = append(t.Notes, pidf.Note{Lang: strings.Clone(lang), Text: text})
			}
		case "priority":
			// RFC 3922 §5.1.7: a negative one must not be mapped.
			if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil && n >= 0 && n <= 127 && t.Basic == pidf.Open {
				t.Contact.Priority, t.Contact.Ranked = ToPriority(n), true
			}
		}
		return true
	})
	return t
}

// sameTuple compares all but the timestamp.
func sameTuple(a, b *pidf.Tuple) bool {
	return a.Basic == b.Basic && a.Show == b.Show && a.Contact == b.Contact && slices.Equal(a.Notes, b.Notes)
}

// Document returns the full state. It has at least one tuple, as RFC 3922 §6.3.2
// demands: resources that have left stay for a minute, and the last of them until
// there is something else to say.
func (p *Presentity) Document(now time.Time) *pidf.Presence {
	gone := func(t tuple) bool { return !t.closed.IsZero() && now.Sub(t.closed) >= closedFor }
	if slices.ContainsFunc(p.tuples, func(t tuple) bool { return !gone(t) }) {
		p.tuples = slices.DeleteFunc(p.tuples, gone)
	} else if len(p.tuples) > 1 {
		newest := slices.MaxFunc(p.tuples, func(a, b tuple) int { return a.Timestamp.Compare(b.Timestamp) })
		p.tuples = append(p.tuples[:0], newest)
	}
	if len(p.tuples) == 0 {
		return p.Closed("", now)
	}
	doc := &pidf.Presence{Entity: p.entity, Tuples: make([]pidf.Tuple, len(p.tuples))}
	for i := range p.tuples {
		doc.Tuples[i] = p.tuples[i].Tuple
	}
	return doc
}

// Closed returns a document that says nothing but that the user takes no messages,
// for those who may not or not yet see more.
func (p *Presentity) Closed(note string, now time.Time) *pidf.Presence {
	t := pidf.Tuple{ID: TupleID(""), Basic: pidf.Closed, Contact: pidf.Contact{URI: p.contact}}
	if note != "" {
		t.Notes = []pidf.Note{{Text: note}}
	}
	if now = now.Truncate(time.Millisecond).UTC(); !now.After(p.last) {
		now = p.last.Add(time.Millisecond)
	}
	p.last, t.Timestamp = now, now
	return &pidf.Presence{Entity: p.entity, Tuples: []pidf.Tuple{t}}
}

// Notification wraps a document of the presentity for a watcher: RFC 3922 §5.1.
func (p *Presentity) Notification(doc *pidf.Presence, watcher jid.JID, now time.Time) (*message.Message, error) {
	msg := new(message.Message)
	var err error
	if msg.From, err = p.m.headerURI(p.account); err != nil {
		return nil, err
	}
	to, err := p.m.headerURI(watcher)
	if err != nil {
		return nil, err
	}
	msg.To = []message.Address{to}
	if !p.m.o.NoDateTime {
		msg.DateTime = now
	}
	text, err := doc.AppendTo(nil)
	if err != nil {
		return nil, failed(err)
	}
	msg.Content = *entity.New(pidf.ContentType+"; charset=utf-8", string(text))
	return msg, nil
}

func itoa(n int) string { return strconv.Itoa(n) }
