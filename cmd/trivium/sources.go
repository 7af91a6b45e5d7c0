package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"trivium/config"
	"trivium/core/auth"
	"trivium/core/auth/bearer"
	"trivium/core/auth/callout"
	"trivium/core/jid"
)

// directoryTimeout bounds a question whether an account exists: whoever writes to an
// address that we do not know waits for the answer.
const directoryTimeout = 2 * time.Second

// sources are where the accounts of the hosts come from, in the order of hosts.
type sources struct {
	hosts []*auth.Sources
	stops []func()
}

// close ends what the sources have on the network.
func (s *sources) close() {
	for _, stop := range s.stops {
		stop()
	}
}

// newSources reads the files of keys. Nobody is asked yet. now is the clock.
func newSources(cfg *config.Config, log *slog.Logger, now func() time.Time) (*sources, error) {
	s := &sources{}
	for i := range cfg.Hosts {
		h := &cfg.Hosts[i]
		a := &h.Auth
		host, err := jid.New("", h.Domain, "")
		if err != nil {
			s.close()
			return nil, fmt.Errorf("hosts[%d].domain: %w", i, err)
		}
		from := &auth.Sources{Internal: a.Internal, NoProvision: !a.Provision}
		if a.JWT.Enabled() {
			v, err := s.verifier(cfg, &a.JWT, host, log, now)
			if err != nil {
				s.close()
				return nil, fmt.Errorf("hosts[%d].auth.jwt: %w", i, err)
			}
			from.Tokens = v
			if a.JWT.AsPassword {
				from.Passwords = append(from.Passwords, v) // first: what is no token costs nothing
			}
		}
		if a.HTTP.Enabled() {
			if err := s.ask(cfg, &a.HTTP, host, from, log, now); err != nil {
				s.close()
				return nil, fmt.Errorf("hosts[%d].auth.http: %w", i, err)
			}
		}
		s.hosts = append(s.hosts, from)
	}
	return s, nil
}

// verifier makes what checks the tokens for a host.
func (s *sources) verifier(cfg *config.Config, j *config.JWT, host jid.JID, log *slog.Logger, now func() time.Time) (*bearer.Verifier, error) {
	var keys bearer.Keys
	var err error
	switch {
	case j.SecretFile != "":
		keys, err = keysIn(cfg.Path(j.SecretFile), bearer.Secret)
	case j.KeysFile != "":
		keys, err = keysIn(cfg.Path(j.KeysFile), bearer.PublicKeys)
	default:
		var set *bearer.KeySet
		if set, err = bearer.NewKeySet(j.JWKSURL, bearer.KeySetOptions{Logger: log, Now: now}); err == nil {
			s.stops = append(s.stops, set.Close)
			keys = set
		}
	}
	if err != nil {
		return nil, err
	}
	o := bearer.Options{
		Algorithms: j.Algorithms, Issuer: j.Issuer, Audience: j.Audience, Type: j.Type, Scope: j.Scope, Claim: j.Claim,
		Leeway: j.Leeway, Configuration: j.OpenIDConfiguration, Now: now,
	}
	if o.Leeway == 0 {
		o.Leeway = -1
	}
	return bearer.New(host, keys, o)
}

func keysIn(path string, read func([]byte) (bearer.Keys, error)) (bearer.Keys, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// ask adds an endpoint to the sources of a host.
func (s *sources) ask(cfg *config.Config, h *config.Callout, host jid.JID, from *auth.Sources, log *slog.Logger, now func() time.Time) error {
	o := callout.Options{
		Timeout: h.Timeout, Concurrency: h.Concurrency, RememberPasswords: h.RememberPasswords, RememberExists: h.RememberExists,
		Logger: log, Now: now,
	}
	if o.RememberExists == 0 {
		o.RememberExists = -1
	}
	if h.SecretFile != "" {
		data, err := os.ReadFile(cfg.Path(h.SecretFile))
		if err != nil {
			return err
		}
		o.Secret = strings.TrimSpace(string(data))
	}
	logins, err := callout.New(host, h.URL, o)
	if err != nil {
		return err
	}
	s.stops = append(s.stops, logins.Close)
	if h.Passwords {
		from.Passwords = append(from.Passwords, logins)
	}
	if h.Tokens {
		from.Tokens = logins
	}
	if h.Directory {
		// With connections and a breaker of its own: whoever writes to many strangers
		// does not keep others from logging in.
		o.Timeout = min(o.Timeout, directoryTimeout)
		directory, err := callout.New(host, h.URL, o)
		if err != nil {
			return err
		}
		s.stops = append(s.stops, directory.Close)
		from.Directory = directory
	}
	return nil
}
