package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A stamp tells whether a file has changed since it was read.
type stamp struct {
	modified time.Time
	size     int64
}

// stat follows symbolic links, so a renewal that swings a link is seen too.
func stat(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

// loadFile reads one configured certificate and notes the stamps of its files.
func loadFile(file File, stamps map[string]stamp) (*tls.Certificate, error) {
	key := file.Key
	if key == "" {
		key = file.Cert
	}
	// Stamps are taken before reading: a change in between is seen next time.
	for _, path := range []string{file.Cert, key} {
		st, err := stat(path)
		if err != nil {
			return nil, fmt.Errorf("certs: %w", err)
		}
		stamps[path] = st
	}
	cert, err := tls.LoadX509KeyPair(file.Cert, key)
	if err != nil {
		return nil, fmt.Errorf("certs: certificate %s with key %s: %w", file.Cert, key, err)
	}
	return &cert, nil // Leaf is set since Go 1.23
}

// Run reads the files again when they change and renews self-made certificates
// in time, looking every interval (a minute if not positive), until ctx ends. An
// unusable file is logged and tried again when it changes once more.
func (s *Store) Run(ctx context.Context, interval time.Duration) {
	if interval <= 0 {
		interval = time.Minute
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var failed map[string]stamp // what the last failed attempt saw
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		snap := s.current.Load()
		seen := make(map[string]stamp, len(snap.stamps))
		changed := false
		for path, was := range snap.stamps {
			now, err := stat(path)
			if err != nil {
				now = stamp{} // gone: perhaps being replaced right now
			}
			seen[path] = now
			changed = changed || now != was
		}
		renew := !snap.renew.IsZero() && !s.now().Before(snap.renew)
		if !renew && (!changed || sameStamps(seen, failed)) {
			continue
		}
		if err := s.Reload(); err != nil {
			failed = seen
			s.log.Error("certificates not reloaded, the old ones stay", "err", err)
			continue
		}
		failed = nil
		s.log.Info("certificates reloaded")
	}
}

func sameStamps(a, b map[string]stamp) bool {
	if len(a) != len(b) {
		return false
	}
	for path, st := range a {
		if b[path] != st {
			return false
		}
	}
	return true
}

// writeFile replaces a file in one step, so a reader never sees half of it, and
// only if its content differs.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
		return os.Chmod(path, mode)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it is renamed, which is right
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Chmod(mode); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Sync(); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
