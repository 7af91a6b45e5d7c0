package main

import (
	"context"
	"fmt"

	"trivium/core"
	"trivium/core/jid"
	"trivium/httpapi/event"
	"trivium/httpapi/webhook"
)

// newWebhooks makes the endpoints of the configuration a consumer of the event log,
// and those that were made at run time.
func newWebhooks(ctx context.Context, e *engine, s *core.Server, recorder *event.Recorder) (*webhook.Service, error) {
	var list []webhook.Endpoint
	for _, h := range e.cfg.Webhooks {
		hook := webhook.Endpoint{
			Name: h.Name, URL: h.URL, Domains: h.Domains, AllowPrivate: h.AllowPrivate, Timeout: h.Timeout, GiveUpAfter: h.GiveUpAfter,
			Format: event.Format(h.Format), Sync: h.Sync, Concurrency: h.Concurrency,
		}
		for _, t := range h.Types {
			hook.Filter.Types = append(hook.Filter.Types, event.Type(t))
		}
		for _, secret := range h.Secrets {
			hook.Keys = append(hook.Keys, secret.Reveal())
		}
		var err error
		if hook.Watch, err = patterns(h.Watch); err != nil {
			return nil, fmt.Errorf("webhooks: watch: %w", err)
		}
		if hook.Filter.JIDs, err = patterns(h.JIDs); err != nil {
			return nil, fmt.Errorf("webhooks: jids: %w", err)
		}
		for _, text := range h.Rooms {
			room, err := jid.Parse(text)
			if err != nil {
				return nil, fmt.Errorf("webhooks: rooms: %w", err)
			}
			hook.Filter.Rooms = append(hook.Filter.Rooms, room)
		}
		list = append(list, hook)
	}
	hooks, err := webhook.New(ctx, list, webhook.Options{
		Log: e.events, Router: s.Router, Store: s.Store, Logger: e.log, Watcher: recorder, Limits: afterLogin(e.cfg),
		Submit: e.submit,
	})
	if err == nil {
		hooks.OnState(e.gateways.WebhookState)
	}
	return hooks, err
}

func patterns(list []string) ([]jid.Pattern, error) {
	var out []jid.Pattern
	for _, text := range list {
		p, err := jid.ParsePattern(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
