package message

import (
	"encoding/base64"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/wire"
)

// mostReactions bounds the reactions of one sender to one message.
const mostReactions = 64

// bare tells whether x asks for nothing that is a message on its own. A hint, an
// id or a delay is not.
func (x *Extras) bare() bool {
	return x == nil || len(x.Subjects) == 0 && len(x.Bodies) == 0 && x.Reactions == nil && x.Retracts == "" &&
		!x.ReceiptRequest && x.Receipt == "" && x.Marker == nil && x.ChatState == "" && x.OOB == nil && len(x.Media) == 0
}

// check tells what the extensions forbid. from and to are the stanza's.
func (d *Draft) check(typ string, from, to jid.JID) error {
	x := d.Extras
	content := d.Body != "" || d.Subject != "" || len(x.Bodies) > 0 || len(x.Subjects) > 0
	conversation := typ == stanza.Chat || typ == stanza.GroupChat
	fail := func(field, reason string) error { return &FieldError{Field: field, Reason: reason} }
	for _, f := range [...]struct {
		name  string
		text  string
		given bool
		max   int
	}{
		{"replaces", x.Replaces, false, MaxID},
		{"retracts", x.Retracts, false, MaxID},
		{"receipt", x.Receipt, false, MaxID},
		{"origin_id", x.OriginID, false, MaxID},
		{"reply.id", x.reply().ID, x.Reply != nil, MaxID},
		{"reactions.id", x.reactions().ID, x.Reactions != nil, MaxID},
		{"marker.id", x.marker().ID, x.Marker != nil && x.Marker.Type != "markable", MaxID},
		{"delay.reason", x.delay().Reason, false, 0},
		{"oob.desc", x.oob().Desc, false, 0},
	} {
		if err := plainText(f.name, f.text, f.given, f.max); err != nil {
			return err
		}
	}
	switch {
	case x.Receipt != "" && x.ReceiptRequest:
		return fail("receipt_request", "is not possible in a receipt") // XEP-0184 §5.4
	case x.Receipt != "" && content:
		return fail("receipt", "has to be alone in its message") // XEP-0184 §7
	case x.Replaces != "" && x.Retracts != "":
		return fail("retracts", "is not possible in a correction")
	case x.Replaces != "" && !content && d.Extensions == "" && x.OOB == nil && len(x.Media) == 0:
		return fail("replaces", "needs the whole message that takes the place") // XEP-0308 §4
	case x.Replaces != "" && x.Replaces == d.ID:
		return fail("replaces", "is the message's own id") // XEP-0308 §3: a new id
	case x.Retracts != "" && x.Retracts == d.ID:
		return fail("retracts", "is the message's own id")
	case x.Reactions != nil && !conversation:
		return fail("reactions", "are for messages of type chat and groupchat") // XEP-0444 §4
	case x.ChatState != "" && !slices.Contains(states, x.ChatState):
		return fail("chat_state", "is not active, inactive, gone, composing or paused")
	case x.ChatState != "" && !conversation:
		return fail("chat_state", "is for messages of type chat and groupchat") // XEP-0085 §5.4
	case x.ChatState != "" && x.ChatState != "active" && content:
		return fail("chat_state", "is not possible with text, unless it is active") // XEP-0085 §5.6
	case x.Marker != nil && !slices.Contains(markers, x.Marker.Type):
		return fail("marker.type", "is not markable, received, displayed or acknowledged")
	case x.Marker != nil && x.Marker.Type == "markable" && x.Marker.ID != "":
		return fail("marker.id", "is not for markable")
	}
	for _, f := range [...]struct {
		name      string
		len, most int
	}{{"reactions.emojis", len(x.reactions().Emojis), mostReactions}, {"media", len(x.Media), 16}, {"fallback", len(x.Fallback), 16}, {"hints", len(x.Hints), len(hints)}} {
		if f.len > f.most {
			return fail(f.name, "has too many members")
		}
	}
	for i, e := range x.reactions().Emojis {
		at := "reactions.emojis[" + strconv.Itoa(i) + "]"
		if err := plainText(at, e, true, 100); err != nil {
			return err
		}
		if strings.TrimSpace(e) != e {
			return fail(at, "has space around it")
		}
		if slices.Contains(x.Reactions.Emojis[:i], e) {
			return fail(at, "is there twice") // XEP-0444 §4
		}
	}
	for i, h := range x.Hints {
		at := "hints[" + strconv.Itoa(i) + "]"
		switch {
		case !slices.Contains(hints, h):
			return fail(at, "is not store, no-store, no-permanent-store or no-copy")
		case slices.Contains(x.Hints[:i], h):
			return fail(at, "is there twice")
		case h == "store" && (slices.Contains(x.Hints, "no-store") || slices.Contains(x.Hints, "no-permanent-store")):
			return fail(at, "says the opposite of another hint")
		case h == "no-copy" && !to.IsFull():
			return fail(at, "is only for messages to a full address") // XEP-0334 §4.3
		}
	}
	return d.checkParts(from)
}

