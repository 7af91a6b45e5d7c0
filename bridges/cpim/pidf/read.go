package pidf

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"

	"trivium/bridges/cpim/internal/datetime"
	"trivium/core/stanza"
	"trivium/core/wire"
)

// maxDepth is how deep elements may nest in a document.
const maxDepth = 16

// Options say what Parse accepts. The zero value is the default.
type Options struct {
	// Strict refuses what the schema of RFC 3863 §4.4 refuses. Otherwise the parts
	// of a document that break it are left out: tuples without an id or with that
	// of another, contacts' priorities, timestamps, values of <basic/>.
	Strict bool

	MaxBytes  int // 0: 65536
	MaxTuples int // 0: 64
}

// Parse reads a document in UTF-8, whatever encoding it declares: the media type's
// charset decides (RFC 3863 §4.1), and it is for the caller to look at it. A
// document type declaration is refused. The error is an *Error.
func Parse(text string, o Options) (*Presence, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 16
	}
	if o.MaxTuples == 0 {
		o.MaxTuples = 64
	}
	if len(text) > o.MaxBytes {
		return nil, &Error{Reason: "document too large", Err: ErrTooLarge}
	}
	text = strings.TrimPrefix(text, "\uFEFF")
	declared := strings.HasPrefix(text, "<?xml ")
	if declared {
		if i := strings.Index(text, "?>"); i >= 0 {
			text = text[i+2:]
		}
	} else if o.Strict {
		return nil, refuse("no XML declaration")
	}
	text, err := vouch(text)
	var se *wire.Error
	if errors.As(err, &se) && se.Condition == wire.RestrictedXML {
		// Comments and processing instructions, which XMPP does not have.
		if text, err = strip(text); err == nil {
			text, err = vouch(text)
		}
	}
	switch {
	case errors.As(err, &se) && se.Condition == wire.PolicyViolation:
		return nil, &Error{Reason: se.Text, Err: ErrTooLarge}
	case err != nil:
		return nil, &Error{Reason: "not well-formed", Err: err}
	}
	r := reader{d: wire.NewDecoder(text, ""), o: o}
	return r.document()
}

// vouch checks that text is one element, and returns it.
func vouch(text string) (string, error) {
	raw := []byte(text)
	var sc wire.Scanner
	sc.Reset(wire.Document, wire.Limits{Bytes: len(raw) + 1, Depth: maxDepth})
	defer sc.Reset(wire.Document, wire.Limits{}) // gives memory back
	kind, n, err := sc.Next(raw)
	if err != nil {
		return text, err
	}
	if kind != wire.KindElement || strings.Trim(text[n:], " \t\r\n") != "" {
		// Behind the element there may be a comment: let strip see it.
		return text, &wire.Error{Condition: wire.RestrictedXML, Text: "want one element"}
	}
	el := sc.Index()
	if el.Foreign { // the Decoder wants it spelled anew
		b, err := sc.Canonical(nil, raw[n-el.Len:n])
		return string(b), err
	}
	return text[n-el.Len : n], nil
}

// strip returns text without comments and processing instructions.
func strip(text string) (string, error) {
	d := xml.NewDecoder(strings.NewReader(text))
	var b strings.Builder
	for {
		start := d.InputOffset()
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return "", err
		}
		switch tok.(type) {
		case xml.Comment, xml.ProcInst:
		case xml.Directive:
			return "", errors.New("document type declaration")
		default:
			b.WriteString(text[start:d.InputOffset()])
		}
	}
}

// A reader is one run of Parse over text that a scanner has vouched for.
type reader struct {
	d *wire.Decoder
	o Options
}

// document reads the root: RFC 3863 §4.1.1.
func (r *reader) document() (*Presence, error) {
	root, err := r.d.Next()
	if err != nil {
		return nil, &Error{Reason: "not well-formed", Err: err}
	}
	if root.Name.Space != NS || root.Name.Local != "presence" {
		return nil, refuse("root is not <presence/> in the namespace of PIDF")
	}
	p := &Presence{Entity: attr(root, "entity")}
	if p.Entity == "" {
		return nil, refuse("no entity")
	}
	stage := 0
	err = r.children(func(tok wire.Token) error {
		switch {
		case tok.Name.Space != NS:
			if err := r.order(&stage, 2); err != nil {
				return err
			}
			p.Extensions = append(p.Extensions, r.tree(tok))
		case tok.Name.Local == "tuple":
			if err := r.order(&stage, 0); err != nil {
				return err
			}
			return r.tuple(p, tok)
		case tok.Name.Local == "note":
			if err := r.order(&stage, 1); err != nil {
				return err
			}
			p.Notes = append(p.Notes, r.note(tok))
		default:
			return r.unknown()
		}
		return nil
	})
	return p, err
}

