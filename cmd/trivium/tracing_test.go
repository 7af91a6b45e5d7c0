package main

import (
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"trivium/config"
)

// TestTracing: spans reach the collector by the time the server has stopped.
func TestTracing(t *testing.T) {
	got := make(chan string, 8)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
			}
			body = z
		}
		all, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		got <- r.URL.Path + " " + string(all)
	}))
	defer collector.Close()
	tracer, stop, err := newTracing(context.Background(), config.Tracing{Endpoint: collector.URL + "/", SamplePerMille: 1000}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Start(context.Background(), "send-message")
	span.End()
	stop(context.Background())
	select {
	case text := <-got:
		if !strings.HasPrefix(text, "/v1/traces ") || !strings.Contains(text, "send-message") || !strings.Contains(text, "trivium") {
			t.Errorf("the collector got %q", text)
		}
	default:
		t.Error("the collector got nothing")
	}

	if tracer, _, err := newTracing(context.Background(), config.Tracing{}, slog.New(slog.DiscardHandler)); tracer != nil || err != nil {
		t.Errorf("without a collector: %v, %v", tracer, err)
	}
}
