package auth

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"trivium/core/jid"
)

// ErrScopes: a text is not one of scopes. The error that wraps it says why, to
// people.
var ErrScopes = errors.New("not a scope")

// maxScopes bounds the scopes of one token: each request walks through them.
const maxScopes = 256

// AnyHost in Scopes.Admin stands for every host, and for the server itself.
const AnyHost = "*"

// Scopes say what a token is good for. The zero value is nothing. They are
// replaced, never edited, and then for concurrent use.
//
// Their text is a list of words with a space between them, as the claim and the
// parameter "scope" of OAuth 2.0 have it (RFC 6749 §3.3):
//
//	send:juliet@example.org read:example.org admin:example.org
type Scopes struct {
	// SendAs is whom the token may speak for, in whatever way.
	SendAs []jid.Pattern
	// Read is whose traffic and data it may see.
	Read []jid.Pattern
	// Admin is the virtual hosts that it may administer, as prepared domains, or
	// AnyHost.
	Admin []string
}

// kinds of scopes, each with the colon after it.
const (
	sendScope  = "send:"
	readScope  = "read:"
	adminScope = "admin:"
)

// scopeEscapes are the octets that RFC 6749 §3.3 keeps out of a scope, and the one
// that they are escaped with. Letters beyond ASCII stay as they are, for people.
var scopeEscapes = strings.NewReplacer("%", "%25", " ", "%20", `"`, "%22", `\`, "%5C")

// ParseScopes reads scopes: "send:PATTERN", "read:PATTERN" and "admin:HOST" with
// white space between them, where a pattern is one of jid.ParsePattern, and "*"
// stands for all hosts. An octet may be written as in a URL, "%20" for a space;
// "%" itself has to be. What comes twice counts once. The error wraps ErrScopes.
func ParseScopes(text string) (Scopes, error) {
	var s Scopes
	for word := range strings.FieldsSeq(text) {
		if err := s.add(word); err != nil {
			return Scopes{}, err
		}
	}
	if s.count() > maxScopes {
		return Scopes{}, fmt.Errorf("%w: there are more than %d", ErrScopes, maxScopes)
	}
	return s, nil
}

// ScopesAmong reads the scopes among words that others have given to a token: what
// is no scope of ours is passed over, and so is one beyond the most that a token
// may have.
func ScopesAmong(text string) Scopes {
	var s Scopes
	for word := range strings.FieldsSeq(text) {
		if s.count() == maxScopes {
			break
		}
		_ = s.add(word)
	}
	return s
}

func (s *Scopes) add(word string) error {
	kind, rest, _ := strings.Cut(word, ":")
	value, err := url.PathUnescape(rest)
	if err != nil {
		return fmt.Errorf("%w: %q: write %%25 for a percent sign", ErrScopes, word)
	}
	switch kind + ":" {
	case sendScope, readScope:
		p, err := jid.ParsePattern(value)
		if err != nil {
			return fmt.Errorf("%w: %q: %w", ErrScopes, word, err)
		}
		list := &s.SendAs
		if kind+":" == readScope {
			list = &s.Read
		}
		if !slices.Contains(*list, p) {
			*list = append(*list, p)
		}
	case adminScope:
		host, err := adminHost(value)
		if err != nil {
			return fmt.Errorf("%w: %q: %w", ErrScopes, word, err)
		}
		if !slices.Contains(s.Admin, host) {
			s.Admin = append(s.Admin, host)
		}
	default:
		return fmt.Errorf("%w: %q: write send:PATTERN, read:PATTERN or admin:HOST", ErrScopes, word)
	}
	return nil
}

// adminHost prepares a member of Scopes.Admin.
func adminHost(s string) (string, error) {
	if s == AnyHost {
		return s, nil
	}
	j, err := jid.Parse(s)
	if err == nil && !j.IsHost() {
		err = errors.New("it is not a host")
	}
	if err != nil {
		return "", err
	}
	return strings.Clone(j.Domain()), nil
}

// String returns the text of the scopes, which ParseScopes takes: "" for none.
func (s *Scopes) String() string {
	var b strings.Builder
	word := func(kind, value string) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(kind)
		_, _ = scopeEscapes.WriteString(&b, value)
	}
	for _, p := range s.SendAs {
		word(sendScope, p.String())
	}
	for _, p := range s.Read {
		word(readScope, p.String())
	}
	for _, host := range s.Admin {
		word(adminScope, host)
	}
	return b.String()
}

func (s *Scopes) count() int { return len(s.SendAs) + len(s.Read) + len(s.Admin) }

// valid returns the scopes in memory of their own, or why they are none.
func (s *Scopes) valid() (Scopes, error) {
	switch n := s.count(); {
	case n == 0:
		return Scopes{}, fmt.Errorf("%w: it needs one or more scopes", ErrTokenSpec)
	case n > maxScopes:
		return Scopes{}, fmt.Errorf("%w: it has more than %d scopes", ErrTokenSpec, maxScopes)
	}
	for _, list := range [][]jid.Pattern{s.SendAs, s.Read} {
		if slices.ContainsFunc(list, jid.Pattern.IsZero) {
			return Scopes{}, fmt.Errorf("%w: a pattern is empty", ErrTokenSpec)
		}
	}
	out := Scopes{SendAs: once(s.SendAs), Read: once(s.Read)}
	for _, h := range s.Admin {
		host, err := adminHost(h)
		if err != nil {
			return Scopes{}, fmt.Errorf("%w: %q: %w", ErrTokenSpec, h, err)
		}
		out.Admin = append(out.Admin, host)
	}
	out.Admin = once(out.Admin)
	return out, nil
}

// once returns a list in memory of its own, and what is in it several times once.
func once[T comparable](list []T) (out []T) {
	for _, v := range list {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// MaySend reports whether from is one of those that SendAs covers.
func (s *Scopes) MaySend(from jid.JID) bool { return matched(s.SendAs, from) }

// MayRead reports whether j is one of those that Read covers.
func (s *Scopes) MayRead(j jid.JID) bool { return matched(s.Read, j) }

func matched(list []jid.Pattern, j jid.JID) bool {
	for i := range list {
		if list[i].Match(j) {
			return true
		}
	}
	return false
}

// MayAdmin reports whether host, a prepared domain, may be administered. AnyHost
// asks for the whole server.
func (s *Scopes) MayAdmin(host string) bool {
	return host != "" && (slices.Contains(s.Admin, host) || slices.Contains(s.Admin, AnyHost))
}

// Covers reports whether all that other allows is allowed by s: a token makes no
// token that may do more than itself. It may say no where patterns with stars are
// hard to compare.
func (s *Scopes) Covers(other *Scopes) bool {
	for _, host := range other.Admin {
		if !s.MayAdmin(host) {
			return false
		}
	}
	return covered(s.SendAs, other.SendAs) && covered(s.Read, other.Read)
}

func covered(by, list []jid.Pattern) bool {
	for _, q := range list {
		if !slices.ContainsFunc(by, func(p jid.Pattern) bool { return p.Covers(q) }) {
			return false
		}
	}
	return true
}
