package interop

import (
	"testing"
	"time"
)

// bridgeClients are what stands at both ends of the bridge between XMPP and programs:
// users of gateway domains, receivers of webhooks, readers of the event stream and
// clients that a generator has made of the OpenAPI document.
func bridgeClients() []client {
	const patience = 2 * time.Minute
	return []client{
		{name: "gateway-slixmpp", argv: []string{python, "python/gateway.py"}, timeout: patience, steps: gatewaySteps},
		{name: "gateway-profanity", argv: []string{python, "profanity/gateway.py"}, timeout: patience, steps: gatewayProfanitySteps},
		{name: "gateway-converse", argv: []string{"node", "browser/gateway.js"}, timeout: patience, steps: gatewayConverseSteps},
		{name: "webhooks-python", argv: []string{python, "python/webhooks.py"}, timeout: patience, steps: webhookSteps},
		{name: "webhooks-node", argv: []string{"node", "node/webhooks.js"}, timeout: patience, steps: webhookSteps},
		{name: "events-python", argv: []string{python, "python/events.py"}, timeout: patience, steps: eventSteps},
		{name: "events-node", argv: []string{"node", "node/events.js"}, timeout: patience, steps: append([]string{"events.reconnects-by-itself"}, eventSteps...)},
		{name: "openapi-python", argv: []string{python, "python/generated.py"}, timeout: patience, steps: openAPISteps},
		{name: "openapi-node", argv: []string{"node", "node/generated.js"}, timeout: patience, steps: openAPISteps},
	}
}

// TestBridge runs what only a server with the REST interface has an answer to.
func TestBridge(t *testing.T) {
	if target.desc.Admin == "" {
		t.Skipf("%s has no such interface", target.desc.Name)
	}
	for _, c := range bridgeClients() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, target)
		})
	}
}