// tuple reads a tuple: RFC 3863 §4.1.2.
func (r *reader) tuple(p *Presence, tok wire.Token) error {
	if len(p.Tuples) == r.o.MaxTuples {
		return &Error{Reason: "too many tuples", Err: ErrTooLarge}
	}
	t := Tuple{ID: attr(tok, "id")}
	stage, status := 0, false
	err := r.children(func(tok wire.Token) error {
		if tok.Name.Space != NS {
			t.Extensions = append(t.Extensions, r.tree(tok))
			return r.order(&stage, 1)
		}
		switch tok.Name.Local {
		case "status":
			if status {
				return r.again()
			}
			status = true
			if err := r.order(&stage, 0); err != nil {
				return err
			}
			return r.status(&t)
		case "contact":
			if t.Contact.URI != "" {
				return r.again()
			}
			if err := r.order(&stage, 2); err != nil {
				return err
			}
			return r.contact(&t.Contact, tok)
		case "note":
			t.Notes = append(t.Notes, r.note(tok))
			return r.order(&stage, 3)
		case "timestamp":
			if !t.Timestamp.IsZero() {
				return r.again()
			}
			if err := r.order(&stage, 4); err != nil {
				return err
			}
			var ok bool
			if t.Timestamp, ok = datetime.Parse(trim(r.text())); !ok && r.o.Strict {
				return refuse("malformed timestamp")
			}
			return nil
		}
		return r.unknown()
	})
	if err != nil {
		return err
	}
	empty := t.Basic == "" && t.Show == "" && t.IM == "" && len(t.Status) == 0
	if r.o.Strict && (empty || !IsNCName(t.ID)) {
		return refuse("tuple without a status or without a proper id")
	}
	twice := slices.ContainsFunc(p.Tuples, func(other Tuple) bool { return other.ID == t.ID })
	if r.o.Strict && twice {
		return refuse("two tuples of one id")
	}
	if empty || twice || t.ID == "" {
		p.LeftOut++
		return nil
	}
	p.Tuples = append(p.Tuples, t)
	return nil
}

// status reads a status: RFC 3863 §4.1.3.
func (r *reader) status(t *Tuple) error {
	stage, basic := 0, false
	return r.children(func(tok wire.Token) error {
		if tok.Name.Space == NS {
			if tok.Name.Local != "basic" {
				return r.unknown()
			}
			if basic {
				return r.again()
			}
			basic = true
			if err := r.order(&stage, 0); err != nil {
				return err
			}
			text := r.text()
			if !r.o.Strict {
				text = strings.ToLower(trim(text))
			}
			switch b := Basic(text); b {
			case Open, Closed:
				t.Basic = b
			default:
				if r.o.Strict {
					return refuse("basic status is neither open nor closed")
				}
			}
			return nil
		}
		stage = 1
		e := r.tree(tok)
		// RFC 3863 §4.2.3: with something inside that has to be understood these
		// two are not what they seem to be.
		switch {
		case t.Show == "" && e.Is(stanza.NSClient, "show") && !inside(e):
			if t.Show = trim(e.Text()); t.Show != "" {
				return nil
			}
		case t.IM == "" && e.Is(NSIM, "im") && !inside(e):
			if t.IM = trim(e.Text()); t.IM != "" {
				return nil
			}
		}
		t.Status = append(t.Status, e)
		return nil
	})
}

// inside tells whether something in e has to be understood.
func inside(e *stanza.Element) bool {
	for _, n := range e.Nodes {
		if n.El != nil && demanded(n.El) {
			return true
		}
	}
	return false
}

