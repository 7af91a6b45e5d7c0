package main

import (
	"bytes"
	"errors"
)

// errStreamClosed reports that the peer closed its stream element.
var errStreamClosed = errors.New("the server closed the stream")

// splitter cuts a stream of XMPP bytes into the top-level elements of the
// stream (RFC 6120 §11: stanzas and other first-level children). It trusts the
// server: it tracks tags and quotes, and checks nothing else. The stream header,
// which stays open, is returned as an element of its own.
//
// It serves the set-up of a session; the measured phases use counter, which is
// far cheaper. Not safe for concurrent use.
type splitter struct {
	buf   []byte
	scan  int // everything before it has been looked at
	start int // where the current top-level element begins
	depth int
}

// feed appends received bytes.
func (s *splitter) feed(p []byte) { s.buf = append(s.buf, p...) }

// next returns the next complete element, or false when more bytes are needed.
// The slice is valid until the following call of feed.
func (s *splitter) next() ([]byte, bool, error) {
	for {
		lt := bytes.IndexByte(s.buf[s.scan:], '<')
		if lt < 0 {
			s.scan = len(s.buf)
			if s.depth == 0 { // whitespace between stanzas
				s.reset(s.scan)
			}
			return nil, false, nil
		}
		tag := s.scan + lt
		if s.depth == 0 {
			s.start = tag
		}
		end := tagEnd(s.buf[tag:])
		if end < 0 {
			s.scan = tag
			return nil, false, nil
		}
		text := s.buf[tag : tag+end]
		s.scan = tag + end
		switch {
		case text[1] == '?':
			continue
		case text[1] == '/':
			s.depth--
			if s.depth < 0 {
				return nil, false, errStreamClosed
			}
		case text[len(text)-2] == '/':
		case s.depth == 0 && bytes.HasPrefix(text, []byte("<stream:stream")):
		default:
			s.depth++
			continue
		}
		if s.depth == 0 {
			element := s.buf[s.start:s.scan]
			s.reset(s.scan)
			return element, true, nil
		}
	}
}

// reset drops the first n bytes.
func (s *splitter) reset(n int) {
	s.buf, s.scan, s.start = s.buf[n:], 0, 0
}

// tagEnd returns the length of the tag at the start of p, or -1 when its '>' has
// not arrived. A '>' inside an attribute value does not end a tag.
func tagEnd(p []byte) int {
	var quote byte
	for i, c := range p {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return i + 1
		}
	}
	return -1
}

// attr returns the value of an attribute in the first tag of an element, "" when
// it is absent. Values are returned as they stand, entities included.
func attr(element []byte, name string) string {
	if end := tagEnd(element); end >= 0 {
		element = element[:end]
	}
	for rest := element; ; {
		i := bytes.Index(rest, []byte(name+"="))
		if i < 0 {
			return ""
		}
		value := rest[i+len(name)+1:]
		if i > 0 && isSpace(rest[i-1]) && len(value) > 1 && (value[0] == '"' || value[0] == '\'') {
			if end := bytes.IndexByte(value[1:], value[0]); end >= 0 {
				return string(value[1 : end+1])
			}
			return ""
		}
		rest = value
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// inner returns what stands between an element's first tag and its last.
func inner(element []byte) []byte {
	end := tagEnd(element)
	if end < 0 || (end > 1 && element[end-2] == '/') {
		return nil
	}
	last := bytes.LastIndex(element, []byte("</"))
	if last < end {
		return nil
	}
	return element[end:last]
}

// counter counts occurrences of an end tag in a byte stream that arrives in
// arbitrary pieces. The pattern may begin with '<' only, so matches never
// overlap. Not safe for concurrent use.
type counter struct {
	pattern []byte
	carry   []byte // the last len(pattern)-1 bytes seen, at most
}

func newCounter(pattern string) *counter {
	return &counter{pattern: []byte(pattern), carry: make([]byte, 0, 2*len(pattern))}
}

// count returns how many patterns end in p.
func (c *counter) count(p []byte) int {
	keep := len(c.pattern) - 1
	head := p
	if len(head) > keep {
		head = head[:keep]
	}
	joined := append(c.carry, head...)
	n := bytes.Count(joined, c.pattern)
	if len(p) > keep {
		n += bytes.Count(p, c.pattern)
		c.carry = append(c.carry[:0], p[len(p)-keep:]...)
		return n
	}
	if len(joined) > keep {
		joined = joined[:copy(joined, joined[len(joined)-keep:])]
	}
	c.carry = joined
	return n
}
