package wire

import (
	"errors"
	"strings"
)

// root is what a Scanner remembers of the stream header. All strings share one
// allocation.
type root struct {
	name, local string // qualified and local name
	space       string // namespace
	def         string // default namespace, the one that stanzas inherit
	decls       []rootDecl
}

// rootDecl is a declaration on the stream header other than the default
// namespace; name is normalised.
type rootDecl struct{ prefix, name string }

// keepRoot remembers the header that was scanned.
func (s *Scanner) keepRoot(d []byte) {
	w := s.work
	s.owed = len(w.frames) == 0
	scope := w.scope
	if s.owed {
		scope = scope[:len(w.decls)] // open has dropped them
	}
	var sb strings.Builder
	size := w.name.length()
	for k := range scope {
		size += scope[k].prefix.Len() + len(w.value(d, &scope[k]))
	}
	sb.Grow(size)
	take := func(b []byte) string {
		start := sb.Len()
		sb.Write(b)
		return sb.String()[start:]
	}
	r := &root{name: take(d[w.name.start:w.name.end])}
	r.local = r.name[len(r.name)-w.el.Local.Len():]
	prefix := ""
	if !w.el.Prefix.Empty() {
		prefix = r.name[:w.el.Prefix.Len()]
	}
	for k := range scope {
		decl := rootDecl{take(scope[k].prefix.Bytes(d)), take(w.value(d, &scope[k]))}
		if decl.prefix == prefix {
			r.space = decl.name
		}
		if decl.prefix == "" {
			r.def = decl.name
		} else {
			r.decls = append(r.decls, decl)
		}
	}
	if prefix == "xml" {
		r.space = xmlNS
	}
	s.root = r
}

func (q qname) length() int { return int(q.end - q.start) }

// errNoElement is returned by Canonical when there is no element to write.
var errNoElement = errors.New("wire: Canonical needs the element that Next has just returned")

// Canonical appends the element that Next has just returned, whose octets are
// raw, with every prefix in use declared inside it, the inherited default
// namespace declared too, and namespace names spelled as AppendAttr does. A
// Document scanner finds the same expanded names in it, and finds it not
// Foreign. It must be called before the next call of Next; the only error is
// that there is no such element.
func (s *Scanner) Canonical(dst []byte, raw []byte) ([]byte, error) {
	el := s.Index()
	if el == nil || s.work.header || len(raw) != el.Len {
		return dst, errNoElement
	}
	w := s.work
	at := uint32(0)
	copyTo := func(end uint32) {
		dst = append(dst, raw[at:end]...)
		at = end
	}
	copyTo(w.nameEnd())
	if s.root != nil {
		if s.root.def != "" && !declares(el, raw, "") {
			dst = appendDecl(dst, "", s.root.def)
		}
		for k, decl := range s.root.decls {
			if w.outer>>min(k, 63)&1 == 1 && !declares(el, raw, decl.prefix) {
				dst = appendDecl(dst, decl.prefix, decl.name)
			}
		}
	}
	for _, f := range w.repl {
		copyTo(f.raw.Start)
		dst = appendEscaped(dst, f.norm.Bytes(w.norm), true)
		at = f.raw.End
	}
	copyTo(uint32(len(raw)))
	return dst, nil
}

// nameEnd returns where the name of the top-level element ends.
func (w *work) nameEnd() uint32 { return w.el.Local.End }

func declares(el *Element, raw []byte, prefix string) bool {
	for k := range el.Decls {
		if string(el.Decls[k].Prefix.Bytes(raw)) == prefix {
			return true
		}
	}
	return false
}

func appendDecl(dst []byte, prefix, name string) []byte {
	dst = append(dst, " xmlns"...)
	if prefix != "" {
		dst = append(dst, ':')
		dst = append(dst, prefix...)
	}
	dst = append(dst, `='`...)
	dst = AppendAttr(dst, name)
	return append(dst, '\'')
}