// contact reads a contact: RFC 3863 §4.1.5.
func (r *reader) contact(c *Contact, tok wire.Token) error {
	q := attr(tok, "priority")
	if q != "" {
		c.Priority, c.Ranked = qvalue(trim(q), r.o.Strict)
		if !c.Ranked && r.o.Strict {
			return refuse("priority is not between 0 and 1")
		}
	}
	if c.URI = trim(r.text()); c.URI == "" {
		*c = Contact{}
		if r.o.Strict {
			return refuse("empty contact")
		}
	}
	return nil
}

// qvalue reads a number from 0 to 1 in thousandths. More than three decimals are
// cut off; strict reading does not allow them.
func qvalue(s string, strict bool) (int, bool) {
	whole, decimals, point := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || strict && (len(decimals) > 3 || point && decimals == "") {
		return 0, false
	}
	n, unit := int(whole[0]-'0')*1000, 100
	for i := 0; i < len(decimals); i++ {
		d := int(decimals[i]) - '0'
		if d < 0 || d > 9 || d > 0 && whole == "1" {
			return 0, false
		}
		n += d * unit
		unit /= 10
	}
	return n, true
}

// note reads a note: RFC 3863 §4.1.6.
func (r *reader) note(tok wire.Token) Note {
	n := Note{}
	for _, a := range tok.Attrs {
		if a.Space == stanza.NSXML && a.Local == "lang" {
			n.Lang = a.Value
		}
	}
	n.Text = r.text()
	return n
}

// order refuses, in strict reading, an element that stands behind one of a later
// stage.
func (r *reader) order(stage *int, at int) error {
	if r.o.Strict && *stage > at {
		return refuse("elements in another order than the schema's")
	}
	*stage = max(*stage, at)
	return nil
}

// unknown skips an element in the namespace of PIDF that has no meaning there.
func (r *reader) unknown() error {
	if r.o.Strict {
		return refuse("unknown element in the namespace of PIDF")
	}
	r.skip()
	return nil
}

// again skips an element that may stand only once.
func (r *reader) again() error {
	if r.o.Strict {
		return refuse("element twice")
	}
	r.skip()
	return nil
}

// children calls f for each child of the element whose start tag was the last
// token. f has to read the child to its end.
func (r *reader) children(f func(wire.Token) error) error {
	for {
		tok, err := r.d.Next()
		if err != nil {
			return &Error{Reason: "not well-formed", Err: err}
		}
		switch tok.Kind {
		case wire.StartElement:
			if err := f(tok); err != nil {
				return err
			}
		case wire.EndElement, wire.EndOfInput:
			return nil
		}
	}
}

// text reads an element to its end and returns its own character data.
func (r *reader) text() string {
	s := ""
	for depth := 1; ; {
		tok, err := r.d.Next()
		if err != nil {
			return s
		}
		switch tok.Kind {
		case wire.StartElement:
			depth++
		case wire.EndElement:
			if depth--; depth == 0 {
				return s
			}
		case wire.Text:
			if depth == 1 {
				s += tok.Text
			}
		case wire.EndOfInput:
			return s
		}
	}
}

// skip reads an element to its end.
func (r *reader) skip() {
	for depth := 1; depth > 0; {
		tok, err := r.d.Next()
		if err != nil || tok.Kind == wire.EndOfInput {
			return
		}
		switch tok.Kind {
		case wire.StartElement:
			depth++
		case wire.EndElement:
			depth--
		}
	}
}

// tree reads an element to its end and returns it.
func (r *reader) tree(tok wire.Token) *stanza.Element {
	e := &stanza.Element{Space: tok.Name.Space, Local: tok.Name.Local}
	for _, a := range tok.Attrs {
		e.Attrs = append(e.Attrs, stanza.Attr{Space: a.Space, Local: a.Local, Value: a.Value})
	}
	for {
		tok, err := r.d.Next()
		if err != nil {
			return e
		}
		switch tok.Kind {
		case wire.StartElement:
			e.Add(r.tree(tok))
		case wire.Text:
			e.AddText(tok.Text)
		default:
			return e
		}
	}
}

func attr(tok wire.Token, name string) string {
	for i := range tok.Attrs {
		if a := &tok.Attrs[i]; a.Space == "" && a.Local == name {
			return a.Value
		}
	}
	return ""
}

func trim(s string) string { return strings.Trim(s, " \t\r\n") }
