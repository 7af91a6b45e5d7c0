package bosh

import (
	"bytes"
	"mime"
	"strconv"
	"strings"
	"sync"

	"trivium/core/stanza"
	"trivium/core/wire"
)

// condition is a terminal binding condition (XEP-0124 §17.2); empty for none.
type condition string

// The terminal binding conditions that we use.
const (
	badRequest             condition = "bad-request"
	hostGone               condition = "host-gone"
	hostUnknown            condition = "host-unknown"
	improperAddressing     condition = "improper-addressing"
	itemNotFound           condition = "item-not-found"
	otherRequest           condition = "other-request"
	policyViolation        condition = "policy-violation"
	remoteConnectionFailed condition = "remote-connection-failed"
	remoteStreamError      condition = "remote-stream-error"
	seeOtherURI            condition = "see-other-uri"
	systemShutdown         condition = "system-shutdown"
)

// maxRID is the largest request identifier (XEP-0124 §14.1).
const maxRID = 1<<53 - 1

// body is a request's <body/> element (XEP-0124 §6).
type body struct {
	buf      *bytes.Buffer // the octets that sid and elements are part of
	sid      []byte
	hasSID   bool
	rid      uint64
	key      string
	newkey   string
	ack      uint64 // 0: absent
	pause    int    // seconds; -1: absent
	closes   bool   // type='terminate'
	restart  bool   // xmpp:restart
	elements [][]byte
	creation creation
}

// creation is what only the first request of a session says (XEP-0124 §7.1).
type creation struct {
	to, from, lang string
	version        string // xmpp:version
	ver            version
	badVer         bool
	wait, hold     int // -1: absent
	content        string
	stream         bool // names a stream: XEP-0124 §16
	badNumber      bool
}

// version is a version of BOSH (XEP-0124 §7.1); the zero value is a legacy
// client's, which names none.
type version struct{ major, minor int }

// ours is the version of BOSH that we speak.
var ours = version{1, 11}

func (v version) lower(o version) version {
	if v.major < o.major || v.major == o.major && v.minor < o.minor {
		return v
	}
	return o
}

func parseVersion(s string) (v version, ok bool) {
	major, minor, ok := strings.Cut(s, ".")
	a, err := strconv.ParseUint(major, 10, 16)
	b, err2 := strconv.ParseUint(minor, 10, 16)
	return version{int(a), int(b)}, ok && err == nil && err2 == nil && a > 0
}

var scanners = sync.Pool{New: func() any { return new(wire.Scanner) }}

// parse reads the octets of a request. To the scanner <body/> is the root of a
// small stream, so that each child comes as an element of its own, all octets
// checked. Without a <body/> the result is nil; the condition says what is wrong
// in it.
func parse(buf *bytes.Buffer) (*body, condition) {
	data := buf.Bytes()
	sc := scanners.Get().(*wire.Scanner)
	defer func() {
		sc.Reset(wire.Stream, wire.Limits{})
		scanners.Put(sc)
	}()
	// Sizes are bounded by MaxBody here and by the session's limits in Read.
	sc.Reset(wire.Stream, wire.Limits{Bytes: len(data) + 1})
	var b *body
	for {
		kind, n, err := sc.Next(data)
		if err != nil {
			if wrong, ok := err.(*wire.Error); ok && wrong.Condition == wire.PolicyViolation {
				return b, policyViolation
			}
			return b, badRequest // XEP-0124 §6: no comments, no text, no partial elements
		}
		switch kind {
		case wire.KindMore:
			return b, badRequest
		case wire.KindHeader:
			el := sc.Index()
			raw := data[n-el.Len : n]
			if string(el.Local.Bytes(raw)) != "body" || string(el.Space.Bytes(raw)) != NS {
				return nil, badRequest
			}
			b = &body{buf: buf}
			if !b.attributes(raw, el) {
				return b, badRequest
			}
		case wire.KindElement:
			el := sc.Index()
			b.elements = append(b.elements, alone(sc, el, data[n-el.Len:n]))
		case wire.KindTrailer:
			if len(bytes.TrimLeft(data[n:], " \t\r\n")) > 0 {
				return b, badRequest
			}
			return b, ""
		}
		data = data[n:]
	}
}

