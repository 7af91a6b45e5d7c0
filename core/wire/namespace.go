package wire

import (
	"bytes"
	"slices"
)

const (
	xmlNS   = "http://www.w3.org/XML/1998/namespace"
	xmlnsNS = "http://www.w3.org/2000/xmlns/"
)

// What a prefix can be bound to besides a binding in scope, whose index is not
// negative. Smaller values, down from bindRoot, are declarations of the root.
const (
	inherited   int32 = -1 // the default namespace outside the element
	bindXML     int32 = -2
	bindUnbound int32 = -3
	bindRoot    int32 = -4
)

// binding is a namespace declaration in scope.
type binding struct {
	prefix Span
	name   Span // raw
	norm   Span // in work.norm: the normalised value, unless plain
	plain  bool // raw is spelled as AppendAttr does
}

// fix is a namespace name that Canonical spells anew.
type fix struct{ raw, norm Span }

// isDecl reports whether an attribute of that name declares a namespace.
func isDecl(d []byte, q qname) bool {
	n := q.end - q.start
	return n >= 5 && d[q.start] == 'x' && string(d[q.start:q.start+5]) == "xmlns" && (n == 5 || q.colon == q.start+5)
}

// declare checks the namespace declaration in work.attr and puts it in scope.
func (s *Scanner) declare(d []byte) bool {
	w := s.work
	b := binding{name: w.attr.Value}
	if !w.attr.Prefix.Empty() {
		b.prefix = w.attr.Local
	}
	raw := b.name.Bytes(d)
	if b.plain = bare(raw); !b.plain {
		start := len(w.norm)
		w.norm = appendUnescaped(w.norm, raw, true)
		b.norm = Span{uint32(start), uint32(len(w.norm))}
		end := len(w.norm)
		w.norm = appendEscaped(w.norm, w.norm[start:end], true)
		b.plain = string(w.norm[end:]) == string(raw)
		w.norm = w.norm[:end]
		if !b.plain {
			w.el.Foreign = true
			w.repl = append(w.repl, fix{b.name, b.norm})
		}
	}
	at := int(w.attr.Name.Start)
	prefix, name := b.prefix.Bytes(d), w.value(d, &b)
	// Namespaces in XML §3, Reserved Prefixes and Namespace Names, and §5, No
	// Prefix Undeclaring.
	switch {
	case string(prefix) == "xmlns":
		s.fail(NotWellFormed, "prefix xmlns declared", at)
	case (string(prefix) == "xml") != (string(name) == xmlNS):
		s.fail(NotWellFormed, "prefix xml or its namespace bound otherwise", at)
	case string(name) == xmlnsNS:
		s.fail(NotWellFormed, "namespace of xmlns bound", at)
	case len(prefix) > 0 && len(name) == 0:
		s.fail(NotWellFormed, "prefix undeclared", at)
	}
	if s.err != nil {
		return false
	}
	for k := w.scopeBase; k < len(w.scope); k++ {
		if string(w.scope[k].prefix.Bytes(d)) == string(prefix) {
			s.fail(NotWellFormed, "namespace declaration repeated", at)
			return false
		}
	}
	w.scope = append(w.scope, b)
	return true
}

// value returns the namespace name that b declares, normalised.
func (w *work) value(d []byte, b *binding) []byte {
	if b.norm.Empty() {
		return b.name.Bytes(d)
	}
	return b.norm.Bytes(w.norm)
}

// resolve returns what a prefix is bound to.
func (s *Scanner) resolve(d []byte, prefix Span) int32 {
	w := s.work
	p := prefix.Bytes(d)
	for k := len(w.scope) - 1; k >= 0; k-- {
		if string(w.scope[k].prefix.Bytes(d)) == string(p) {
			return int32(k)
		}
	}
	if string(p) == "xml" {
		return bindXML
	}
	if s.root != nil {
		for k := range s.root.decls {
			if s.root.decls[k].prefix == string(p) {
				w.el.Foreign = true
				w.outer |= 1 << min(k, 63)
				return bindRoot - int32(k)
			}
		}
	}
	return bindUnbound
}

// space returns the namespace name that resolve has found, normalised.
func (s *Scanner) space(d []byte, bound int32) []byte {
	switch {
	case bound >= 0:
		return s.work.value(d, &s.work.scope[bound])
	case bound == inherited:
		return octets(s.DefaultSpace())
	case bound == bindXML:
		return []byte(xmlNS)
	case bound <= bindRoot:
		return octets(s.root.decls[bindRoot-bound].name)
	}
	return nil
}

