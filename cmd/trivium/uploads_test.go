package main

import (
	"testing"

	"trivium/config"
)

// TestUploadURL looks for the address that clients are told: encrypted where there is
// a choice, and never one in clear outside development (XEP-0363 §4).
func TestUploadURL(t *testing.T) {
	upload := []string{"upload"}
	http := config.Listener{Kind: config.HTTP, Address: "127.0.0.1:5280", Endpoints: upload}
	https := config.Listener{Kind: config.HTTPS, Address: ":5443", Endpoints: upload}
	behind := config.Listener{Kind: config.HTTP, Address: "unix:web.sock", Endpoints: upload, PublicURL: "https://chat.example/"}
	plain := config.Listener{Kind: config.HTTP, Address: ":80", Endpoints: upload, PublicURL: "http://chat.example"}
	standard := https
	standard.Address = ":443"
	other := https
	other.Endpoints = []string{"websocket"}
	for _, tt := range []struct {
		name, set   string
		development bool
		listeners   []config.Listener
		host, want  string
	}{
		{"https", "", false, []config.Listener{http, https}, "a.example", "https://a.example:5443/upload"},
		{"second host", "", false, []config.Listener{https}, "b.example", "https://b.example:5443/upload"},
		{"gateway", "", false, []config.Listener{https}, "sms.example", "https://a.example:5443/upload"},
		{"standard port", "", false, []config.Listener{standard}, "a.example", "https://a.example/upload"},
		{"clear", "", false, []config.Listener{http}, "a.example", ""},
		{"clear in development", "", true, []config.Listener{http}, "a.example", "http://a.example:5280/upload"},
		{"both in development", "", true, []config.Listener{http, https}, "a.example", "https://a.example:5443/upload"},
		{"proxy", "", false, []config.Listener{https, behind}, "b.example", "https://chat.example/upload"},
		{"proxies", "", false, []config.Listener{plain, behind}, "a.example", "https://chat.example/upload"},
		{"not there", "", false, []config.Listener{other}, "a.example", ""},
		{"set", "https://files.example/", false, []config.Listener{https}, "a.example", "https://files.example/upload"},
	} {
		cfg := &config.Config{
			Hosts: []config.Host{{Domain: "a.example"}, {Domain: "B.example"}}, Development: tt.development,
			Listeners: tt.listeners, Upload: config.Upload{PublicURL: tt.set},
		}
		if got := uploadURL(cfg)(tt.host); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
