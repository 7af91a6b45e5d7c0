package gateway_test

import (
	"testing"

	"go.opentelemetry.io/otel/propagation"

	"trivium/core/mod/modtest"
	"trivium/core/router"
	"trivium/httpapi/gateway"
)

// What a request causes is in the request's trace, whatever kind of event it is.
func TestTrace(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": parent})
	w := start(t, gateway.Options{})
	w.put(texting)
	w.reg.WebhookState(sms, true)
	w.Connect(romeo)
	after := w.log.Last()
	list := []string{
		`<message from='romeo@example.org/orchard' to='+1@sms.example.org' type='chat' id='m1'><body>Hi</body></message>`,
		`<presence from='romeo@example.org/orchard' to='sms.example.org'/>`,
		`<presence from='romeo@example.org' type='subscribe' to='+1@sms.example.org'/>`,
		`<iq from='romeo@example.org/orchard' type='get' to='+1@sms.example.org' id='q'><query xmlns='urn:x'/></iq>`,
	}
	for _, xml := range list {
		var turn router.Turn
		if err := w.Router.Send(ctx, &turn, modtest.Parse(t, xml), nil); err != nil {
			t.Fatal(err)
		}
		turn.Flush()
	}
	got := w.events(after)
	if len(got) != len(list) {
		t.Errorf("%d events, want %d", len(got), len(list))
	}
	for _, e := range got {
		if e.Trace != parent {
			t.Errorf("%s: %q, want %q", e.Type, e.Trace, parent)
		}
	}
}
