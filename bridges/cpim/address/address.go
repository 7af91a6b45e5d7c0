// Package address translates between XMPP addresses and the URIs of the CPIM
// family: im:, pres:, sip:.
//
// A URI is written in one spelling only and read in all of them, so two URIs of
// the same user give the same JID, which is what callers compare. Nothing here
// looks into the DNS or knows which domains are whose.
//
//spec:rfc-3859 partial | Common Profile for Presence (CPP) | pres: addresses
//spec:rfc-3860 partial | Common Profile for Instant Messaging (CPIM) | im: addresses
//spec:rfc-7247 partial | SIP and XMPP: Architecture, Addresses, and Error Handling | §6: sip: addresses
package address

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"trivium/core/jid"
)

// A Scheme is the scheme of a URI, without its colon.
type Scheme string

// The schemes this package writes.
const (
	IM   Scheme = "im"   // RFC 3860 §3.1
	Pres Scheme = "pres" // RFC 3859 §3.1
	SIP  Scheme = "sip"  // RFC 3261 §19.1
)

// ErrSecure says that a URI is sips: what it names must not be reached over a
// hop that SIP does not protect (RFC 7247 §8).
var ErrSecure = errors.New("sips: addresses are not translated")

// An Error says why an address has no counterpart on the other side. Towards an
// XMPP entity it becomes jid-malformed.
type Error struct {
	Reason string // completes a sentence that begins with "address"
	Err    error  // what the address packages said; may be nil
}

func (e *Error) Error() string {
	if e.Err != nil {
		return "address " + e.Reason + ": " + e.Err.Error()
	}
	return "address " + e.Reason
}

// Unwrap returns the error of the package that refused a part of the address.
func (e *Error) Unwrap() error { return e.Err }

// URI returns AppendURI as a string.
func URI(s Scheme, j jid.JID) (string, error) {
	b, err := AppendURI(make([]byte, 0, len(j.String())+len(s)+8), s, j)
	return string(b), err
}

// AppendURI appends the URI of the account that j names. im: and pres: have no
// place for a resource, which is left out (RFC 3922 §3.2); sip: carries it in the
// parameter gr (RFC 7247 §6.5). The error is an *Error: only accounts have URIs,
// and their domains must be names.
func AppendURI(dst []byte, s Scheme, j jid.JID) ([]byte, error) {
	if j.Local() == "" {
		return dst, &Error{Reason: "has no localpart"}
	}
	domain, err := asciiDomain(j.Domain())
	if err != nil {
		return dst, err
	}
	// RFC 7247 §6.2: undo the escapes of the one side, then apply those of the other.
	local := jid.Unescape(j.Local())
	dst = append(dst, s...)
	dst = append(dst, ':')
	switch s {
	case IM, Pres:
		// RFC 5322 §3.2.3: the dots of a dot-atom stand between atoms.
		dots := local[0] != '.' && local[len(local)-1] != '.' && !strings.Contains(local, "..")
		dst = appendPercent(dst, local, func(c byte) bool {
			return c != '.' && (alphanumeric(c) || strings.IndexByte("!$*_~+=-", c) >= 0) || c == '.' && dots
		})
	case SIP:
		dst = appendPercent(dst, local, sipUser)
	default:
		return dst, &Error{Reason: "cannot be written with the scheme " + string(s)}
	}
	dst = append(dst, '@')
	dst = append(dst, domain...)
	if r := j.Resource(); r != "" && s == SIP {
		dst = append(dst, ";gr="...)
		dst = appendPercent(dst, r, sipResource)
	}
	return dst, nil
}

// Parse reads an im:, pres: or sip: URI. The result is a bare JID, unless a sip:
// URI has the parameter gr. The result may share the memory of uri. The error is
// an *Error or ErrSecure.
func Parse(uri string) (jid.JID, error) {
	if in, after, ok := strings.Cut(uri, ">"); ok && in != "" && in[0] == '<' {
		// COMPAT(sip): RFC 7247, 8048 and 7573 print gr behind the bracket in some
		// of their examples. Read here as if it were inside, never written so.
		uri = in[1:] + after
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return jid.JID{}, &Error{Reason: "has no scheme"}
	}
	resource := ""
	switch {
	case equalFold(scheme, "im"), equalFold(scheme, "pres"):
		rest, _, _ = strings.Cut(rest, "?") // RFC 3860 App. A: headers follow
	case equalFold(scheme, "sip"):
		var err error
		if rest, resource, err = cutSIP(rest); err != nil {
			return jid.JID{}, err
		}
	case equalFold(scheme, "sips"):
		return jid.JID{}, ErrSecure
	default:
		return jid.JID{}, &Error{Reason: "has a scheme other than im, pres and sip"}
	}
	// RFC 3922 §3.3: the first '@' that is not encoded.
	local, domain, ok := strings.Cut(rest, "@")
	if !ok || local == "" || domain == "" {
		return jid.JID{}, &Error{Reason: "is not user@domain"}
	}
	if strings.IndexByte(domain, '@') >= 0 {
		return jid.JID{}, &Error{Reason: "has an '@' too many"}
	}
	if isIP(domain) {
		return jid.JID{}, &Error{Reason: "has a domain that is not a name"}
	}
	if resource == "" && plain(local) {
		// What has nothing to decode or escape is a JID as it stands, which
		// Parse recognises without copying it.
		if strings.IndexByte(domain, '/') >= 0 {
			return jid.JID{}, &Error{Reason: "has a domain that is not a name"}
		}
		return parsed(jid.Parse(rest))
	}
	local, err := unpercent(local)
	if err != nil {
		return jid.JID{}, err
	}
	return parsed(jid.New(jid.Escape(local), domain, resource))
}

func parsed(j jid.JID, err error) (jid.JID, error) {
	if err != nil {
		return jid.JID{}, &Error{Reason: "cannot be a JID", Err: err}
	}
	return j, nil
}

// cutSIP splits what follows "sip:" into user@host and the decoded value of the
// parameter gr. Port, password, other parameters and headers are dropped.
func cutSIP(s string) (addr, resource string, err error) {
	user, host, ok := strings.Cut(s, "@")
	if !ok {
		return s, "", nil // refused for that by Parse
	}
	user, _, _ = strings.Cut(user, ":") // RFC 3261 §19.1.1: user:password
	host, _, _ = strings.Cut(host, "?")
	host, params, _ := strings.Cut(host, ";")
	if !strings.HasSuffix(host, "]") {
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			host = host[:i]
		}
	}
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		if name, value, _ := strings.Cut(p, "="); equalFold(name, "gr") && value != "" {
			if resource, err = unpercent(value); err != nil {
				return "", "", err
			}
		}
	}
	return user + "@" + host, resource, nil
}

// asciiDomain returns the domain with A-labels. Literal addresses are refused:
// the mailbox of an im: URI has a domain name.
func asciiDomain(domain string) (string, error) {
	if isIP(domain) {
		return "", &Error{Reason: "has a domain that is not a name"}
	}
	for i := 0; i < len(domain); i++ {
		if domain[i] >= utf8.RuneSelf {
			ascii, err := idna.Registration.ToASCII(domain)
			if err != nil {
				return "", &Error{Reason: "has a domain that the DNS cannot hold", Err: err}
			}
			return ascii, nil
		}
	}
	return domain, nil
}

func isIP(domain string) bool {
	if domain[0] == '[' {
		return true
	}
	if c := domain[len(domain)-1]; c < '0' || c > '9' {
		return false
	}
	_, err := netip.ParseAddr(domain)
	return err == nil
}
