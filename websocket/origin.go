package websocket

import "strings"

// allowed tells whether a web origin (RFC 6454 §6.2) may use the endpoint at
// host. Patterns are those of Options.Origins.
func allowed(origin, host string, patterns []string) bool {
	origin = strings.ToLower(origin)
	scheme, authority, ok := strings.Cut(origin, "://")
	if len(patterns) == 0 {
		return ok && (scheme == "http" || scheme == "https") && authority == strings.ToLower(host)
	}
	for _, p := range patterns {
		p = strings.ToLower(p)
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
