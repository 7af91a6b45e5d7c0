package main

import (
	"context"
	"time"

	"trivium/bridges/kit"
	"trivium/config"
	"trivium/core"
	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
)

// newGateways serves the gateway domains of the configuration, those of webhooks among
// them, and those that were declared at run time. Webhooks are asked as late as
// questions come: they are made after the gateways.
func newGateways(ctx context.Context, e *engine, s *core.Server) (*gateway.Registry, error) {
	list := gatewayDefinitions(e.cfg)
	r, err := gateway.New(ctx, gateway.Options{
		Router: s.Router, Store: s.Store, Log: e.events, Logger: e.log, Configured: list, Version: version,
		Grace: e.cfg.GatewayGrace,
		Sync: func(ctx context.Context, ev *event.Event) ([]*stanza.Stanza, bool, error) {
			return e.webhooks.Ask(ctx, ev)
		},
		Wants: func(domain string, t event.Type) bool {
			return e.events.Follows(domain, t) || e.webhooks.Takes(domain, t) || t == event.IQ && e.webhooks.Asks(domain)
		},
		Observe: func(st *stanza.Stanza) { e.deliveries.Observe(st) },
		Served: func(domain string) (has, up bool) {
			if e.webhooks == nil {
				return false, false
			}
			return e.webhooks.Up(domain)
		},
	})
	if err == nil {
		e.events.OnFollow(r.Followers)
	}
	return r, err
}

// gatewayDefinitions are the gateways of the configuration. A domain of a webhook that
// nothing else is said of is one of type http-ws, for programs that only talk: whoever
// asks sees their contacts, which are there while the webhook is.
func gatewayDefinitions(cfg *config.Config) []gateway.Define {
	var list []gateway.Define
	known := map[string]bool{}
	for i := range cfg.Gateways {
		g := &cfg.Gateways[i]
		known[normal(g.Domain)] = true
		list = append(list, gateway.Define{
			Domain: g.Domain, Owner: g.Owner, GiveUpAfter: int(g.GiveUpAfter / time.Second), Definition: definition(g),
		})
	}
	for _, w := range cfg.Webhooks {
		for _, domain := range w.Domains {
			if !known[normal(domain)] {
				known[normal(domain)] = true
				list = append(list, gateway.Define{Domain: domain, Definition: kit.Definition{
					Client: "bot", Subscriptions: "accept", Presence: "assumed",
				}})
			}
		}
	}
	return list
}

// normal is a domain as addresses hold it; it was checked with the configuration.
func normal(domain string) string {
	j, err := jid.New("", domain, "")
	if err != nil {
		return domain
	}
	return j.Domain()
}

func definition(g *config.Gateway) kit.Definition {
	c := &g.Capabilities
	d := kit.Definition{
		Type: g.Type, Name: g.Name, Client: g.Client, Prompt: g.Prompt, Description: g.Description,
		Registered: g.RegisteredOnly, Users: g.Users, Subscriptions: g.Subscriptions, Presence: g.Presence, RefuseLong: g.RefuseLong,
		Capabilities: kit.Capabilities{
			MaxLength: c.MaxLength, Edits: c.Edits, Retractions: c.Retractions, Reactions: c.Reactions, Replies: c.Replies,
			Typing: c.Typing, Receipts: c.Receipts, Markers: c.Markers, Media: c.Media, MaxMedia: int64(c.MaxMedia),
		},
	}
	if r := &g.Registration; r.Instructions != "" || len(r.Fields) > 0 {
		d.Registration = &kit.Form{Instructions: r.Instructions}
		for _, f := range r.Fields {
			field := kit.Field{Name: f.Name, Label: f.Label, Kind: f.Kind, Required: f.Required}
			for _, o := range f.Options {
				field.Options = append(field.Options, kit.Choice{Value: o})
			}
			d.Registration.Fields = append(d.Registration.Fields, field)
		}
	}
	return d
}

// submit sends on behalf of any address of ours: as its gateway does, or as a client
// of its account would.
func (e *engine) submit(ctx context.Context, t *router.Turn, st *stanza.Stanza, rc *router.Receipt) error {
	if ok, err := e.gateways.Send(ctx, t, st, rc); ok {
		return err
	}
	return e.core.Modules.Submit(ctx, t, st, rc)
}
