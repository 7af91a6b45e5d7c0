// Package jid implements XMPP addresses: RFC 7622, with the escaping of
// XEP-0106 1.1.1.
//
// An address is prepared once, when it enters the process, by Parse or New.
// From then on equal addresses are equal Go values: a JID is compared with ==
// and serves as a map key. Addresses that are already in normal form and ASCII,
// which is nearly all of them, are recognised in one pass without allocating.
//
//spec:rfc-7622 complete | XMPP: Address Format | all parts of an address; domains have the limits of the DNS
//spec:xep-0106 1.1.1 complete | JID Escaping | escaping and unescaping of localparts
package jid

import (
	"fmt"
	"strings"
)

// MaxPart is the most octets a part of an address may have after preparation
// (RFC 7622 §3.1).
const MaxPart = 1023

// JID is a prepared XMPP address. The zero JID is no address. JIDs are
// comparable: two are == exactly when they are the same address (RFC 7622 §3.2.3,
// §3.3, §3.4). A JID is immutable and safe for concurrent use.
type JID struct {
	s      string // localpart@domainpart/resourcepart, separators only where needed
	local  uint16 // octets of the localpart, 0 for none
	domain uint16 // where the domainpart ends in s
}

// Parse prepares the address s. The result may share the memory of s, when s was
// in normal form already: Clone what outlives a buffer. The error is an *Error.
func Parse(s string) (JID, error) {
	if j, ok := parseNormal(s); ok {
		return j, nil
	}
	// RFC 7622 §3.1: the separators are found before anything is mapped, since
	// mapping may turn other code points into them. §3.2: '/' first, then '@'.
	rest, resource, hasResource := strings.Cut(s, "/")
	local, domain, hasLocal := strings.Cut(rest, "@")
	if !hasLocal {
		local, domain = "", rest
	}
	if hasLocal && local == "" {
		return JID{}, &Error{Part: Localpart, Reason: "is empty"}
	}
	if hasResource && resource == "" {
		return JID{}, &Error{Part: Resourcepart, Reason: "is empty"}
	}
	return New(local, domain, resource)
}

// New prepares the three parts and joins them. An empty localpart or
// resourcepart means that the address has none. The error is an *Error.
func New(local, domain, resource string) (JID, error) {
	var err error
	if local != "" {
		if local, err = PrepareLocal(local); err != nil {
			return JID{}, err
		}
	}
	if domain, err = PrepareDomain(domain); err != nil {
		return JID{}, err
	}
	if resource != "" {
		if resource, err = PrepareResource(resource); err != nil {
			return JID{}, err
		}
	}
	return join(local, domain, resource), nil
}

// Must is Parse for constants and tests: it panics when s is no address.
func Must(s string) JID {
	j, err := Parse(s)
	if err != nil {
		panic(fmt.Sprintf("jid: Must(%q): %v", s, err))
	}
	return j
}

// join makes a JID of prepared parts.
func join(local, domain, resource string) JID {
	j := JID{local: uint16(len(local))}
	switch {
	case local == "" && resource == "":
		j.s = domain
	case resource == "":
		j.s = local + "@" + domain
	case local == "":
		j.s = domain + "/" + resource
	default:
		j.s = local + "@" + domain + "/" + resource
	}
	j.domain = uint16(j.domainStart() + len(domain))
	return j
}

func (j JID) domainStart() int {
	if j.local == 0 {
		return 0
	}
	return int(j.local) + 1
}

// Local returns the localpart, "" if there is none.
func (j JID) Local() string { return j.s[:j.local] }

// Domain returns the domainpart, "" only for the zero JID. Internationalised
// labels are U-labels; an IPv6 address has its brackets.
func (j JID) Domain() string { return j.s[j.domainStart():j.domain] }

// Resource returns the resourcepart, "" if there is none.
func (j JID) Resource() string {
	if int(j.domain) == len(j.s) {
		return ""
	}
	return j.s[j.domain+1:]
}

// Bare returns the address without its resourcepart.
func (j JID) Bare() JID {
	j.s = j.s[:j.domain]
	return j
}

// Host returns the address of the domain alone.
func (j JID) Host() JID {
	d := j.Domain()
	return JID{s: d, domain: uint16(len(d))}
}

// WithResource returns the address with resourcepart r, prepared, in place of
// its own. An empty r is an error (use Bare), as is asking the zero JID.
func (j JID) WithResource(r string) (JID, error) {
	if j.IsZero() {
		return JID{}, &Error{Part: Domainpart, Reason: "is empty"}
	}
	r, err := PrepareResource(r)
	if err != nil {
		return JID{}, err
	}
	j.s = j.s[:j.domain] + "/" + r
	return j, nil
}

// IsZero reports whether j is the zero JID, no address.
func (j JID) IsZero() bool { return j.s == "" }

// IsBare reports whether j is an address without a resourcepart.
func (j JID) IsBare() bool { return j.s != "" && int(j.domain) == len(j.s) }

// IsFull reports whether j has a resourcepart.
func (j JID) IsFull() bool { return int(j.domain) != len(j.s) }

// IsHost reports whether j is a domain alone.
func (j JID) IsHost() bool { return j.local == 0 && j.IsBare() }

// String returns the address in normal form, "" for the zero JID. It does not
// allocate.
func (j JID) String() string { return j.s }

// Clone returns the same address in memory of its own, for tables that outlive
// the buffer it was parsed from.
func (j JID) Clone() JID {
	j.s = strings.Clone(j.s)
	return j
}