// open ends the start tag in work, whose '>' is before d[end]: its namespaces
// are resolved and its attributes compared. It is false when s.err is set.
func (s *Scanner) open(d []byte, end int, empty bool) bool {
	w := s.work
	depth := len(w.frames)
	before := w.def
	for k := w.scopeBase; k < len(w.scope); k++ {
		if w.scope[k].prefix.Empty() {
			w.def = int32(k)
		}
	}
	bound := w.def
	if w.name.colon != w.name.start {
		bound = s.resolve(d, w.name.prefix())
		if bound == bindUnbound { // also the prefix xmlns, Namespaces in XML §3
			s.fail(NotWellFormed, "prefix not bound", int(w.name.start))
			return false
		}
	}
	if len(w.attrs) > w.attrBase && !s.unique(d, w.attrs[w.attrBase:]) {
		return false
	}
	switch depth {
	case 0:
		el := &w.el
		el.Prefix, el.Local = w.name.prefix(), w.name.local()
		el.Space, el.Inherited = s.visible(bound)
		el.Attrs = w.attrs
		w.decls = w.decls[:0]
		for k := range w.scope {
			w.decls = append(w.decls, Decl{w.scope[k].prefix, w.scope[k].name})
		}
		el.Decls = w.decls
		el.Inner = Span{uint32(end), uint32(end)}
		if s.root != nil && string(el.Local.Bytes(d)) == s.root.local && string(s.space(d, bound)) == s.root.space {
			// It would swallow the rest of the stream.
			s.fail(UnsupportedStanzaType, "stream header within the stream", 0)
			return false
		}
	case 1:
		if len(w.el.Children) >= int(s.lim.children) {
			s.fail(PolicyViolation, "too many children", int(w.start))
			return false
		}
		c := Child{Start: w.start, End: uint32(end), Local: w.name.local()}
		c.Space, c.Inherited = s.visible(bound)
		w.el.Children = append(w.el.Children, c)
		w.attrs = w.attrs[:w.attrBase]
	default:
		w.attrs = w.attrs[:w.attrBase]
	}
	if empty {
		w.scope = w.scope[:w.scopeBase]
		w.def = before
		return true
	}
	w.frames = append(w.frames, frame{Span{w.name.start, w.name.end}, int32(w.scopeBase), before})
	return true
}

// pop ends the innermost open element, whose end tag is d[at:end]. It reports
// whether that was the top-level one.
func (w *work) pop(at, end int) bool {
	top := len(w.frames) - 1
	f := w.frames[top]
	w.frames = w.frames[:top]
	w.scope = w.scope[:f.scope]
	w.def = f.def
	switch top {
	case 0:
		w.el.Inner.End = uint32(at)
		return true
	case 1:
		w.el.Children[len(w.el.Children)-1].End = uint32(end)
	}
	return false
}

// visible returns how an Element or Child shows what resolve has found.
func (s *Scanner) visible(bound int32) (space Span, outside bool) {
	if bound >= 0 {
		return s.work.scope[bound].name, false
	}
	return Span{}, bound == inherited && s.root != nil
}

// few attributes are compared each with each; more are sorted first.
const few = 16

// unique checks that prefixes of attributes are bound and that no two attributes
// of a start tag have the same expanded name (Namespaces in XML §6.3).
func (s *Scanner) unique(d []byte, attrs []Attr) bool {
	w := s.work
	w.bound = w.bound[:0]
	for k := range attrs {
		b := inherited // no prefix, no namespace
		if !attrs[k].Prefix.Empty() {
			if b = s.resolve(d, attrs[k].Prefix); b == bindUnbound {
				s.fail(NotWellFormed, "prefix not bound", int(attrs[k].Name.Start))
				return false
			}
		}
		w.bound = append(w.bound, b)
	}
	if len(attrs) <= few {
		for k := 1; k < len(attrs); k++ {
			local := attrs[k].Local.Bytes(d)
			for j := range k {
				if string(attrs[j].Local.Bytes(d)) == string(local) && s.sameSpace(d, w.bound[j], w.bound[k]) {
					s.fail(NotWellFormed, "attribute repeated", int(attrs[k].Name.Start))
					return false
				}
			}
		}
		return true
	}
	w.order = w.order[:0]
	for k := range attrs {
		w.order = append(w.order, int32(k))
	}
	slices.SortFunc(w.order, func(a, b int32) int {
		if c := bytes.Compare(attrs[a].Local.Bytes(d), attrs[b].Local.Bytes(d)); c != 0 {
			return c
		}
		if w.bound[a] == w.bound[b] {
			return 0
		}
		return bytes.Compare(s.attrSpace(d, w.bound[a]), s.attrSpace(d, w.bound[b]))
	})
	repeated := int32(-1)
	for k := 1; k < len(w.order); k++ {
		a, b := w.order[k-1], w.order[k]
		if string(attrs[a].Local.Bytes(d)) == string(attrs[b].Local.Bytes(d)) && s.sameSpace(d, w.bound[a], w.bound[b]) {
			repeated = max(repeated, a, b)
		}
	}
	if repeated >= 0 {
		s.fail(NotWellFormed, "attribute repeated", int(attrs[repeated].Name.Start))
		return false
	}
	return true
}

// attrSpace is space for an attribute: no prefix means no namespace.
func (s *Scanner) attrSpace(d []byte, bound int32) []byte {
	if bound == inherited {
		return nil
	}
	return s.space(d, bound)
}

func (s *Scanner) sameSpace(d []byte, a, b int32) bool {
	return a == b || string(s.attrSpace(d, a)) == string(s.attrSpace(d, b))
}
