// Package rsm reads requests for pages of a result set and writes what goes with
// a page: XEP-0059.
//
//spec:xep-0059 1.0 complete | Result Set Management | requests and answers; which results are paged is said by each feature
package rsm

import (
	"strconv"
	"strings"

	"trivium/core/stanza"
)

// NS is the namespace of XEP-0059.
const NS = "http://jabber.org/protocol/rsm"

// Request asks for one page. The zero Request asks for the first one, as long as
// the responding entity likes.
type Request struct {
	// Max is how many items the page may have at most (§2.1); 0 asks for their
	// number alone (§2.7). It counts when HasMax is true.
	Max    int
	HasMax bool
	// After asks for the page behind the item with this id (§2.2), empty: none.
	After string
	// Backwards asks for the page in front of the item with the id Before (§2.3),
	// or for the last page when that is empty (§2.5).
	Backwards bool
	Before    string
	// Index asks for the page that begins at this position (§2.6), when HasIndex is
	// true.
	Index    int
	HasIndex bool
}

// Parse reads <set/>. A nil element is the zero Request. The error is a
// *stanza.Error of condition bad-request: a number that is none, or more than one
// place to begin.
func Parse(set *stanza.Element) (Request, error) {
	var r Request
	if set == nil {
		return r, nil
	}
	if !set.Is(NS, "set") {
		return r, stanza.Err(stanza.BadRequest, "want a <set/> of "+NS)
	}
	var err error
	if r.Max, r.HasMax, err = number(set, "max"); err != nil {
		return Request{}, err
	}
	if r.Index, r.HasIndex, err = number(set, "index"); err != nil {
		return Request{}, err
	}
	r.After = set.ChildText(NS, "after")
	if b := set.Child(NS, "before"); b != nil {
		r.Backwards, r.Before = true, b.Text()
	}
	places := 0
	for _, there := range [...]bool{r.After != "", r.Backwards, r.HasIndex} {
		if there {
			places++
		}
	}
	if places > 1 { // not defined by XEP-0059, see XEP-0313 §5.2
		return Request{}, stanza.Err(stanza.BadRequest, "a page begins in one place")
	}
	return r, nil
}

// Find reads the first <set/> among the children of e, which may have none.
func Find(e *stanza.Element) (Request, error) { return Parse(e.Child(NS, "set")) }

// number reads an xs:int that cannot be negative.
func number(set *stanza.Element, name string) (n int, there bool, err error) {
	e := set.Child(NS, name)
	if e == nil {
		return 0, false, nil
	}
	v, err := strconv.ParseInt(strings.TrimSpace(e.Text()), 10, 32)
	if err != nil || v < 0 {
		return 0, false, stanza.Err(stanza.BadRequest, "<"+name+"/> is not a number")
	}
	return int(v), true, nil
}

// Limit is how many items a page gets: what was asked for, at most most, and def
// when nothing was.
func (r Request) Limit(def, most int) int {
	if !r.HasMax {
		return min(def, most)
	}
	return min(r.Max, most)
}

// Page is what an answer tells of the page in it. First and Last are the ids of
// its items, both empty when it has none.
type Page struct {
	First, Last string
	// Index is the position of the first item in the whole result set and Count the
	// number of items there; they are told when HasIndex and HasCount are true. Both
	// may be approximate (§2.2).
	Index    int
	HasIndex bool
	Count    int
	HasCount bool
}

// AppendXML implements stanza.Payload.
func (p Page) AppendXML(dst []byte) []byte { return p.Element().AppendXML(dst) }

// Element returns the page's <set/>.
func (p Page) Element() *stanza.Element {
	set := stanza.El(NS, "set")
	if p.First != "" { // §2.2: an empty page has neither
		first := stanza.TextEl(NS, "first", p.First)
		if p.HasIndex {
			first.Set("index", strconv.Itoa(p.Index))
		}
		set.Add(first, stanza.TextEl(NS, "last", p.Last))
	}
	if p.HasCount {
		set.Add(stanza.TextEl(NS, "count", strconv.Itoa(p.Count)))
	}
	return set
}
