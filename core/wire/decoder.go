package wire

import (
	"errors"
	"strings"
)

// TokenKind says what a Decoder stands at.
type TokenKind uint8

const (
	// EndOfInput follows the last token.
	EndOfInput TokenKind = iota
	// StartElement is a start tag, or the first half of an empty-element tag.
	StartElement
	// EndElement is an end tag, or the second half of an empty-element tag.
	EndElement
	// Text is character data, all that lies between two tags.
	Text
)

// Name is a resolved name.
type Name struct {
	Space  string // namespace name, empty for none
	Local  string
	Prefix string // as written, empty if none
}

// TokenAttr is a resolved attribute.
type TokenAttr struct {
	Name
	Value string // decoded and normalised
}

// TokenDecl is a namespace declaration.
type TokenDecl struct {
	Prefix string // empty for the default namespace
	Name   string // decoded
}

// Token is one step through an element.
type Token struct {
	Kind  TokenKind
	Name  Name        // of StartElement and EndElement
	Attrs []TokenAttr // of StartElement, without declarations; valid until the next call
	Decls []TokenDecl // of StartElement; valid until the next call
	Text  string      // of Text: decoded, CDATA sections merged, never empty
	Start int         // offset of the token's first octet in the input
	End   int         // offset behind its last octet
}

// Decoder turns octets that a Scanner has vouched for into tokens: a whole
// element or the inside of one. Strings it returns share the input where nothing
// has to be decoded. It is for building trees, not for the way of a stanza that
// only passes through, and must not be used by several goroutines at a time.
type Decoder struct {
	in    string
	pos   int
	open  []openElement
	scope []TokenDecl
	attrs []TokenAttr
	raw   []rawAttr // of the current tag
	empty bool      // the end of an empty-element tag is due

	room struct { // what most input needs of the slices
		open  [4]openElement
		scope [4]TokenDecl
		attrs [4]TokenAttr
		raw   [4]rawAttr
	}
}

// rawAttr is an attribute as written.
type rawAttr struct{ name, value string }

type openElement struct {
	name  Name
	scope int // declarations before it
}

// NewDecoder returns a Decoder for in. Names without a prefix that in does not
// declare otherwise are in the default namespace space; scope holds further
// declarations in force around in, innermost last.
func NewDecoder(in, space string, scope ...TokenDecl) *Decoder {
	d := &Decoder{in: in}
	d.open, d.scope, d.attrs, d.raw = d.room.open[:0], d.room.scope[:0], d.room.attrs[:0], d.room.raw[:0]
	d.scope = append(append(d.scope, TokenDecl{Name: space}), scope...)
	return d
}

// errDecode means that the input was never vouched for by a Scanner.
var errDecode = errors.New("wire: octets that no scanner has accepted")

// Depth returns how many elements are open.
func (d *Decoder) Depth() int { return len(d.open) }

// Next returns the next token. The error is nil for input that a Scanner has
// accepted, Foreign elements excepted: those need Scanner.Canonical first.
func (d *Decoder) Next() (Token, error) {
	if d.empty {
		d.empty = false
		return d.end(d.pos), nil
	}
	if d.pos == len(d.in) {
		if len(d.open) > 0 {
			return Token{}, errDecode
		}
		return Token{Kind: EndOfInput, Start: d.pos, End: d.pos}, nil
	}
	rest := d.in[d.pos:]
	switch {
	case strings.HasPrefix(rest, "</"):
		size := strings.IndexByte(rest, '>')
		if size < 0 || len(d.open) == 0 {
			return Token{}, errDecode
		}
		start := d.pos
		d.pos += size + 1
		name := d.open[len(d.open)-1].name
		if written := strings.TrimRight(rest[2:size], " \t\r\n"); written != name.qualified() {
			return Token{}, errDecode
		}
		return d.end(start), nil
	case rest[0] == '<' && !strings.HasPrefix(rest, cdataOpen):
		return d.start()
	}
	return d.text()
}

const (
	cdataOpen  = "<![CDATA["
	cdataClose = "]]>"
)

func (n Name) qualified() string {
	if n.Prefix == "" {
		return n.Local
	}
	return n.Prefix + ":" + n.Local
}

func (d *Decoder) end(start int) Token {
	top := len(d.open) - 1
	e := d.open[top]
	d.open = d.open[:top]
	d.scope = d.scope[:e.scope]
	return Token{Kind: EndElement, Name: e.name, Start: start, End: d.pos}
}

