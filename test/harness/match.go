package harness

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Vars are what a transcript has captured by name.
type Vars map[string]string

// Match compares an element with a pattern and returns how they differ, "" if
// they do not. Attributes may come in any order, payloads may not. In a pattern
//
//   - the value "*" of an attribute, or as text, stands for anything;
//   - the value "{name}" stands for anything the first time and for the same
//     from then on;
//   - _children='any-order' says that the children of this element may come in
//     any order, and _children='some' that there may be others besides, but none
//     like a child of the pattern that has the attribute _not;
//   - _attributes='some' says that this element may have other attributes;
//   - <_/> stands for an element of any name in its namespace.
//
// The <text/> and the 'by' of an error are optional (RFC 6120 §8.3.2): they are
// compared only where the pattern has them.
func (v Vars) Match(want, got *Node) string {
	if want.Name != got.Name && (want.Name.Local != "_" || want.Name.Space != got.Name.Space) {
		return fmt.Sprintf("{%s}%s is not {%s}%s", got.Name.Space, got.Name.Local, want.Name.Space, want.Name.Local)
	}
	mode, more := "", false
	isError := want.Name.Local == "error"
	for _, a := range want.Attrs {
		if a.Name.Local == "_children" {
			mode = a.Value
			continue
		}
		if a.Name.Local == "_attributes" {
			if more = a.Value == "some"; !more {
				return fmt.Sprintf("pattern: _attributes=%q", a.Value)
			}
			continue
		}
		value, ok := got.lookup(a.Name)
		if !ok {
			return fmt.Sprintf("<%s/> has no %s", got.Name.Local, a.Name.Local)
		}
		if !v.value(a.Value, value) {
			return fmt.Sprintf("<%s/> has %s=%q, not %q", got.Name.Local, a.Name.Local, value, v.fill(a.Value))
		}
	}
	for _, a := range got.Attrs {
		if more || isError && a.Name.Local == "by" {
			continue
		}
		if _, ok := want.lookup(a.Name); !ok {
			return fmt.Sprintf("<%s/> has %s=%q", got.Name.Local, a.Name.Local, a.Value)
		}
	}
	if !v.value(want.text(), got.text()) {
		return fmt.Sprintf("<%s/> holds %q, not %q", got.Name.Local, got.text(), v.fill(want.text()))
	}
	children := got.Children
	if isError && !hasText(want.Children) {
		children = nil
		for _, c := range got.Children {
			if !isText(c) {
				children = append(children, c)
			}
		}
	}
	switch mode {
	case "":
		for i, w := range want.Children {
			if i >= len(children) {
				return fmt.Sprintf("<%s/> has no <%s/>", got.Name.Local, w.Name.Local)
			}
			if d := v.Match(w, children[i]); d != "" {
				return d
			}
		}
		if len(children) > len(want.Children) {
			return fmt.Sprintf("<%s/> has <%s/> besides", got.Name.Local, children[len(want.Children)].Name.Local)
		}
		return ""
	case "any-order":
		if len(children) != len(want.Children) {
			return fmt.Sprintf("<%s/> has %d children, not %d", got.Name.Local, len(children), len(want.Children))
		}
	case "some":
	default:
		return fmt.Sprintf("pattern: _children=%q", mode)
	}
	left := append([]*Node(nil), children...)
	for _, w := range want.Children {
		if w, not := without(w, "_not"); not {
			if i := maps.Clone(v).find(w, left); i >= 0 {
				return fmt.Sprintf("<%s/> has %s", got.Name.Local, left[i])
			}
			continue
		}
		i := v.find(w, left)
		if i < 0 {
			return fmt.Sprintf("<%s/> has no %s", got.Name.Local, w)
		}
		left = append(left[:i], left[i+1:]...)
	}
	return ""
}

// without returns n without an attribute, and whether it had it.
func without(n *Node, attr string) (*Node, bool) {
	i := slices.IndexFunc(n.Attrs, func(a xml.Attr) bool { return a.Name.Local == attr })
	if i < 0 {
		return n, false
	}
	c := *n
	c.Attrs = slices.Delete(slices.Clone(n.Attrs), i, i+1)
	return &c, true
}

// find returns the first element that matches, or -1.
func (v Vars) find(want *Node, among []*Node) int {
	for i, got := range among {
		try := maps.Clone(v)
		if try.Match(want, got) == "" {
			maps.Copy(v, try) // what it captured
			return i
		}
	}
	return -1
}

func isText(n *Node) bool {
	return n.Name.Local == "text" && (n.Name.Space == NSStanzas || n.Name.Space == NSStreams)
}

func hasText(children []*Node) bool {
	for _, c := range children {
		if isText(c) {
			return true
		}
	}
	return false
}

// value compares one value with its pattern and captures.
func (v Vars) value(want, got string) bool {
	if want == "*" {
		return true
	}
	name, ok := variable(want)
	if !ok {
		return want == got
	}
	if have, bound := v[name]; bound {
		return have == got
	}
	v[name] = got
	return true
}

// fill replaces the captured names in a text.
func (v Vars) fill(text string) string {
	for name, value := range v {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

// variable tells whether a value is {name}.
func variable(s string) (string, bool) {
	if len(s) < 3 || s[0] != '{' || s[len(s)-1] != '}' {
		return "", false
	}
	name := s[1 : len(s)-1]
	return name, strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}
