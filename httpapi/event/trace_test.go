package event_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/propagation"

	"trivium/core/mod/modtest"
	"trivium/core/router"
	"trivium/httpapi/event"
)

// The example of W3C Trace Context §3.2.2.
const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func inTrace(ctx context.Context) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
}

func TestRecorderTrace(t *testing.T) {
	j := &journal{}
	r := event.NewRecorder(j)
	s := modtest.New(t, r)
	r.Watch("x", patterns("juliet@example.org"))
	available(t, s, "juliet@example.org/balcony")
	for _, tt := range []struct {
		ctx  context.Context
		want string
	}{{t.Context(), ""}, {inTrace(t.Context()), parent}} {
		var turn router.Turn
		if err := s.Router.Send(tt.ctx, &turn, modtest.Parse(t, `<message from='romeo@example.org' to='juliet@example.org' type='chat'><body>hi</body></message>`), nil); err != nil {
			t.Fatal(err)
		}
		turn.Flush()
		if got := j.take(); len(got) != 1 || got[0].Trace != tt.want {
			t.Errorf("%+v, want the trace %q", got, tt.want)
		}
	}
}
