package message

import (
	"slices"
	"strconv"
	"strings"

	"trivium/core/jid"
	"trivium/core/stanza"
)

// extras finds in a message what Extras stand for; nil: nothing of it. What breaks
// the rules of its extension is passed over.
func extras(st *stanza.Stanza) *Extras {
	var x *Extras
	failed := st.Type == stanza.TypeError
	st.Each(func(c stanza.Child) bool {
		switch c.Space {
		case stanza.NSClient:
			if c.Local != "body" && c.Local != "subject" || strings.HasPrefix(c.Raw, "<"+c.Local+">") {
				return true // says no language
			}
		case NSReply, NSReactions, NSCorrect, NSRetract, NSReceipts, NSMarkers, NSStates, NSHints, NSIDs, NSDelay, NSOOB, NSFallback, nsReference:
			if failed { // an error may hold the payload of what has failed: nobody says it here
				return true
			}
		default:
			return true
		}
		if x == nil {
			x = new(Extras)
		}
		x.read(c.Element())
		return true
	})
	if x != nil && x.nothing() {
		return nil
	}
	return x
}

func (x *Extras) nothing() bool {
	return x.bare() && x.Reply == nil && x.Replaces == "" && len(x.Hints) == 0 && x.OriginID == "" &&
		len(x.StanzaIDs) == 0 && x.Delay == nil && len(x.Fallback) == 0
}

// read takes one element over. Of several that there may be one of, the first
// counts.
func (x *Extras) read(e *stanza.Element) {
	id := e.Attr("id")
	first := func(field *string) {
		if *field == "" {
			*field = id
		}
	}
	switch e.Space {
	case stanza.NSClient:
		x.Bodies, x.Subjects = language(x.Bodies, e, "body"), language(x.Subjects, e, "subject")
	case NSReply:
		if e.Local == "reply" && x.Reply == nil && id != "" { // XEP-0461 §3: MUST have an id
			x.Reply = &InReplyTo{ID: id, To: e.Attr("to")}
		}
	case NSReactions:
		if e.Local == "reactions" && x.Reactions == nil && id != "" {
			x.Reactions = &Reactions{ID: id, Emojis: []string{}}
			for _, r := range e.Children(NSReactions, "reaction") {
				// XEP-0444 §4: duplicates are ignored.
				if emoji := strings.TrimSpace(r.Text()); emoji != "" && len(x.Reactions.Emojis) < mostReactions && !slices.Contains(x.Reactions.Emojis, emoji) {
					x.Reactions.Emojis = append(x.Reactions.Emojis, emoji)
				}
			}
		}
	case NSCorrect:
		if e.Local == "replace" {
			first(&x.Replaces)
		}
	case NSRetract:
		if e.Local == "retract" {
			first(&x.Retracts)
		}
	case NSReceipts:
		switch e.Local {
		case "request":
			x.ReceiptRequest = true
		case "received":
			first(&x.Receipt)
		}
	case NSMarkers:
		if slices.Contains(markers, e.Local) && (id != "" || e.Local == "markable") && (x.Marker == nil || x.Marker.Type == "markable") {
			x.Marker = &Marker{Type: e.Local}
			if e.Local != "markable" {
				x.Marker.ID = id
			}
		}
	case NSStates:
		if slices.Contains(states, e.Local) && x.ChatState == "" {
			x.ChatState = e.Local
		}
	case NSHints:
		if slices.Contains(hints, e.Local) && !slices.Contains(x.Hints, e.Local) {
			x.Hints = append(x.Hints, e.Local)
		}
	case NSIDs:
		switch e.Local {
		case "origin-id":
			first(&x.OriginID)
		case "stanza-id":
			if by, err := jid.Parse(e.Attr("by")); err == nil && id != "" {
				x.StanzaIDs = append(x.StanzaIDs, StanzaID{ID: id, By: by.String()})
			}
		}
	case NSDelay:
		if stamp := e.Attr("stamp"); e.Local == "delay" && x.Delay == nil && stamp != "" {
			x.Delay = &Delay{Stamp: stamp, From: e.Attr("from"), Reason: e.Text()}
		}
	case NSOOB:
		if u := e.ChildText(NSOOB, "url"); e.Local == "x" && x.OOB == nil && u != "" {
			x.OOB = &OOB{URL: u, Desc: e.ChildText(NSOOB, "desc")}
		}
	case NSFallback:
		if e.Local == "fallback" {
			f := Fallback{For: e.Attr("for")}
			f.Body, f.Subject = ranges(e, "body"), ranges(e, "subject")
			x.Fallback = append(x.Fallback, f)
		}
	case nsReference:
		if m, ok := mediaOf(e); ok {
			x.Media = append(x.Media, m)
		}
	}
}

// language adds a text that says its language.
func language(texts map[string]string, e *stanza.Element, name string) map[string]string {
	if e.Local != name {
		return texts
	}
	lang := langOf(e)
	if _, again := texts[lang]; lang == "" || again {
		return texts
	}
	if texts == nil {
		texts = map[string]string{}
	}
	texts[lang] = e.Text()
	return texts
}

func langOf(e *stanza.Element) string {
	for _, a := range e.Attrs {
		if a.Local == "lang" && a.Space == stanza.NSXML {
			return a.Value
		}
	}
	return ""
}

func ranges(e *stanza.Element, name string) []Range {
	var list []Range
	for _, c := range e.Children(NSFallback, name) {
		var r Range
		start, err1 := strconv.Atoi(c.Attr("start"))
		end, err2 := strconv.Atoi(c.Attr("end"))
		if err1 == nil && err2 == nil && start >= 0 && end > start {
			r = Range{start, end}
		}
		list = append(list, r)
	}
	return list
}

// mediaOf reads a reference of XEP-0385: the first source that is a URL counts.
func mediaOf(e *stanza.Element) (m Media, ok bool) {
	sharing := e.Child(nsSIMS, "media-sharing")
	if e.Local != "reference" || sharing == nil {
		return m, false
	}
	for _, source := range sharing.Child(nsSIMS, "sources").Children(nsReference, "reference") {
		if m.URL = source.Attr("uri"); m.URL != "" {
			break
		}
	}
	if m.URL == "" {
		return m, false
	}
	if file := sharing.Child("", "file"); file != nil { // the namespace has had several versions
		m.Name, m.Type, m.Desc = file.ChildText("", "name"), file.ChildText("", "media-type"), file.ChildText("", "desc")
		if n, err := strconv.ParseInt(file.ChildText("", "size"), 10, 64); err == nil && n > 0 {
			m.Size = n
		}
		for _, h := range file.Children(nsHashes, "hash") {
			if algo := h.Attr("algo"); algo != "" {
				if m.Hashes == nil {
					m.Hashes = map[string]string{}
				}
				m.Hashes[algo] = h.Text()
			}
		}
	}
	begin, err1 := strconv.Atoi(e.Attr("begin"))
	end, err2 := strconv.Atoi(e.Attr("end"))
	if err1 == nil && err2 == nil && begin >= 0 && end > begin {
		m.Begin, m.End = &begin, &end
	}
	return m, true
}
