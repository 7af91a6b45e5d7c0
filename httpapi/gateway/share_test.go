package gateway_test

import (
	"context"
	"strings"
	"testing"

	"trivium/bridges/kit"
	"trivium/core/stanza"
	"trivium/httpapi/event"
	"trivium/httpapi/gateway"
)

// A gateway that does not answer took the room in which the requests of all others
// waited.
func TestSilentGatewayAlone(t *testing.T) {
	silent := make(chan struct{})
	w := start(t, gateway.Options{SyncMax: 2, Sync: func(ctx context.Context, e *event.Event) ([]*stanza.Stanza, bool, error) {
		if e.Host == "silent.example.org" {
			select {
			case <-silent:
			case <-ctx.Done():
			}
			return nil, true, ctx.Err()
		}
		st, err := stanza.ParseDocument(e.Stanza)
		if err != nil {
			return nil, true, err
		}
		return []*stanza.Stanza{st.Result(nil)}, true, nil
	}})
	defer close(silent)
	for _, host := range []string{"silent.example.org", "quick.example.org"} {
		w.put(gateway.Define{Domain: host, Definition: kit.Definition{Type: "sms"}})
		w.reg.WebhookState(host, true)
	}
	c := w.Connect(romeo)
	ask := func(host, id string) {
		c.Send(`<iq type='get' to='1@` + host + `' id='` + id + `'><query xmlns='urn:x'/></iq>`)
	}
	for _, id := range []string{"a", "b"} {
		ask("silent.example.org", id)
	}
	ask("silent.example.org", "c") // one too many for it
	if got := c.Next(); !strings.Contains(got, "<resource-constraint ") || !strings.Contains(got, "'c'") {
		t.Error(got)
	}
	ask("quick.example.org", "d")
	if got := c.Next(); !strings.Contains(got, "type='result'") || !strings.Contains(got, "'d'") {
		t.Error(got)
	}
}
