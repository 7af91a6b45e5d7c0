package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// profileAll runs every scenario once more on Trivium, under its CPU profiler.
// These runs are not among the results: profiling costs processor time.
func (b *bench) profileAll(ctx context.Context) error {
	s := b.find("trivium")
	if s == nil {
		return nil
	}
	if err := os.MkdirAll(b.profileDir, 0o755); err != nil {
		return err
	}
	url := b.profile
	if url == "admin" {
		url = "unix:" + adminSocket(s.dir) + ":/debug/pprof"
	}
	for _, sc := range b.scenarios {
		path := filepath.Join(b.profileDir, sc.name+".pprof")
		if err := b.profileOnce(ctx, sc, s, url, path); err != nil {
			return fmt.Errorf("profile of %s: %w", sc.name, err)
		}
		b.log.Info("profile", "scenario", sc.name, "file", path)
	}
	return nil
}

// profileOnce starts the profiler when the run's measured window opens, so that
// logging the clients in is not in the profile.
func (b *bench) profileOnce(ctx context.Context, sc scenario, s *server, url, path string) error {
	fetched := make(chan error, 1)
	opened := false
	b.profileWindow = func() {
		if !opened {
			opened = true
			go func() { fetched <- fetchProfile(ctx, url, path, b.duration) }()
		}
	}
	defer func() { b.profileWindow = nil }()
	rec := b.runOnce(ctx, sc, s, -1)
	var err error
	if opened {
		err = <-fetched
	}
	if failure := rec.Failure + rec.Skipped; failure != "" {
		return errors.New(failure)
	}
	return err
}

// fetchProfile writes a CPU profile. The URL is the pprof index, over TCP or a
// unix socket: unix:/path/to/socket:/debug/pprof.
func fetchProfile(ctx context.Context, url, path string, d time.Duration) error {
	client, url, err := profileClient(url)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	seconds := max(1, int(d.Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/profile?seconds=%d", url, seconds), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, resp.Body); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func profileClient(url string) (*http.Client, string, error) {
	rest, ok := strings.CutPrefix(url, "unix:")
	if !ok {
		return &http.Client{}, strings.TrimSuffix(url, "/"), nil
	}
	socket, path, ok := strings.Cut(rest, ":")
	if !ok {
		return nil, "", fmt.Errorf("%q: want unix:/path/to/socket:/debug/pprof", url)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}}
	return &http.Client{Transport: transport}, "http://trivium" + strings.TrimSuffix(path, "/"), nil
}
