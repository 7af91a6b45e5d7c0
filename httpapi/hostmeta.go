package httpapi

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"trivium/core/wire"
)

// The link relations of XEP-0156 §3.1.
const (
	relWebSocket = "urn:xmpp:alt-connections:websocket"
	relBOSH      = "urn:xmpp:alt-connections:xbosh"
)

// HostMeta tells web clients where to connect: the link records of XEP-0156 in
// the host-meta files of RFC 6415.
type HostMeta struct {
	// Links returns the URLs of a host, which is the Host header without its port,
	// in lower case. No URLs at all make the answer 404.
	Links func(host string) (websocket, bosh []string)
}

// Mount registers /.well-known/host-meta and /.well-known/host-meta.json.
func (h HostMeta) Mount(r chi.Router) {
	get(r, "/.well-known/host-meta", func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, "application/xrd+xml", xrd) })
	get(r, "/.well-known/host-meta.json", func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, "application/json", jrd) })
}

type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

func (h HostMeta) serve(w http.ResponseWriter, r *http.Request, contentType string, form func([]link) []byte) {
	// XEP-0156 §5: pages of every origin may read this, without credentials.
	w.Header().Set("Access-Control-Allow-Origin", "*")
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	websocket, bosh := h.Links(strings.ToLower(host))
	var links []link
	for _, u := range bosh {
		links = append(links, link{relBOSH, u})
	}
	for _, u := range websocket {
		links = append(links, link{relWebSocket, u})
	}
	if len(links) == 0 {
		say(w, http.StatusNotFound, "nothing is known of this host\n")
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "max-age=300")
	_, _ = w.Write(form(links))
}

// xrd is the format of RFC 6415 §3.
func xrd(links []link) []byte {
	b := []byte("<?xml version='1.0' encoding='UTF-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n")
	for _, l := range links {
		b = append(b, "  <Link rel='"...)
		b = wire.AppendAttr(b, l.Rel)
		b = append(b, "' href='"...)
		b = wire.AppendAttr(b, l.Href)
		b = append(b, "'/>\n"...)
	}
	return append(b, "</XRD>\n"...)
}

// jrd is the format of RFC 6415 appendix A.
func jrd(links []link) []byte {
	b, err := json.Marshal(struct {
		Links []link `json:"links"`
	}{links})
	if err != nil {
		panic(err) // strings
	}
	return append(b, '\n')
}
