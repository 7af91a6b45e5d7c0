package bosh

import "net/http"

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
	if !h.origins.Allow(origin, r.Host) {
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
