package wire

import "sync"

// Scanner finds top-level elements in octets that arrive in any fragmentation,
// and checks every octet once. It keeps no input: the caller passes what is not
// yet consumed again with more behind it, and the Scanner goes on where it was.
//
// Between elements a Scanner holds little beyond the declarations of the stream
// header, so that idle connections can keep one each. The zero value needs Reset
// before use. A Scanner must not be used by several goroutines at a time.
type Scanner struct {
	work   *work  // nil when idle
	root   *root  // the stream header, nil before it and in Document mode
	err    *Error // the scanner stays failed
	offset int64  // octets consumed since Reset
	pos    uint32 // within the pending element: next octet to look at
	lim    bounds
	mode   Mode
	state  state
	fresh  bool // nothing before: an XML declaration may stand here (XML §2.8)
	closed bool // the root's end tag was seen
	owed   bool // the header was an empty-element tag: a trailer is due
	some   bool // octets are pending
}

// state says where in an element the scan stopped.
type state uint8

const (
	between   state = iota // outside top-level elements
	inContent              // character data or the '<' of markup
	inCDATA                // behind "<![CDATA["
	inStart                // at the '<' of a start tag
	inTag                  // behind the name or an attribute: white space, attribute or end
	inEquals               // behind an attribute's name
	inQuote                // behind its '='
	inValue                // behind its opening quote
	inEnd                  // at the '<' of an end tag
	inEndName              // behind the name of an end tag
	inTrailer              // behind the name of the root's end tag
)

// work is what a Scanner needs while it is inside an element. Positions count
// from the element's '<'.
type work struct {
	el     Element
	attrs  []Attr    // those of the top-level start tag, then those of the current one
	decls  []Decl    // of the top-level start tag
	frames []frame   // open elements
	scope  []binding // namespace declarations in scope
	norm   []byte    // normalised values of declarations that are not plain
	repl   []fix     // what Canonical has to spell anew
	bound  []int32   // what the prefixes of the current tag's attributes are bound to
	order  []int32   // scratch of unique

	// the start tag being scanned
	start     uint32 // its '<'
	name      qname
	attr      Attr // the attribute being scanned
	attrBase  int  // attrs of the current tag start here
	scopeBase int  // and its bindings here
	isDecl    bool // attr is a namespace declaration
	quote     byte // of the value being scanned

	def     int32  // index in scope of the default namespace, or inherited
	nsDecls uint32 // in the whole element
	outer   uint64 // declarations of the root in use, by index; the last bit for all others
	header  bool   // scanning the root's start tag
}

// qname is a qualified name: colon is the position of the colon, or start if
// there is none.
type qname struct{ start, colon, end uint32 }

func (q qname) prefix() Span { return Span{q.start, q.colon} }

func (q qname) local() Span {
	if q.colon == q.start {
		return Span{q.start, q.end}
	}
	return Span{q.colon + 1, q.end}
}

// frame is an open element.
type frame struct {
	name  Span  // qualified
	scope int32 // bindings before it
	def   int32 // work.def before it
}

var workPool = sync.Pool{New: func() any { return new(work) }}

// keep bounds what a work may hold when it goes back to the pool.
const keep = 1024

func (s *Scanner) release() {
	w := s.work
	if w == nil {
		return
	}
	s.work = nil
	if cap(w.attrs) > keep || cap(w.frames) > keep || cap(w.scope) > keep || cap(w.norm) > 16*keep || cap(w.el.Children) > 4*keep {
		return
	}
	workPool.Put(w)
}

// Reset makes s ready for the first octet of a stream or document, at first and
// at each stream restart (RFC 6120 §4.3.3). It forgets a failure and all octets
// that are pending and gives working memory back, so it also ends the use of a
// Scanner for a single element.
func (s *Scanner) Reset(m Mode, l Limits) {
	s.release()
	*s = Scanner{mode: m, lim: l.bounds(), fresh: true}
}

