package wire

// element goes on with the element whose '<' is d[0]. It reports whether the
// element, or the root's start tag, is complete; s.pos is then behind it.
// Otherwise s.err is set, or s.state and s.pos say where to go on.
func (s *Scanner) element(d []byte) (done bool) {
	w := s.work
	i := int(s.pos)
	st := s.state
	for {
		switch st {
		case inContent:
			if i < len(d) && d[i] != '<' {
				from := i
				i = scanText(d, i)
				if len(w.frames) == 1 && !w.el.Text {
					w.el.Text = solid(d[from:i])
				}
			}
			if i >= len(d) {
				return s.suspend(inContent, i)
			}
			switch c := d[i]; {
			case c == '<':
				if i+1 >= len(d) {
					return s.suspend(inContent, i)
				}
				switch d[i+1] {
				case '/':
					// Nearly every end tag is what it must be, and whole.
					name := w.frames[len(w.frames)-1].name
					end := i + 2 + name.Len()
					if end >= len(d) || d[end] != '>' || string(d[i+2:end]) != string(name.Bytes(d)) {
						st = inEnd
						continue
					}
					at := i
					if i = end + 1; w.pop(at, i) {
						s.pos = uint32(i)
						return true
					}
				case '!':
					const open = "<![CDATA["
					n := min(len(d)-i, len(open))
					switch {
					case n >= 3 && d[i+2] != '[':
						s.fail(RestrictedXML, "comment or document type declaration", i)
						return false
					case string(d[i:i+n]) != open[:n]:
						s.fail(NotWellFormed, "malformed CDATA section", i)
						return false
					case n < len(open):
						return s.suspend(inContent, i)
					}
					i += n
					st = inCDATA
				case '?':
					s.fail(RestrictedXML, "processing instruction", i)
					return false
				default:
					st = inStart
				}
			case c == '&':
				r, n := s.reference(d, i)
				if n == 0 {
					return s.suspend(inContent, i)
				}
				if len(w.frames) == 1 && !(r < 0x80 && isSpace(byte(r))) {
					w.el.Text = true
				}
				i += n
			case c == '>':
				s.fail(NotWellFormed, "]]> in character data", i)
				return false
			case cut(d, i):
				return s.suspend(inContent, i)
			default:
				s.fail(NotWellFormed, "invalid character", i)
				return false
			}

		case inCDATA:
			from := i
			i = scanCDATA(d, i)
			if len(w.frames) == 1 && !w.el.Text {
				w.el.Text = solid(d[from:i])
			}
			switch {
			case i >= len(d):
				return s.suspend(inCDATA, i)
			case d[i] == ']':
				if i+2 >= len(d) && string(d[i:]) == "]]"[:len(d)-i] {
					return s.suspend(inCDATA, i)
				}
				if d[i+1] == ']' && d[i+2] == '>' {
					i += 3
					st = inContent
					continue
				}
				if len(w.frames) == 1 {
					w.el.Text = true
				}
				i++
			case cut(d, i):
				return s.suspend(inCDATA, i)
			default:
				s.fail(NotWellFormed, "invalid character", i)
				return false
			}

		case inStart:
			name, ok := s.qualified(d, i+1)
			if !ok {
				return s.suspend(inStart, i)
			}
			if len(w.frames) >= int(s.lim.depth) {
				s.fail(PolicyViolation, "nested too deeply", i)
				return false
			}
			w.start, w.name = uint32(i), name
			w.attrBase = len(w.el.Attrs)
			w.scopeBase = len(w.scope)
			i = int(name.end)
			st = inTag
			fallthrough

		case inTag:
			for i < len(d) && isSpace(d[i]) {
				i++
			}
			if i >= len(d) {
				return s.suspend(inTag, i)
			}
			switch d[i] {
			case '>':
				i++
				if !s.open(d, i, false) {
					return false
				}
				if w.header {
					s.pos = uint32(i)
					return true
				}
				st = inContent
				continue
			case '/':
				if i+1 >= len(d) {
					return s.suspend(inTag, i)
				}
				if d[i+1] != '>' {
					s.fail(NotWellFormed, "malformed tag", i+1)
					return false
				}
				i += 2
				if !s.open(d, i, true) {
					return false
				}
				if len(w.frames) == 0 {
					s.pos = uint32(i)
					return true
				}
				st = inContent
				continue
			}
			if !isSpace(d[i-1]) {
				s.fail(NotWellFormed, "white space missing in tag", i)
				return false
			}
			name, ok := s.qualified(d, i)
			if !ok {
				return s.suspend(inTag, i)
			}
			w.attr = Attr{Name: Span{name.start, name.end}, Prefix: name.prefix(), Local: name.local()}
			if w.isDecl = isDecl(d, name); !w.isDecl {
				if len(w.attrs)-w.attrBase >= int(s.lim.attrs) {
					s.fail(PolicyViolation, "too many attributes", i)
					return false
				}
			} else if w.nsDecls++; w.nsDecls > s.lim.nsDecls {
				s.fail(PolicyViolation, "too many namespace declarations", i)
				return false
			}
			i = int(name.end)
			st = inEquals
			fallthrough

		case inEquals:
			for i < len(d) && isSpace(d[i]) {
				i++
			}
			if i >= len(d) {
				return s.suspend(inEquals, i)
			}
			if d[i] != '=' {
				s.fail(NotWellFormed, "attribute without value", i)
				return false
			}
			i++
			st = inQuote
			fallthrough

		case inQuote:
			for i < len(d) && isSpace(d[i]) {
				i++
			}
			if i >= len(d) {
				return s.suspend(inQuote, i)
			}
			if d[i] != '\'' && d[i] != '"' {
				s.fail(NotWellFormed, "attribute value without quotes", i)
				return false
			}
			w.quote = d[i]
			i++
			w.attr.Value.Start = uint32(i)
			st = inValue
			fallthrough

		case inValue:
			v := d
			if w.isDecl {
				if most := int(w.attr.Value.Start) + int(s.lim.nsName) + 1; len(v) > most {
					v = v[:most]
				}
			}
			i = scanValue(v, i, w.quote)
			switch {
			case i >= len(v):
				if len(v) < len(d) {
					s.fail(PolicyViolation, "namespace name too long", i)
					return false
				}
				return s.suspend(inValue, i)
			case v[i] == w.quote:
				w.attr.Value.End = uint32(i)
				i++
				if !w.isDecl {
					w.attrs = append(w.attrs, w.attr)
				} else if !s.declare(d) {
					return false
				}
				st = inTag
			case v[i] == '&':
				_, n := s.reference(d, i)
				if n == 0 {
					return s.suspend(inValue, i)
				}
				i += n
			case v[i] == '<':
				s.fail(NotWellFormed, "'<' in attribute value", i)
				return false
			case cut(d, i):
				return s.suspend(inValue, i)
			default:
				s.fail(NotWellFormed, "invalid character", i)
				return false
			}

		case inEnd:
			name := w.frames[len(w.frames)-1].name.Bytes(d)
			have := d[i+2 : min(len(d), i+2+len(name))]
			if string(have) != string(name[:len(have)]) {
				s.fail(NotWellFormed, "end tag does not match start tag", i)
				return false
			}
			if len(have) < len(name) {
				return s.suspend(inEnd, i)
			}
			w.start = uint32(i)
			i += 2 + len(name)
			st = inEndName
			fallthrough

		case inEndName:
			for i < len(d) && isSpace(d[i]) {
				i++
			}
			if i >= len(d) {
				return s.suspend(inEndName, i)
			}
			if d[i] != '>' {
				s.fail(NotWellFormed, "end tag does not match start tag", i)
				return false
			}
			i++
			if w.pop(int(w.start), i) {
				s.pos = uint32(i)
				return true
			}
			st = inContent
		}
	}
}

// suspend notes where to go on when more octets are there.
func (s *Scanner) suspend(st state, i int) (done bool) {
	s.state, s.pos = st, uint32(i)
	return false
}

// solid reports whether d holds anything but white space.
func solid(d []byte) bool {
	for _, c := range d {
		if !isSpace(c) {
			return true
		}
	}
	return false
}
