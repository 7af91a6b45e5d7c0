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
)

// profileAll runs every row of Trivium's once more, under its CPU profiler,
// those that measure memory with a heap profile.
// These runs are not among the results: profiling costs processor time.
func (b *bench) profileAll(ctx context.Context) error {
	s := b.find("trivium")
	if s == nil {
		return nil
	}
	if err := os.MkdirAll(b.sources.profiles, 0o755); err != nil {
		return err
	}
	url := strings.TrimSuffix(b.profile, "/")
	if url == "admin" {
		url = "unix:" + adminSocket(s.dir) + ":/debug/pprof"
	}
	for _, sc := range b.scenarios {
		for _, v := range sc.rows([]*server{s}) {
			// SCENARIO.pprof, and SCENARIO.resume.pprof for the row "trivium resume".
			name := sc.name + strings.ReplaceAll(strings.TrimPrefix(v.name, s.name()), " ", ".")
			path := filepath.Join(b.sources.profiles, name+".pprof")
			if err := b.profileOnce(ctx, sc, v, url, path); err != nil {
				return fmt.Errorf("profile of %s: %w", name, err)
			}
			b.log.Info("profile", "scenario", sc.name, "server", v.name, "file", path)
		}
	}
	return nil
}

// profileOnce starts the profiler when the run's measured window opens, so that
// logging the clients in is not in the profile.
func (b *bench) profileOnce(ctx context.Context, sc scenario, v variant, url, path string) error {
	fetched := make(chan error, 1)
	opened := false
	b.profileWindow = func() {
		if !opened {
			opened = true
			if sc.heap { // it is memory that counts: what the idle connections hold
				fetched <- fetchProfile(ctx, url+"/heap", path)
				return
			}
			seconds := max(1, int(b.duration.Seconds()))
			go func() { fetched <- fetchProfile(ctx, fmt.Sprintf("%s/profile?seconds=%d", url, seconds), path) }()
		}
	}
	defer func() { b.profileWindow = nil }()
	rec := b.runOnce(ctx, sc, v, -1)
	var err error
	if opened {
		err = <-fetched
	}
	if failure := rec.Failure + rec.Skipped; failure != "" {
		return errors.New(failure)
	}
	return err
}

// fetchProfile writes a profile to path. The URL is over TCP or a unix socket:
// unix:/path/to/socket:/debug/pprof/heap.
func fetchProfile(ctx context.Context, url, path string) error {
	client, url, err := profileClient(url)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
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
		return &http.Client{}, url, nil
	}
	socket, path, ok := strings.Cut(rest, ":")
	if !ok {
		return nil, "", fmt.Errorf("%q: want unix:/path/to/socket:/debug/pprof", url)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}}
	return &http.Client{Transport: transport}, "http://trivium" + path, nil
}