// SetLimits replaces the limits, after authentication for instance. A pending
// element keeps what it has already used.
func (s *Scanner) SetLimits(l Limits) {
	s.lim = l.bounds()
	if s.state != between {
		s.lim.bytes = max(s.lim.bytes, s.pos+uint32(len("</")))
	}
}

// Idle reports whether no octet is pending: the last call of Next left nothing
// unconsumed that it wants to see again.
func (s *Scanner) Idle() bool { return !s.some }

// Index returns the index of the header or element that Next has just returned.
// It is valid until the next call of Next or Reset, and nil if there is none.
func (s *Scanner) Index() *Element {
	if s.work == nil || s.state != between {
		return nil
	}
	return &s.work.el
}

// DefaultSpace returns the stream's default namespace, the one that elements
// marked Inherited are in. It is empty in Document mode and before the header.
func (s *Scanner) DefaultSpace() string {
	if s.root == nil {
		return ""
	}
	return s.root.def
}

// Next scans data, which begins with the first octet not yet consumed. It
// returns what it found and how many octets of data that consumes.
//
//   - KindHeader, KindElement: the octets are data[n-Index().Len : n]. What is
//     before them is white space or an XML declaration.
//   - KindTrailer: the root's end tag, the last thing in a stream.
//   - KindMore: nothing is complete. n counts white space between elements and
//     an XML declaration; the rest must be passed again with more behind it, and
//     may have moved.
//
// The error is always an *Error and final: further calls return it again.
func (s *Scanner) Next(data []byte) (Kind, int, error) {
	if s.err != nil {
		return KindMore, 0, s.err
	}
	base := 0
	if s.state == between {
		var kind Kind
		var more bool
		base, kind, more = s.prolog(data)
		switch {
		case s.err != nil:
			return s.failed(base)
		case kind == KindTrailer:
			return s.found(KindTrailer, base)
		case more:
			s.release()
			s.some = base < len(data)
			s.offset += int64(base)
			return KindMore, base, nil
		}
	}
	d := data[base:]
	if len(d) > int(s.lim.bytes) {
		d = d[:s.lim.bytes] // what is beyond cannot be part of an element
	}
	var done bool
	if s.state == inTrailer {
		done = s.trailer(d)
	} else {
		done = s.element(d)
	}
	switch {
	case s.err != nil:
		return s.failed(base)
	case !done && len(d) == int(s.lim.bytes):
		s.fail(PolicyViolation, "element too large", len(d))
		return s.failed(base)
	case !done:
		s.some = true
		s.offset += int64(base)
		return KindMore, base, nil
	}
	s.state = between
	s.fresh = s.mode == Document
	if s.closed {
		return s.found(KindTrailer, base+int(s.pos))
	}
	w := s.work
	w.el.Len = int(s.pos)
	if w.header {
		s.keepRoot(d)
		return s.found(KindHeader, base+w.el.Len)
	}
	return s.found(KindElement, base+w.el.Len)
}

func (s *Scanner) found(k Kind, n int) (Kind, int, error) {
	s.some = false
	s.offset += int64(n)
	return k, n, nil
}

// fail notes why the element pending cannot be accepted; at counts from its
// first octet.
func (s *Scanner) fail(condition, text string, at int) {
	s.err = &Error{Condition: condition, Text: text, Offset: int64(at)}
}

func (s *Scanner) failed(base int) (Kind, int, error) {
	s.err.Offset += s.offset + int64(base)
	s.release()
	return KindMore, 0, s.err
}