// checkParts checks what has parts of its own.
func (d *Draft) checkParts(from jid.JID) error {
	x := d.Extras
	for name, texts := range map[string]map[string]string{"subjects": x.Subjects, "bodies": x.Bodies} {
		seen := map[string]bool{}
		for lang, text := range texts {
			folded := strings.ToLower(lang) // RFC 5646 §2.1.1
			switch {
			case !ValidLang(lang):
				return &FieldError{Field: name, Reason: "has a name that is not a language tag"}
			case seen[folded], folded == strings.ToLower(d.Lang) && (name == "bodies" && d.Body != "" || name == "subjects" && d.Subject != ""):
				return &FieldError{Field: name, Reason: "has a language twice"} // RFC 6121 §5.2.3, §5.2.4
			case text == "":
				return &FieldError{Field: name, Reason: "has an empty text"}
			case !wire.ValidText(text):
				return &FieldError{Field: name, Reason: "has a character that XML cannot carry"}
			}
			seen[folded] = true
		}
	}
	if x.Reply != nil && x.Reply.To != "" {
		if _, err := Address("reply.to", x.Reply.To); err != nil {
			return err
		}
	}
	for i, id := range x.StanzaIDs {
		at := "stanza_ids[" + strconv.Itoa(i) + "]"
		if err := plainText(at+".id", id.ID, true, MaxID); err != nil {
			return err
		}
		// XEP-0359 §3: 'by' is the entity that assigns the id, once each.
		if err := own(at+".by", id.By, from.Bare()); err != nil {
			return err
		}
		if i > 0 {
			return &FieldError{Field: at + ".by", Reason: "is there twice"}
		}
	}
	if x.Delay != nil {
		if _, err := time.Parse(time.RFC3339, x.Delay.Stamp); err != nil {
			return &FieldError{Field: "delay.stamp", Reason: "is not a date and time"}
		}
		if x.Delay.From != from.String() {
			if err := own("delay.from", x.Delay.From, from.Bare()); err != nil {
				return err
			}
		}
	}
	if x.OOB != nil {
		if err := link("oob.url", x.OOB.URL); err != nil {
			return err
		}
	}
	for i := range x.Media {
		if err := x.Media[i].check("media[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	for i := range x.Fallback {
		at := "fallback[" + strconv.Itoa(i) + "]"
		if err := plainText(at+".for", x.Fallback[i].For, true, MaxID); err != nil {
			return err
		}
		for _, r := range slices.Concat(x.Fallback[i].Body, x.Fallback[i].Subject) {
			if r.Start < 0 || r.End < 0 || r.End > 0 && r.End <= r.Start || r.End == 0 && r.Start > 0 {
				return &FieldError{Field: at, Reason: "has a range that ends before it starts"}
			}
		}
	}
	return nil
}

// own checks an address that can only be one.
func own(field, value string, want jid.JID) error {
	if value == "" {
		return nil
	}
	j, err := Address(field, value)
	if err == nil && j != want {
		err = &FieldError{Field: field, Reason: "is not the sender's address"}
	}
	return err
}

// plainText checks one line of text; needed: it may not be empty.
func plainText(field, text string, needed bool, most int) error {
	switch {
	case needed && text == "":
		return &FieldError{Field: field, Reason: "is needed"}
	case !wire.ValidText(text):
		return &FieldError{Field: field, Reason: "has a character that XML cannot carry"}
	case most > 0 && len(text) > most:
		return &FieldError{Field: field, Reason: "is too long"}
	}
	return nil
}

// link checks a URL: any scheme will do (XEP-0066 §5).
func link(field, text string) error {
	if err := plainText(field, text, true, 8192); err != nil {
		return err
	}
	if u, err := url.Parse(text); err != nil || u.Scheme == "" {
		return &FieldError{Field: field, Reason: "is not a whole URL"}
	}
	return nil
}

func (m *Media) check(at string) error {
	if err := link(at+".url", m.URL); err != nil {
		return err
	}
	if err := plainText(at+".name", m.Name, false, MaxID); err != nil {
		return err
	}
	if err := plainText(at+".desc", m.Desc, false, 0); err != nil {
		return err
	}
	if m.Type != "" {
		if _, _, err := mime.ParseMediaType(m.Type); err != nil || !strings.Contains(m.Type, "/") || len(m.Type) > 255 || !wire.ValidText(m.Type) {
			return &FieldError{Field: at + ".type", Reason: "is not a media type"}
		}
	}
	if m.Size < 0 {
		return &FieldError{Field: at + ".size", Reason: "is negative"}
	}
	for algo, value := range m.Hashes {
		if algo == "" || len(algo) > 64 || !wire.ValidText(algo) {
			return &FieldError{Field: at + ".hashes", Reason: "has a name that is not of a hash"}
		}
		if _, err := base64.StdEncoding.DecodeString(value); err != nil || value == "" || strings.ContainsAny(value, "\r\n") {
			return &FieldError{Field: at + ".hashes", Reason: "has a value that is not base64"}
		}
	}
	if (m.Begin == nil) != (m.End == nil) || m.Begin != nil && (*m.Begin < 0 || *m.End <= *m.Begin) {
		return &FieldError{Field: at + ".end", Reason: "does not come after begin"}
	}
	return nil
}

// Parts that are not there are empty.
func (x *Extras) reply() (v InReplyTo) {
	if x.Reply != nil {
		v = *x.Reply
	}
	return v
}

func (x *Extras) reactions() (v Reactions) {
	if x.Reactions != nil {
		v = *x.Reactions
	}
	return v
}

func (x *Extras) marker() (v Marker) {
	if x.Marker != nil {
		v = *x.Marker
	}
	return v
}

func (x *Extras) delay() (v Delay) {
	if x.Delay != nil {
		v = *x.Delay
	}
	return v
}

func (x *Extras) oob() (v OOB) {
	if x.OOB != nil {
		v = *x.OOB
	}
	return v
}

// texts appends the texts in further languages.
func texts(dst []byte, name string, byLang map[string]string) []byte {
	for _, lang := range slices.Sorted(maps.Keys(byLang)) {
		dst = stanza.TextEl(stanza.NSClient, name, byLang[lang]).SetLang(lang).AppendXML(dst)
	}
	return dst
}

// append writes the elements that x stands for, apart from texts. It has been
// checked.
func (x *Extras) append(dst []byte, d *Draft, from jid.JID) []byte {
	add := func(e *stanza.Element) { dst = e.AppendXML(dst) }
	// XEP-0444 §4, XEP-0424 §3: neither has a body to be archived for.
	store := (x.Reactions != nil || x.Retracts != "") && len(x.Hints) == 0
	if x.Reply != nil {
		e := stanza.El(NSReply, "reply").Set("id", x.Reply.ID)
		if x.Reply.To != "" {
			e.Set("to", x.Reply.To)
		}
		add(e)
	}
	if x.Reactions != nil {
		e := stanza.El(NSReactions, "reactions").Set("id", x.Reactions.ID)
		for _, r := range x.Reactions.Emojis {
			e.Add(stanza.TextEl(NSReactions, "reaction", r))
		}
		add(e)
	}
	if x.Replaces != "" {
		add(stanza.El(NSCorrect, "replace").Set("id", x.Replaces))
	}
	fallback := x.Fallback
	if x.Retracts != "" {
		add(stanza.El(NSRetract, "retract").Set("id", x.Retracts))
		if d.Body != "" && len(fallback) == 0 {
			fallback = []Fallback{{For: NSRetract}} // XEP-0424 §3
		}
	}
	if x.ReceiptRequest {
		add(stanza.El(NSReceipts, "request"))
	}
	if x.Receipt != "" {
		add(stanza.El(NSReceipts, "received").Set("id", x.Receipt))
	}
	if x.Marker != nil {
		e := stanza.El(NSMarkers, x.Marker.Type)
		if x.Marker.ID != "" {
			e.Set("id", x.Marker.ID)
		}
		add(e)
	}
	if x.ChatState != "" {
		add(stanza.El(NSStates, x.ChatState))
	}
	for _, h := range x.Hints {
		add(stanza.El(NSHints, h))
	}
	if store {
		add(stanza.El(NSHints, "store"))
	}
	if x.OriginID != "" {
		add(stanza.El(NSIDs, "origin-id").Set("id", x.OriginID))
	}
	for _, id := range x.StanzaIDs {
		add(stanza.El(NSIDs, "stanza-id").Set("id", id.ID).Set("by", from.Bare().String()))
	}
	if x.Delay != nil {
		by := x.Delay.From
		if by == "" {
			by = from.Bare().String()
		}
		add(stanza.TextEl(NSDelay, "delay", x.Delay.Reason).Set("from", by).Set("stamp", utc(x.Delay.Stamp)))
	}
	if x.OOB != nil {
		e := stanza.El(NSOOB, "x", stanza.TextEl(NSOOB, "url", x.OOB.URL))
		if x.OOB.Desc != "" {
			e.Add(stanza.TextEl(NSOOB, "desc", x.OOB.Desc))
		}
		add(e)
	}
	for i := range x.Media {
		add(x.Media[i].element())
	}
	for i := range fallback {
		add(fallback[i].element())
	}
	return dst
}

// utc returns a date and time, which has been checked, as XEP-0203 §2 wants it.
func utc(stamp string) string {
	t, _ := time.Parse(time.RFC3339, stamp)
	return t.UTC().Format("2006-01-02T15:04:05.999999999Z")
}

// element returns the reference of XEP-0385 §3.1.
func (m *Media) element() *stanza.Element {
	file := stanza.El(nsFile, "file")
	text := func(name, value string) {
		if value != "" {
			file.Add(stanza.TextEl(nsFile, name, value))
		}
	}
	text("media-type", m.Type)
	text("name", m.Name)
	if m.Size > 0 {
		text("size", strconv.FormatInt(m.Size, 10))
	}
	for _, algo := range slices.Sorted(maps.Keys(m.Hashes)) {
		file.Add(stanza.TextEl(nsHashes, "hash", m.Hashes[algo]).Set("algo", algo))
	}
	text("desc", m.Desc)
	e := stanza.El(nsReference, "reference").Set("type", "data")
	if m.Begin != nil {
		e.Set("begin", strconv.Itoa(*m.Begin)).Set("end", strconv.Itoa(*m.End))
	}
	source := stanza.El(nsReference, "reference").Set("type", "data").Set("uri", m.URL)
	return e.Add(stanza.El(nsSIMS, "media-sharing", file, stanza.El(nsSIMS, "sources", source)))
}

func (f *Fallback) element() *stanza.Element {
	e := stanza.El(NSFallback, "fallback").Set("for", f.For)
	for _, part := range [...]struct {
		name string
		list []Range
	}{{"subject", f.Subject}, {"body", f.Body}} {
		for _, r := range part.list {
			c := stanza.El(NSFallback, part.name)
			if r.End > 0 {
				c.Set("start", strconv.Itoa(r.Start)).Set("end", strconv.Itoa(r.End))
			}
			e.Add(c)
		}
	}
	return e
}