// text reads character data up to the next tag. Most of it is one run.
func (d *Decoder) text() (Token, error) {
	start := d.pos
	var first string
	var merged []byte
	for runs := 0; d.pos < len(d.in); {
		rest := d.in[d.pos:]
		var run string
		switch {
		case rest[0] != '<':
			size := strings.IndexByte(rest, '<')
			if size < 0 {
				size = len(rest)
			}
			d.pos += size
			run = Unescape(rest[:size])
		case strings.HasPrefix(rest, cdataOpen):
			size := strings.Index(rest, cdataClose)
			if size < 0 {
				return Token{}, errDecode
			}
			d.pos += size + len(cdataClose)
			run = lineEnds(rest[len(cdataOpen):size])
		default:
			rest = ""
		}
		if rest == "" {
			break
		}
		if run == "" {
			continue
		}
		switch runs++; runs {
		case 1:
			first = run
		case 2:
			merged = append(append(merged, first...), run...)
		default:
			merged = append(merged, run...)
		}
	}
	if merged != nil {
		first = string(merged)
	}
	if first == "" { // an empty CDATA section
		return d.Next()
	}
	return Token{Kind: Text, Text: first, Start: start, End: d.pos}, nil
}

// lineEnds normalises the line ends of a CDATA section (XML §2.11).
func lineEnds(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// start reads a start tag.
func (d *Decoder) start() (Token, error) {
	start := d.pos
	i := start + 1
	size := nameLen(d.in[i:])
	name := d.in[i : i+size]
	i += size
	d.raw, d.attrs = d.raw[:0], d.attrs[:0]
	before := len(d.scope)
	for {
		i += spaceLen(d.in[i:])
		switch rest := d.in[i:]; {
		case strings.HasPrefix(rest, ">"):
			i++
		case strings.HasPrefix(rest, "/>"):
			i += 2
			d.empty = true
		default:
			attr, n := readAttr(rest)
			if n == 0 {
				return Token{}, errDecode
			}
			i += n
			switch {
			case attr.name == "xmlns":
				d.scope = append(d.scope, TokenDecl{"", UnescapeAttr(attr.value)})
			case strings.HasPrefix(attr.name, "xmlns:"):
				d.scope = append(d.scope, TokenDecl{attr.name[len("xmlns:"):], UnescapeAttr(attr.value)})
			default:
				d.raw = append(d.raw, attr)
			}
			continue
		}
		break
	}
	d.pos = i
	el, ok := d.resolve(name, true)
	for _, a := range d.raw {
		n, bound := d.resolve(a.name, false)
		ok = ok && bound
		d.attrs = append(d.attrs, TokenAttr{n, UnescapeAttr(a.value)})
	}
	if !ok {
		return Token{}, errDecode
	}
	d.open = append(d.open, openElement{el, before})
	return Token{Kind: StartElement, Name: el, Attrs: d.attrs, Decls: d.scope[before:], Start: start, End: i}, nil
}

// resolve splits a qualified name and finds its namespace. A name without prefix
// is in the default namespace if it is an element's.
func (d *Decoder) resolve(qualified string, element bool) (Name, bool) {
	prefix, local, found := strings.Cut(qualified, ":")
	if !found {
		if !element {
			return Name{Local: qualified}, qualified != ""
		}
		prefix, local = "", qualified
	}
	for k := len(d.scope) - 1; k >= 0; k-- {
		if d.scope[k].Prefix == prefix {
			return Name{Space: d.scope[k].Name, Local: local, Prefix: prefix}, local != ""
		}
	}
	return Name{Space: xmlNS, Local: local, Prefix: prefix}, prefix == "xml" && local != ""
}

// readAttr reads name, '=' and quoted value at the start of s and returns the
// octets they take.
func readAttr(s string) (attr rawAttr, n int) {
	n = nameLen(s)
	attr.name = s[:n]
	n += spaceLen(s[n:])
	if n == 0 || n == len(s) || s[n] != '=' {
		return attr, 0
	}
	n++
	n += spaceLen(s[n:])
	if n == len(s) || s[n] != '"' && s[n] != '\'' {
		return attr, 0
	}
	size := strings.IndexByte(s[n+1:], s[n])
	if size < 0 {
		return attr, 0
	}
	attr.value = s[n+1 : n+1+size]
	return attr, n + size + 2
}

// nameLen returns how many octets come before one that ends a name.
func nameLen(s string) int {
	for i := range len(s) {
		switch s[i] {
		case ' ', '\t', '\r', '\n', '=', '/', '>', '<', '\'', '"':
			return i
		}
	}
	return len(s)
}

func spaceLen(s string) int {
	i := 0
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	return i
}