// alone returns a child of <body/> as an element that stands alone.
func alone(sc *wire.Scanner, el *wire.Element, raw []byte) []byte {
	if el.Foreign { // it uses prefixes declared on <body/>
		own, err := sc.Canonical(nil, raw)
		if err != nil {
			return raw // cannot happen: Next has just returned it
		}
		if el.Inherited && sc.DefaultSpace() == NS {
			own = bytes.Replace(own, []byte(" xmlns='"+NS+"'"), []byte(" xmlns='"+stanza.NSClient+"'"), 1)
		}
		return own
	}
	space := sc.DefaultSpace()
	if !el.Inherited || space == "" {
		return raw
	}
	if space == NS {
		// COMPAT(old clients): stanzas without a namespace of their own are in
		// jabber:client (XEP-0206 §2).
		space = stanza.NSClient
	}
	own := make([]byte, 0, len(raw)+len(" xmlns=''")+len(space))
	own = append(own, raw[:el.Local.End]...)
	own = append(own, " xmlns='"...)
	own = wire.AppendAttr(own, space)
	own = append(own, '\'')
	return append(own, raw[el.Local.End:]...)
}

// attributes reads the attributes of <body/>; false if one that every request
// may have is malformed.
func (b *body) attributes(raw []byte, el *wire.Element) bool {
	b.pause = -1
	k := &b.creation
	k.wait, k.hold = -1, -1
	good := true
	for i := range el.Attrs {
		a := &el.Attrs[i]
		value := a.Value.Bytes(raw)
		if !a.Prefix.Empty() {
			b.qualified(raw, el, a)
			continue
		}
		text := func() string { return wire.UnescapeAttr(string(value)) }
		ok := true
		switch string(a.Local.Bytes(raw)) {
		case "sid":
			b.sid, b.hasSID = value, true
		case "rid":
			b.rid, ok = number(value)
			ok = ok && b.rid > 0
		case "key":
			b.key = strings.ToLower(text()) // XEP-0124 §15.3: case is not significant
		case "newkey":
			b.newkey = strings.ToLower(text())
		case "ack":
			b.ack, ok = number(value)
		case "pause":
			var n uint64
			n, ok = number(value)
			b.pause = int(min(n, 1<<20))
		case "type":
			b.closes = string(value) == "terminate"
		case "to":
			k.to = text()
		case "from":
			k.from = text()
		case "ver":
			k.ver, ok = parseVersion(text())
			k.badVer = !ok
			ok = true
		case "wait", "hold":
			n, valid := number(value)
			k.badNumber = k.badNumber || !valid
			if string(a.Local.Bytes(raw)) == "wait" {
				k.wait = int(min(n, 1<<20))
			} else {
				k.hold = int(min(n, 1<<20))
			}
		case "content":
			k.content = text()
		case "stream":
			k.stream = true
		}
		good = good && ok
	}
	return good && b.rid > 0
}

// qualified reads an attribute with a prefix: xml:lang, or one of XEP-0206.
func (b *body) qualified(raw []byte, el *wire.Element, a *wire.Attr) {
	if string(a.Name.Bytes(raw)) == "xml:lang" {
		b.creation.lang = wire.UnescapeAttr(string(a.Value.Bytes(raw)))
		return
	}
	for _, d := range el.Decls {
		if !bytes.Equal(d.Prefix.Bytes(raw), a.Prefix.Bytes(raw)) || wire.UnescapeAttr(string(d.Name.Bytes(raw))) != NSXMPP {
			continue
		}
		value := wire.UnescapeAttr(string(a.Value.Bytes(raw)))
		switch string(a.Local.Bytes(raw)) {
		case "version":
			b.creation.version = value
		case "restart": // xs:boolean
			value = strings.TrimSpace(value)
			b.restart = value == "true" || value == "1"
		}
	}
}

// number reads an unsigned integer of at most maxRID.
func number(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	n := uint64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n <= maxRID
}

// checkCreation says what is wrong with a request for a session.
func (b *body) checkCreation() condition {
	k := &b.creation
	if k.badVer || k.badNumber || b.closes || b.restart {
		return badRequest
	}
	if k.content != "" {
		typ, params, err := mime.ParseMediaType(k.content)
		if err != nil || !strings.Contains(typ, "/") {
			return badRequest
		}
		if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") {
			return badRequest // XEP-0124 §7.2: we convert to no other
		}
	}
	return ""
}

// empty tells whether the request carries nothing (XEP-0124 §11).
func (b *body) empty() bool { return len(b.elements) == 0 && !b.restart }
