package event

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// TraceOf returns the traceparent (W3C Trace Context §3.2) that ctx is in, for the
// Trace of what it causes; "" if it is in none.
func TraceOf(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
}

// In notes the trace that has caused the event, and returns the event. It is for
// events that have not been appended yet.
func (e *Event) In(ctx context.Context) *Event {
	e.Trace = TraceOf(ctx)
	return e
}
