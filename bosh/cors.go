package bosh

import (
	"net/http"
	"strings"
)

const allow = "POST, OPTIONS, GET, HEAD"

// cors tells whether a request's origin may use the endpoint, and sets what a
// browser has to know (Fetch Standard, CORS protocol). It never allows
// credentials: BOSH needs none.
func (h *Handler) cors(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	header := w.Header()
	header.Add("Vary", "Origin")
	if !allowed(origin, r.Host, h.opt.Origins) {
		return false
	}
	header.Set("Access-Control-Allow-Origin", origin)
	if r.Method == http.MethodOptions {
		header.Set("Access-Control-Allow-Methods", allow)
		header.Set("Access-Control-Allow-Headers", "Content-Type")
		header.Set("Access-Control-Max-Age", "7200")
	}
	return true
}

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
