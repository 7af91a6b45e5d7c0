package jid

import (
	"fmt"
	"strings"
)

// Pattern says which addresses something covers. The zero Pattern covers none.
// Patterns are comparable and safe for concurrent use. Their texts:
//
//   - "example.org": the domain and every address at it;
//   - "juliet@example.org": a bare address and its resources;
//   - "juliet@example.org/balcony": one full address;
//   - "+49*@sms.example.org": the bare addresses whose localpart fits, and their
//     resources. A star stands for any characters, none among them, and may come
//     several times.
//
// A star cannot stand in the domain nor in the resource.
type Pattern struct {
	text string // in normal form
	addr JID    // of a pattern without a star
	glob string // the localpart of one with a star
	host string // and its domain
}

// ParsePattern prepares a pattern. The error is an *Error, or tells where a star
// may not stand.
func ParsePattern(s string) (Pattern, error) {
	local, domain, has := strings.Cut(s, "@")
	if !has || !strings.Contains(local, "*") || strings.Contains(local, "/") {
		j, err := Parse(s)
		if err != nil {
			return Pattern{}, err
		}
		j = j.Clone()
		return Pattern{text: j.String(), addr: j}, nil
	}
	if strings.Contains(domain, "/") {
		return Pattern{}, fmt.Errorf("jid: a pattern with a star has no resource: %q", s)
	}
	d, err := New("", domain, "")
	if err != nil {
		return Pattern{}, err
	}
	// The pieces between the stars are prepared like what they are compared with.
	pieces := strings.Split(local, "*")
	for i, p := range pieces {
		if p == "" {
			continue
		}
		if pieces[i], err = PrepareLocal(p); err != nil {
			return Pattern{}, err
		}
	}
	glob := strings.Join(pieces, "*")
	return Pattern{text: glob + "@" + d.Domain(), glob: glob, host: strings.Clone(d.Domain())}, nil
}

// MustPattern is ParsePattern for constants and tests: it panics when s is no
// pattern.
func MustPattern(s string) Pattern {
	p, err := ParsePattern(s)
	if err != nil {
		panic(fmt.Sprintf("jid: MustPattern(%q): %v", s, err))
	}
	return p
}

// PatternOf returns the pattern that covers j and what belongs to it.
func PatternOf(j JID) Pattern {
	j = j.Clone()
	return Pattern{text: j.String(), addr: j}
}

// String returns the pattern's normal form, which ParsePattern takes.
func (p Pattern) String() string { return p.text }

// IsZero tells whether p covers nothing.
func (p Pattern) IsZero() bool { return p.text == "" }

// JID returns the address of a pattern without a star.
func (p Pattern) JID() (JID, bool) { return p.addr, !p.addr.IsZero() }

// Domain returns the domain that everything covered is at.
func (p Pattern) Domain() string {
	if p.glob != "" {
		return p.host
	}
	return p.addr.Domain()
}

// Match tells whether the pattern covers j.
func (p Pattern) Match(j JID) bool {
	switch {
	case j.IsZero():
		return false
	case p.glob != "":
		return j.Domain() == p.host && j.Local() != "" && globbed(p.glob, j.Local())
	case p.addr.IsZero():
		return false
	case p.addr == j:
		return true
	case p.addr.IsHost():
		return j.Domain() == p.addr.Domain()
	case p.addr.IsBare():
		return j.Bare() == p.addr
	}
	return false
}

// Covers tells whether everything that q covers is covered by p: it may say no
// where both have stars and that is hard to tell.
func (p Pattern) Covers(q Pattern) bool {
	if p == q {
		return !p.IsZero()
	}
	if p.glob == "" && p.addr.IsHost() {
		return q.Domain() == p.addr.Domain()
	}
	j, ok := q.JID()
	return ok && !j.IsHost() && p.Match(j)
}

// globbed matches s with a pattern of literals and stars, the leftmost way first,
// which is enough for stars.
func globbed(glob, s string) bool {
	first, rest, star := strings.Cut(glob, "*")
	if !star {
		return glob == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		piece, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, piece)
		}
		i := strings.Index(s, piece)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(piece):], more
	}
}
