package httpapi

import (
	"net/http"

	"trivium/core/auth"
	"trivium/httpapi/webhook"
)

func (a *API) webhookRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/webhooks", id: "list-webhooks", summary: "Tell the state of the webhooks",
		text: "By name. Needs `admin:*`.", query: paging(), gives: Page[webhook.Status]{}, do: (*call).listWebhooks,
	}}
}

func (c *call) listWebhooks() (any, error) {
	if err := c.mayAdmin(auth.AnyHost); err != nil {
		return nil, err
	}
	var list []webhook.Status
	if c.opts.Webhooks != nil {
		list = c.opts.Webhooks()
	}
	return cut(c, list, func(s *webhook.Status) string { return s.Name })
}
