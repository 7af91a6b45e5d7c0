package harness

import (
	"context"
	"testing"

	"trivium/bridges/kit"
	"trivium/core"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
)

// aGateway is what "server gateway" of a Script declares: registration as XEP-0100
// §4.1.1 shows it, contacts that are always there and grant every request.
func aGateway(domain string) gateway.Define {
	return gateway.Define{Domain: domain, Definition: kit.Definition{
		Type: "aim", Name: "AIM Gateway", Prompt: "Contact ID", Description: "Please enter the AOL Screen Name of the person you would like to contact.",
		Registration: &kit.Form{
			Instructions: "Please provide your AIM screen name and password.",
			Fields: []kit.Field{
				{Name: "username", Label: "Screen name", Required: true},
				{Name: "password", Label: "Password", Kind: kit.KindSecret, Required: true},
			},
		},
		Registered: true, Subscriptions: "accept", Presence: "assumed",
		Capabilities: kit.Capabilities{MaxLength: 1000, Typing: true}, RefuseLong: true,
	}}
}

// gateways serves the gateway domains of Options. Somebody follows their events.
func gateways(tb testing.TB, s *core.Server, list []gateway.Define) *gateway.Registry {
	tb.Helper()
	log, err := event.NewLog(context.Background(), event.Options{Store: s.Store})
	if err != nil {
		tb.Fatal(err)
	}
	r, err := gateway.New(context.Background(), gateway.Options{Router: s.Router, Store: s.Store, Log: log, Configured: list})
	if err != nil {
		tb.Fatal(err)
	}
	for _, d := range list {
		r.Followers(d.Domain, 1)
	}
	return r
}
