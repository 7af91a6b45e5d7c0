package httpapi

import "net/http"

// Direct returns h with the requests that programs make by the thousand taken past
// it: a router copies a request to keep its own state with it, which is a twentieth
// of what sending a message costs. The interface is mounted at prefix in h.
func (a *API) Direct(prefix string, h http.Handler) http.Handler {
	post := a.edge(http.HandlerFunc(a.postMessage))
	path := prefix + "/messages"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == path {
			post.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
