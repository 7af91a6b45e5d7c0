package gateway_test

import (
	"slices"
	"testing"

	"trivium/bridges/kit"
	"trivium/httpapi/gateway"
)

// Clients look for gateways among the items of their server.
func TestItems(t *testing.T) {
	w := start(t, gateway.Options{})
	if err := w.reg.Register(w.Host); err != nil {
		t.Fatal(err)
	}
	for domain, users := range map[string][]string{
		sms: nil, "irc.example.org": {"example.org"}, "mail.example.org": {"*@example.com"}, "sip.example.com": nil, "elsewhere.example": nil,
	} {
		w.put(gateway.Define{Domain: domain, Definition: kit.Definition{Type: "sms", Name: "At " + domain, Users: users}})
	}
	for host, want := range map[string][]string{
		"example.org": {"elsewhere.example", "irc.example.org", sms},
		"example.com": {"elsewhere.example", "sip.example.com"},
	} {
		var got []string
		for _, item := range w.Host.Disco().Items(t.Context(), host) {
			if item.Name != "At "+item.JID.String() || item.Node != "" {
				t.Errorf("%+v", item)
			}
			got = append(got, item.JID.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}