// prolog goes through what may stand between top-level elements. It returns the
// position of the octet that decides, and whether that needs more octets; if not
// an element begins there.
func (s *Scanner) prolog(d []byte) (i int, kind Kind, more bool) {
	if s.owed { // "<stream/>" is header and trailer in one
		s.owed, s.closed = false, true
		s.release()
		return 0, KindTrailer, false
	}
	for {
		for i < len(d) && isSpace(d[i]) { // RFC 6120 §11.7
			i++
			s.fresh = false
		}
		if i == len(d) {
			return i, KindMore, true
		}
		if d[i] != '<' {
			more = s.stray(d[i:])
			return i, KindMore, more
		}
		if i+1 == len(d) {
			return i, KindMore, true
		}
		switch d[i+1] {
		case '?':
			// XML §2.8: the declaration is the first thing in a document.
			if !s.fresh {
				s.fail(RestrictedXML, "processing instruction or second XML declaration", 0)
				return i, KindMore, false
			}
			n := s.declaration(d[i:])
			if s.err != nil || n == 0 {
				return i, KindMore, n == 0
			}
			i += n
			s.fresh = false
			continue
		case '!':
			if i+2 == len(d) {
				return i, KindMore, true
			}
			if d[i+2] == '[' {
				s.fail(s.strayCondition(), "CDATA section outside an element", 0)
			} else {
				s.fail(RestrictedXML, "comment or document type declaration", 0)
			}
			return i, KindMore, false
		case 0:
			if s.fresh {
				s.fail(UnsupportedEncoding, "not UTF-8", 1)
			} else {
				s.fail(NotWellFormed, "invalid name", 1)
			}
			return i, KindMore, false
		}
		switch {
		case s.closed:
			s.fail(NotWellFormed, "content after the end of the stream", 0)
		case d[i+1] == '/' && s.root == nil:
			s.fail(NotWellFormed, "end tag without start tag", 0)
		case d[i+1] == '/':
			name := s.root.name
			have := d[i+2 : min(len(d), i+2+len(name))]
			switch {
			case string(have) != name[:len(have)]:
				s.fail(NotWellFormed, "end tag does not match start tag", 2)
			case len(have) < len(name):
				return i, KindMore, true
			default:
				s.release()
				s.state, s.pos = inTrailer, uint32(2+len(name))
			}
		default:
			s.begin()
		}
		return i, KindMore, false
	}
}

// stray refuses the octet d[0] outside any element, unless it is the beginning
// of a sequence that needs more octets to be judged.
func (s *Scanner) stray(d []byte) (more bool) {
	c := d[0]
	switch {
	case s.fresh && (c == 0 || c >= 0xFE):
		// UTF-16 or UTF-32. A U+FEFF in UTF-8 is no byte order mark but a
		// character like any other (RFC 6120 §11.6).
		s.fail(UnsupportedEncoding, "not UTF-8", 0)
	case cut(d, 0):
		return true
	case c >= 0x80 && highLen(d, 0) > 0, c >= 0x20 && c < 0x80:
		s.fail(s.strayCondition(), "character data outside an element", 0)
	default:
		s.fail(NotWellFormed, "invalid character", 0)
	}
	return false
}

// strayCondition tells apart character data in the root, which is XML but not a
// stream (RFC 6120 §4.9.3.1), from character data outside the document's root.
func (s *Scanner) strayCondition() string {
	if s.root != nil && !s.closed {
		return BadFormat
	}
	return NotWellFormed
}

// trailer goes on behind the name of the root's end tag.
func (s *Scanner) trailer(d []byte) (done bool) {
	i := int(s.pos)
	for i < len(d) && isSpace(d[i]) {
		i++
	}
	s.pos = uint32(i)
	if i == len(d) {
		return false
	}
	if d[i] != '>' {
		s.fail(NotWellFormed, "end tag does not match start tag", i)
		return false
	}
	s.pos++
	s.closed = true
	return true
}

// begin starts a top-level element or the root's start tag.
func (s *Scanner) begin() {
	w := s.work
	if w == nil {
		w = workPool.Get().(*work)
		s.work = w
	}
	*w = work{
		el:     Element{Children: w.el.Children[:0]},
		attrs:  w.attrs[:0],
		decls:  w.decls[:0],
		frames: w.frames[:0],
		scope:  w.scope[:0],
		norm:   w.norm[:0],
		repl:   w.repl[:0],
		bound:  w.bound[:0],
		order:  w.order[:0],
		def:    inherited,
		header: s.mode == Stream && s.root == nil,
	}
	s.state, s.pos = inStart, 0
}
