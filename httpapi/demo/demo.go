// Package demo serves the page of development mode: two people chat over
// WebSocket in two tabs, and a curl line sends into the same chat. It gives away
// passwords and a token, so it belongs on this machine alone.
package demo

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Account is one of the people.
type Account struct {
	JID      string `json:"jid"`
	Password string `json:"password"`
}

// Options of Handler.
type Options struct {
	Accounts []Account
	Token    string // may send as the accounts
	// RESTURL is where messages are posted; relative to the page: /api/v1/messages
	// by default.
	RESTURL string
	// WebSocketPath is the endpoint of RFC 7395: /xmpp-websocket by default.
	WebSocketPath string
	// Hosts are names that the page may be asked under, besides localhost and IP
	// addresses. Others are refused: a stranger's page could make its own name
	// mean this machine (DNS rebinding) and read the passwords.
	Hosts []string
}

//go:embed page
var files embed.FS

// Handler serves the page at "/". It panics when the options cannot be written as
// JSON, which strings always can.
func Handler(o Options) http.Handler {
	if o.RESTURL == "" {
		o.RESTURL = "/api/v1/messages"
	}
	if o.WebSocketPath == "" {
		o.WebSocketPath = "/xmpp-websocket"
	}
	settings, err := json.Marshal(map[string]any{
		"accounts": o.Accounts, "token": o.Token, "rest": o.RESTURL, "websocket": o.WebSocketPath,
	})
	if err != nil {
		panic(err)
	}
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err)
	}
	static := http.FileServerFS(page)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !o.known(r.Host) {
			http.Error(w, "this page is for localhost", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		// The host has been checked: it holds nothing but a name or address and a port.
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "+
			"connect-src 'self' ws://"+r.Host+" wss://"+r.Host+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if r.URL.Path == "/demo.json" {
			h.Set("Content-Type", "application/json")
			_, _ = w.Write(settings)
			return
		}
		static.ServeHTTP(w, r)
	})
}

// known tells whether a Host header names this machine beyond doubt.
func (o *Options) known(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	if _, err := netip.ParseAddr(name); err == nil {
		return !strings.Contains(name, "%")
	}
	return name == "localhost" || slices.Contains(o.Hosts, name)
}
