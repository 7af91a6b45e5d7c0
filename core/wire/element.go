package wire

// Span is a range of octets, counted from the '<' of the top-level element.
type Span struct{ Start, End uint32 }

// Bytes returns the octets of sp in raw, the element's octets.
func (sp Span) Bytes(raw []byte) []byte { return raw[sp.Start:sp.End] }

// Str returns the octets of sp in raw, the element's octets.
func (sp Span) Str(raw string) string { return raw[sp.Start:sp.End] }

// Len returns the number of octets.
func (sp Span) Len() int { return int(sp.End - sp.Start) }

// Empty reports whether the span holds no octet.
func (sp Span) Empty() bool { return sp.Start == sp.End }

// Attr is one attribute of a start tag.
type Attr struct {
	Name   Span // qualified name
	Prefix Span // empty if none
	Local  Span
	Value  Span // raw, still escaped, without the quotes: see UnescapeAttr
}

// Decl is one namespace declaration of a start tag.
type Decl struct {
	Prefix Span // empty for the default namespace
	Name   Span // raw, as Element.Space
}

// Child is one direct child of a top-level element.
type Child struct {
	Start, End uint32 // '<' of its start tag to behind '>' of its end tag
	Local      Span
	Space      Span // as Element.Space
	Inherited  bool // as Element.Inherited
}

// Element is the index of a top-level element, or of a stream header. All spans
// count from its '<'. It is read-only and valid until the next call of Next.
type Element struct {
	Len           int // octets
	Prefix, Local Span

	// Space is the value of the declaration that gives the namespace, raw. In an
	// element that is not Foreign equal namespace names are equal octets,
	// spelled as AppendAttr does. It is empty for no namespace, for an Inherited
	// one, for the prefix xml, and where the prefix is declared outside (then
	// Foreign is set).
	Space Span
	// Inherited says that the namespace is the stream's default namespace, which
	// Scanner.DefaultSpace returns.
	Inherited bool

	Attrs    []Attr  // of the start tag, without namespace declarations, in order
	Decls    []Decl  // namespace declarations of the start tag, in order
	Inner    Span    // between start tag and end tag; empty in an empty-element tag
	Children []Child // direct children, in order
	Text     bool    // has character data other than white space directly in it

	// Foreign says that the octets cannot be forwarded as they are: a name in
	// them uses a prefix declared on the stream header, or a namespace
	// declaration is not spelled as AppendAttr does (it holds a reference or
	// white space, say). Scanner.Canonical gives the octets to use instead.
	Foreign bool
}
