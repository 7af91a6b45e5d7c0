package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"trivium/config"
)

// newTracing returns what spans are made with, and what sends the last of them when
// the server stops. Without a collector the tracer is nil: nothing is recorded, but
// the traceparent of a request still goes on to what it causes.
func newTracing(ctx context.Context, cfg config.Tracing, log *slog.Logger) (trace.Tracer, func(context.Context), error) {
	if cfg.Endpoint == "" {
		return nil, func(context.Context) {}, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimSuffix(cfg.Endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, nil, fmt.Errorf("tracing: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(float64(cfg.SamplePerMille)/1000))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "trivium"), attribute.String("service.version", version))),
	)
	return provider.Tracer("trivium"), func(ctx context.Context) {
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last traces were not sent", "err", err)
		}
	}, nil
}
