package bearer

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"trivium/core/auth/endpoint"
)

// KeySetOptions tune a KeySet. The zero value is the default.
type KeySetOptions struct {
	// Refresh is how old the keys get before they are fetched again, in the
	// background, when a token needs one; 15 min if 0. A key that the issuer has
	// withdrawn is good for that long, and as long as one fetch more.
	Refresh time.Duration
	// MinInterval is the least time between two fetches, whatever tokens say; 10 s
	// if 0. A new key is known that much later in the worst case.
	MinInterval time.Duration
	// MaxStale is how old the keys get while they cannot be fetched; 24 h if 0.
	// Beyond that nobody is admitted by them.
	MaxStale time.Duration
	// Timeout bounds one fetch; 5 s if 0.
	Timeout time.Duration
	// MaxBytes bounds the document in octets; 256 KiB if 0.
	MaxBytes int
	// TLS is how the issuer is authenticated; the system's authorities if nil.
	TLS *tls.Config
	// Logger takes failures to fetch. Nil discards them.
	Logger *slog.Logger
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// KeySet holds the keys of an issuer's JWK Set (RFC 7517 §5), which it fetches by
// HTTP when a token needs them and they are not there, too old, or without the
// token's key. It is for concurrent use. Close it.
type KeySet struct {
	o      KeySetOptions
	client *endpoint.Client
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	keys    []namedKey    // replaced whole, never edited; nil before the first success
	fetched time.Time     // when keys were
	tried   time.Time     // when the last fetch began; zero before the first
	failed  error         // of the last fetch
	flight  chan struct{} // closed when the fetch on its way is over; nil if there is none
}

// NewKeySet makes the KeySet of an address, https or on this machine. Nothing is
// fetched yet. The error is endpoint.ErrURL.
func NewKeySet(address string, o KeySetOptions) (*KeySet, error) {
	duration := func(d *time.Duration, standard time.Duration) {
		if *d <= 0 {
			*d = standard
		}
	}
	duration(&o.Refresh, 15*time.Minute)
	duration(&o.MinInterval, 10*time.Second)
	duration(&o.MaxStale, 24*time.Hour)
	duration(&o.Timeout, 5*time.Second)
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 10
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	client, err := endpoint.New(address, endpoint.Options{Timeout: o.Timeout, MaxBytes: o.MaxBytes, Concurrency: 1, TLS: o.TLS})
	if err != nil {
		return nil, err
	}
	s := &KeySet{o: o, client: client}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Close ends a fetch on its way, and waits for it. Afterwards no keys are found.
func (s *KeySet) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	s.client.Close()
}

func (s *KeySet) remote() bool { return true }

// suits allows every algorithm with public keys: the issuer may change to it.
func (s *KeySet) suits(alg string) bool { return alg[0] != 'H' }

// find implements Keys. It waits for a fetch only if what it has will not do.
func (s *KeySet) find(ctx context.Context, alg, kid string) ([]jwt.VerificationKey, error) {
	s.mu.Lock()
	keys, usable := s.candidates(alg, kid)
	now := s.o.Now()
	var flight chan struct{}
	if len(keys) == 0 || now.Sub(s.fetched) >= s.o.Refresh {
		flight = s.fetch(now)
	}
	failed := s.failed
	s.mu.Unlock()
	if len(keys) > 0 {
		return keys, nil // also while they are fetched anew
	}
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
		s.mu.Lock()
		keys, usable = s.candidates(alg, kid)
		failed = s.failed
		s.mu.Unlock()
	}
	switch {
	case len(keys) > 0:
		return keys, nil
	case failed != nil:
		// Whether the key is new or invented, only the issuer knows.
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, failed)
	case !usable:
		return nil, ErrUnavailable
	}
	return nil, errKey
}

// candidates returns the keys for a token; usable says that there are any that
// are not too old. It needs s.mu.
func (s *KeySet) candidates(alg, kid string) (keys []jwt.VerificationKey, usable bool) {
	if s.closed || s.keys == nil || s.o.Now().Sub(s.fetched) >= s.o.MaxStale {
		return nil, false
	}
	for i := range s.keys {
		k := &s.keys[i]
		if k.fits(alg) && (kid == "" || k.id == kid) {
			keys = append(keys, k.public)
		}
	}
	// OpenID Connect Core 1.0 §10.1: a token names its key where there are several.
	if kid == "" && len(keys) > 1 {
		keys = nil
	}
	return keys, true
}

// fetch returns the fetch on its way, which it begins unless the last one is too
// recent: then it returns nil. It needs s.mu.
func (s *KeySet) fetch(now time.Time) chan struct{} {
	if s.flight != nil {
		return s.flight
	}
	// A clock set back must not keep the keys from being fetched.
	if since := now.Sub(s.tried); s.closed || !s.tried.IsZero() && since >= 0 && since < s.o.MinInterval {
		return nil
	}
	s.tried = now
	flight := make(chan struct{})
	s.flight = flight
	// Not with the caller's context: others wait for it as well. It ends with the
	// client's timeout, or with Close.
	s.wg.Go(func() {
		keys, err := s.get()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failed = err; err == nil {
			s.keys, s.fetched = keys, now
		} else if !s.closed {
			s.o.Logger.Warn("the keys of an issuer of tokens cannot be fetched", "at", s.client.Host(), "kept", len(s.keys), "since", s.fetched, "err", err)
		}
		s.flight = nil
		close(flight)
	})
	return flight
}

func (s *KeySet) get() ([]namedKey, error) {
	a, err := s.client.Do(s.ctx, http.MethodGet, http.Header{"Accept": {"application/jwk-set+json, application/json"}}, nil)
	if err != nil {
		return nil, err
	}
	if a.Status != http.StatusOK {
		return nil, fmt.Errorf("bearer: JWK Set: the issuer answers with status %d", a.Status)
	}
	return parseSet(a.Body)
}
