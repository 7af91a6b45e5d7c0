package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"trivium/core/auth/bearer"
)

const (
	// accessCacheSize bounds the access tokens in memory, accessRecheck how long one
	// is taken without a look at the keys: as long as a key set is old enough to be
	// fetched again, so that a withdrawn key does not outlive that.
	accessCacheSize = 4096
	accessRecheck   = 15 * time.Minute
)

// heldAccess is an access token that was good.
type heldAccess struct {
	Token
	until time.Time // then it has to be checked again
}

// CheckBearer returns the token of what a client sends as a bearer token (RFC
// 6750): one of our own, or an access token of OAuth 2.0 if Options.Access takes
// them. The error is ErrToken, bearer.ErrUnavailable while the issuer's keys cannot be
// had, or the store's.
func (s *Service) CheckBearer(ctx context.Context, secret string) (Token, error) {
	if s.access == nil || strings.HasPrefix(secret, tokenPrefix) {
		return s.CheckToken(ctx, secret)
	}
	digest := sha256.Sum256([]byte(secret))
	now := s.now()
	if held, ok := s.accesses.get(digest); ok && now.Before(held.until) {
		t := held.Token
		t.LastUsed = now
		return t, nil
	}
	a, err := s.access.Check(ctx, secret)
	switch {
	case err == nil:
	case errors.Is(err, bearer.ErrUnavailable), ctx.Err() != nil:
		return Token{}, fmt.Errorf("auth: %w", err)
	default:
		s.log.Debug("an access token was refused", "err", err)
		return Token{}, ErrToken
	}
	name := a.Subject
	if a.Client != "" && a.Client != a.Subject {
		name += " via " + a.Client
	}
	t := Token{
		ID: accessID(&a), Name: strings.ToValidUTF8(name[:min(len(name), maxTokenName)], ""), Hash: digest,
		Scopes: ScopesAmong(a.Scope), Issuer: a.Issuer, Expires: a.Until, LastUsed: now,
	}
	until := now.Add(accessRecheck)
	if a.Until.Before(until) {
		until = a.Until
	}
	s.accesses.put(digest, &heldAccess{t, until}, s.accesses.epoch())
	return t, nil
}

// accessID names whom an access token was given to, in lists, logs and limits of
// rate: each of a client's tokens, one after the other, has the same.
func accessID(a *bearer.Access) string {
	digest := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", a.Issuer, a.Client, a.Subject))
	return "jwt-" + hex.EncodeToString(digest[:8])
}
