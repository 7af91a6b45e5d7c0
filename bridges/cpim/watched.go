package cpim

import (
	"errors"
	"slices"
	"strings"
	"time"

	"trivium/bridges/cpim/address"
	"trivium/bridges/cpim/pidf"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// A Notification is a presence document with who it is about and who it is for.
type Notification struct {
	From, To jid.JID // bare
	Document *pidf.Presence
}

// ReadNotification reads a Message/CPIM object that holds a presence document: RFC
// 3922 §5.2. A document about someone else than its sender is refused. The error
// is a *stanza.Error.
func (m *Mapper) ReadNotification(text string, env Envelope) (Notification, error) {
	msg, err := m.parse(text, env)
	if err != nil {
		return Notification{}, err
	}
	from, err := m.sender(msg, env)
	if err != nil {
		return Notification{}, err
	}
	to, err := m.recipients(msg, env)
	if err != nil {
		return Notification{}, err
	}
	mt := msg.Content.ContentType()
	if cs, ok := mt.Param("charset"); mt.Name != pidf.ContentType || ok && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "us-ascii") {
		// RFC 3922 §5.2: nothing else becomes presence.
		return Notification{}, BadContent.Error("the content is no presence document in utf-8")
	}
	body, err := msg.Content.Decode(max(m.o.MaxPresence, 1<<16))
	if err != nil {
		return Notification{}, failed(err)
	}
	doc, err := m.ReadPresence(body, from)
	return Notification{From: from, To: to[0], Document: doc}, err
}

// ReadPresence reads a presence document, in UTF-8, that from is said to have
// sent. The error is a *stanza.Error.
func (m *Mapper) ReadPresence(text string, from jid.JID) (*pidf.Presence, error) {
	doc, err := pidf.Parse(text, pidf.Options{Strict: m.o.Strict, MaxBytes: m.o.MaxPresence, MaxTuples: m.o.MaxTuples})
	if errors.Is(err, pidf.ErrTooLarge) {
		return nil, TooLarge.Error("the presence document is too large")
	}
	if err != nil {
		return nil, failed(err)
	}
	who, err := address.Parse(doc.Entity)
	if err != nil || who.Bare() != from.Bare() { // nobody speaks for others
		return nil, Malformed.Error("the presence document is about someone else than its sender")
	}
	return doc, nil
}

// A Watched holds what one XMPP user was last told of one foreign presentity. The
// zero value: nothing. It is owned by one goroutine, and must not serve a second
// watcher: what one may see says nothing about another (RFC 8048 §8.2).
type Watched struct {
	tuples []shown
	newest time.Time
	gone   bool // told that the bare address is unavailable
}

// shown is what was told of one resource.
type shown struct {
	resource string
	open     bool
	show     string
	notes    []pidf.Note
	priority int // -1: none
}

func (s *shown) same(o *shown) bool {
	return s.open == o.open && s.show == o.show && s.priority == o.priority && slices.Equal(s.notes, o.notes)
}

// Notify maps a document to the presence stanzas that tell the watcher what has
// changed: RFC 3922 §5.2, §6.3.1. Documents hold the full state, so a tuple that is
// no longer there has closed. A document older than the last one is ignored.
func (m *Mapper) Notify(w *Watched, n Notification) []*stanza.Stanza {
	doc := n.Document
	if newest := doc.Newest(); !newest.IsZero() {
		if newest.Before(w.newest) {
			return nil
		}
		w.newest = newest
	}
	if len(doc.Tuples) == 0 {
		// RFC 3922 §6.3.2 wants presence of the bare address; §5.2.11 forbids it
		// when there are notes.
		if len(doc.Notes) > 0 || doc.LeftOut > 0 {
			return nil
		}
		var out []*stanza.Stanza
		if !w.gone {
			out = append(out, unavailable(n.From, n.To))
		}
		out = append(out, w.Close(n.From, n.To)...)
		w.gone = true
		return out
	}
	var out []*stanza.Stanza
	var now []shown
	for i := range doc.Tuples {
		t := &doc.Tuples[i]
		if t.Basic == "" {
			continue // says nothing about messages
		}
		from, err := n.From.Bare().WithResource(Resource(t.ID))
		if err != nil {
			m.lose("tuple", "has an id that cannot be a resource")
			continue
		}
		s := m.shown(doc, t, from.Resource())
		if slices.ContainsFunc(now, func(o shown) bool { return o.resource == s.resource }) {
			m.lose("tuple", "is of the same resource as another")
			continue
		}
		now = append(now, s)
		before := slices.IndexFunc(w.tuples, func(o shown) bool { return o.resource == s.resource })
		if before < 0 || !w.tuples[before].same(&s) {
			out = append(out, s.stanza(from, n.To))
		}
	}
	for _, s := range w.tuples {
		kept := slices.ContainsFunc(now, func(o shown) bool { return o.resource == s.resource })
		if s.open && !kept {
			out = append(out, s.leave(n.From, n.To))
		}
	}
	w.tuples, w.gone = now, false
	return out
}

// Close returns the stanzas that end what w has told: every resource that was
// available becomes unavailable.
func (w *Watched) Close(from, to jid.JID) []*stanza.Stanza {
	var out []*stanza.Stanza
	for _, s := range w.tuples {
		if s.open {
			out = append(out, s.leave(from, to))
		}
	}
	w.tuples = nil
	return out
}

// Replay returns the stanzas that tell again what w has told last, for a probe.
func (w *Watched) Replay(from, to jid.JID) []*stanza.Stanza {
	var out []*stanza.Stanza
	for _, s := range w.tuples {
		if full, err := from.Bare().WithResource(s.resource); err == nil && s.open {
			out = append(out, s.stanza(full, to))
		}
	}
	if len(out) == 0 {
		out = append(out, unavailable(from.Bare(), to))
	}
	return out
}

// shown reads a tuple.
func (m *Mapper) shown(doc *pidf.Presence, t *pidf.Tuple, resource string) shown {
	s := shown{resource: resource, open: t.Basic == pidf.Open, priority: -1}
	notes := t.Notes
	if len(notes) == 0 {
		notes = doc.Notes
	}
	for i, n := range notes { // RFC 6121 §4.7.2.2: one for each language
		if !slices.ContainsFunc(notes[:i], func(o pidf.Note) bool { return o.Lang == n.Lang }) {
			// Kept for long: it must not keep the document in memory.
			s.notes = append(s.notes, pidf.Note{Lang: strings.Clone(n.Lang), Text: strings.Clone(n.Text)})
		}
	}
	if s.open {
		s.show = strings.Clone(m.showOf(doc, t))
		if t.Contact.Ranked {
			s.priority = FromPriority(t.Contact.Priority)
		}
	}
	return s
}

func (s *shown) stanza(from, to jid.JID) *stanza.Stanza {
	typ := ""
	if !s.open {
		typ = stanza.Unavailable
	}
	return stanza.New(stanza.Presence, typ, from, to, "", presencePayload(s.show, s.notes, s.priority, s.priority >= 0)...)
}

func (s *shown) leave(from, to jid.JID) *stanza.Stanza {
	if full, err := from.Bare().WithResource(s.resource); err == nil {
		from = full
	}
	return unavailable(from, to)
}

func unavailable(from, to jid.JID) *stanza.Stanza {
	return stanza.New(stanza.Presence, stanza.Unavailable, from, to, "")
}
