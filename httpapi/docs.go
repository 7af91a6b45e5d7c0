package httpapi

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/swaggest/swgui/v5/static"
)

// The page that shows the document: Swagger UI, and a script that starts it.
//
//go:embed docs/index.html docs/docs.js
var docsPage embed.FS

// docsPolicy lets the page load what lies beside it and nothing else, and speak to
// this server alone. Swagger UI sets styles on elements, and draws with data URLs.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// mountDocs registers the document and the page that shows it.
func (a *API) mountDocs(r chi.Router) {
	get(r, "/openapi.json", a.getDocument)
	get(r, "/docs", func(w http.ResponseWriter, rq *http.Request) {
		http.Redirect(w, rq, rq.URL.Path+"/", http.StatusMovedPermanently)
	})
	get(r, "/docs/*", a.getDocs)
}

// Docs answers at /api/docs, whatever version of the interface there is: use it as
// r.Handle("/api/docs", api.Docs("/api/v1")).
func (a *API) Docs(base string) http.Handler {
	return http.RedirectHandler(base+"/docs/", http.StatusFound)
}

func (a *API) getDocument(w http.ResponseWriter, r *http.Request) {
	if !acceptable(r, []string{jsonType}) {
		problem(http.StatusNotAcceptable, "The document comes as "+jsonType+".").write(w)
		return
	}
	h := w.Header()
	h.Set("ETag", a.etag)
	h.Set("Cache-Control", "public, no-cache")
	if none := r.Header["If-None-Match"]; len(none) > 0 && tagged(none, a.etag, false) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", jsonType)
	_, _ = w.Write(a.document)
}

// docsTypes are the files of the page.
var docsTypes = map[string]string{
	"index.html": "text/html; charset=utf-8", "docs.js": "text/javascript; charset=utf-8",
	"swagger-ui-bundle.js": "text/javascript; charset=utf-8", "swagger-ui.css": "text/css; charset=utf-8",
	"favicon-32x32.png": "image/png",
}

func (a *API) getDocs(w http.ResponseWriter, r *http.Request) {
	name := chi.URLParam(r, "*")
	if name == "" {
		name = "index.html"
	}
	media, ok := docsTypes[name]
	if !ok {
		problem(http.StatusNotFound, "There is nothing at this path.").write(w)
		return
	}
	raw, packed, err := docsFile(name)
	if err != nil {
		a.fault(w, "a file of the documentation is missing", err).write(w)
		return
	}
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Security-Policy", docsPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	tag := etagOf(raw)
	h.Set("ETag", tag)
	h.Set("Cache-Control", "public, no-cache")
	if none := r.Header["If-None-Match"]; len(none) > 0 && tagged(none, tag, false) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if packed && takesGzip(r.Header["Accept-Encoding"]) {
		h.Set("Content-Encoding", "gzip")
		h.Set("ETag", strings.TrimSuffix(tag, `"`)+gzipTag+`"`)
	} else if packed {
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err == nil {
			raw, err = io.ReadAll(z)
		}
		if err != nil {
			a.fault(w, "a file of the documentation is broken", err).write(w)
			return
		}
	}
	_, _ = w.Write(raw)
}

// docsFile returns a file of the page, which may be packed with gzip.
func docsFile(name string) (raw []byte, packed bool, err error) {
	if raw, err := docsPage.ReadFile("docs/" + name); err == nil {
		return raw, false, nil
	}
	if raw, err := static.FS.ReadFile(name + ".gz"); err == nil {
		return raw, true, nil
	}
	raw, err = static.FS.ReadFile(name)
	return raw, false, err
}
