package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestFetchProfile(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debug/pprof/profile" || r.URL.Query().Get("seconds") != "2" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("profile"))
	})
	overTCP := httptest.NewServer(handler)
	defer overTCP.Close()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	overUnix := httptest.NewUnstartedServer(handler)
	overUnix.Listener = l
	overUnix.Start()
	defer overUnix.Close()
	for _, tt := range []struct {
		url   string
		fails bool
	}{
		{overTCP.URL + "/debug/pprof/profile?seconds=2", false},
		{"unix:" + socket + ":/debug/pprof/profile?seconds=2", false},
		{"unix:" + socket, true},
		{overTCP.URL + "/elsewhere", true},
	} {
		path := filepath.Join(dir, "out")
		err := fetchProfile(context.Background(), tt.url, path)
		if (err != nil) != tt.fails {
			t.Errorf("%s: error %v, want one: %v", tt.url, err, tt.fails)
		}
		if err != nil {
			continue
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "profile" {
			t.Errorf("%s: wrote %q, %v", tt.url, text, err)
		}
	}
}
