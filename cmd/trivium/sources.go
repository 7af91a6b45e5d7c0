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

// sources are where the accounts of the hosts come from, in the order of hosts, and
// who else gives tokens to programs.
type sources struct {
	hosts  []*auth.Sources
	access *bearer.AccessVerifier // of the REST interface; nil: no access tokens are taken
	stops  []func()
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
	if j := &cfg.REST.JWT; j.Enabled() {
		keys, err := s.keys(cfg, j.SecretFile, j.KeysFile, j.JWKSURL, log, now)
		if err == nil {
			s.access, err = bearer.NewAccess(keys, bearer.AccessOptions{
				Algorithms: j.Algorithms, Issuer: j.Issuer, Audience: j.Audience, AnyType: j.AnyType, Leeway: leeway(j.Leeway), Now: now,
			})
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("rest.jwt: %w", err)
		}
	}
	return s, nil
}

// verifier makes what checks the tokens for a host.
func (s *sources) verifier(cfg *config.Config, j *config.JWT, host jid.JID, log *slog.Logger, now func() time.Time) (*bearer.Verifier, error) {
	keys, err := s.keys(cfg, j.SecretFile, j.KeysFile, j.JWKSURL, log, now)
	if err != nil {
		return nil, err
	}
	o := bearer.Options{
		Algorithms: j.Algorithms, Issuer: j.Issuer, Audience: j.Audience, Type: j.Type, Scope: j.Scope, Claim: j.Claim,
		Leeway: leeway(j.Leeway), Configuration: j.OpenIDConfiguration, Now: now,
	}
	return bearer.New(host, keys, o)
}

// leeway turns the configuration's "none" into that of bearer.
func leeway(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// keys come from the one place that is given.
func (s *sources) keys(cfg *config.Config, secretFile, keysFile, jwksURL string, log *slog.Logger, now func() time.Time) (bearer.Keys, error) {
	switch {
	case secretFile != "":
		return keysIn(cfg.Path(secretFile), bearer.Secret)
	case keysFile != "":
		return keysIn(cfg.Path(keysFile), bearer.PublicKeys)
	}
	set, err := bearer.NewKeySet(jwksURL, bearer.KeySetOptions{Logger: log, Now: now})
	if err != nil {
		return nil, err
	}
	s.stops = append(s.stops, set.Close)
	return set, nil
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
