package stream

import (
	"strings"
	"sync/atomic"
)

// Origins decides which web origins (RFC 6454 §6.2) may use an endpoint: the
// endpoint's own, and those of a list that may change while it is in use. The
// zero value allows the own origin alone. It is for concurrent use.
type Origins struct {
	patterns atomic.Pointer[[]string]
}

// Set replaces the list: "https://chat.example.org", "https://*.example.org" for
// every host below it, or "*" for any.
func (o *Origins) Set(patterns []string) {
	list := make([]string, len(patterns))
	for i, p := range patterns {
		list[i] = strings.ToLower(p)
	}
	o.patterns.Store(&list)
}

// Allow tells whether a page of this origin may use the endpoint at host, the
// request's Host. No origin at all is no browser, and may.
func (o *Origins) Allow(origin, host string) bool {
	if origin == "" {
		return true
	}
	origin = strings.ToLower(origin)
	scheme, authority, ok := strings.Cut(origin, "://")
	if ok && (scheme == "http" || scheme == "https") && authority == strings.ToLower(host) {
		return true
	}
	list := o.patterns.Load()
	if list == nil {
		return false
	}
	for _, p := range *list {
		if p == "*" || p == origin {
			return true
		}
		before, domain, wild := strings.Cut(p, "://*.")
		if !wild || !ok || scheme != before {
			continue
		}
		label, found := strings.CutSuffix(authority, "."+domain)
		if found && label != "" && !strings.ContainsAny(label, "/:@?#[]") && label[0] != '.' {
			return true
		}
	}
	return false
}
