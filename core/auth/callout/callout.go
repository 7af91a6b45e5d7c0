// Package callout asks an HTTP endpoint of the operator's who may log in to a
// host, and which accounts there are.
//
// A question is a POST of a JSON object with "kind" and "host":
//
//	{"kind":"password","host":"example.org","username":"juliet","password":"..."}
//	{"kind":"token","host":"example.org","username":"juliet","token":"..."}
//	{"kind":"exists","host":"example.org","username":"juliet"}
//
// "username" is a prepared localpart (RFC 7622 §3.3); in a question about a token it
// is missing when the client leaves it to the token. Where there is a secret, it is
// sent as "Authorization: Bearer". The answers are
//
//	200 {"ok":true}                       yes
//	200 {"ok":true,"username":"juliet"}   yes, and whose the token is
//	200 {"ok":false}, 401, 404            no
//	403                                   yes, but the account is disabled
//
// and everything else, such as a redirect, an answer that is too large, or none in
// time, is a failure: the login fails for now, and a Breaker keeps the endpoint
// from being asked over and over.
package callout

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"trivium/core/auth/endpoint"
	"trivium/core/jid"
	"trivium/core/sasl"
)

// Errors of this package.
var (
	// ErrAnswer: the endpoint says something that is no answer.
	ErrAnswer = errors.New("callout: the endpoint's answer is none")
	// ErrOpen: the endpoint has failed lately and is left alone for a while.
	ErrOpen = errors.New("callout: the endpoint has failed lately")
)

var errRefused = errors.New("callout: the endpoint says no")

// Options tune a Client. The zero value is the default.
type Options struct {
	// Secret tells the endpoint that it is us who ask; not sent if "".
	Secret string
	// Timeout bounds one question; 5 s if 0.
	Timeout time.Duration
	// Concurrency is how many questions there are at a time; 16 if 0. More wait.
	Concurrency int
	// TLS is how the endpoint is authenticated; the system's authorities if nil.
	TLS *tls.Config
	// RememberPasswords is how long a password that was accepted is accepted without
	// a question, even if it was changed meanwhile. 0: not at all.
	RememberPasswords time.Duration
	// RememberExists is how long an answer about an account's existence is
	// remembered: 1 min if 0, not at all if negative.
	RememberExists time.Duration
	// Entries bounds what is remembered of each; 16384 if 0.
	Entries int
	// Breaker says when a failing endpoint is left alone.
	Breaker BreakerOptions
	// Scope and Configuration tell clients what token they need (RFC 7628 §3.2.2);
	// may be "".
	Scope, Configuration string
	// Logger takes failures of the endpoint. Nil discards them.
	Logger *slog.Logger
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Client asks about the accounts of one host. It is for concurrent use.
type Client struct {
	host      string
	o         Options
	endpoint  *endpoint.Client
	header    http.Header
	breaker   *Breaker
	passwords *memory // nil: none are remembered
	accounts  *memory // nil: none are remembered
}

// New makes the Client for a host, a domain alone, of the endpoint with that
// address: https, or on this machine. The error is endpoint.ErrURL.
func New(host jid.JID, address string, o Options) (*Client, error) {
	if !host.IsHost() {
		panic("callout: " + host.String() + " is no host")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.RememberExists == 0 {
		o.RememberExists = time.Minute
	}
	if o.Entries <= 0 {
		o.Entries = 16384
	}
	client, err := endpoint.New(address, endpoint.Options{
		Timeout: o.Timeout, Concurrency: o.Concurrency, MaxBytes: 16 << 10, TLS: o.TLS,
	})
	if err != nil {
		return nil, err
	}
	c := &Client{host: host.Domain(), o: o, endpoint: client, breaker: NewBreaker(o.Breaker, o.Now)}
	c.header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	if o.Secret != "" {
		c.header.Set("Authorization", "Bearer "+o.Secret)
	}
	if o.RememberPasswords > 0 {
		c.passwords = newMemory(o.RememberPasswords, o.Entries, o.Now)
	}
	if o.RememberExists > 0 {
		c.accounts = newMemory(o.RememberExists, o.Entries, o.Now)
	}
	return c, nil
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.endpoint.Close() }

// question is what the endpoint is sent.
type question struct {
	Kind     string `json:"kind"`
	Host     string `json:"host"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Token    string `json:"token,omitempty"`
}

// answer is what it says.
type answer struct {
	OK       *bool  `json:"ok"`
	Username string `json:"username"`
}

// CheckPassword reports whether password is that of username, a prepared
// localpart. The error is a *sasl.Failure for an account that is disabled, ErrOpen,
// ErrAnswer, or that of the connection.
func (c *Client) CheckPassword(ctx context.Context, username, password string) (bool, error) {
	if c.passwords != nil {
		if ok, known := c.passwords.get(username, password); known {
			return ok, nil
		}
	}
	a, err := c.ask(ctx, question{Kind: "password", Username: username, Password: password})
	if err != nil {
		return false, err
	}
	// An endpoint that lets people log in by another name, such as an address of
	// mail, must not have us take that name for the account.
	if a.Username != "" && a.Username != username {
		return false, fmt.Errorf("%w: another's name", ErrAnswer)
	}
	if *a.OK && c.passwords != nil {
		c.passwords.put(true, username, password)
	}
	return *a.OK, nil
}

// CheckToken returns the prepared localpart of the account that token admits.
// username is what the client asks for, "" for none. The error is a
// *sasl.TokenRefusal, or as for CheckPassword.
func (c *Client) CheckToken(ctx context.Context, username, token string) (string, error) {
	refusal := &sasl.TokenRefusal{Status: sasl.InvalidToken, Scope: c.o.Scope, Configuration: c.o.Configuration, Cause: errRefused}
	if token == "" {
		return "", refusal
	}
	a, err := c.ask(ctx, question{Kind: "token", Username: username, Token: token})
	if err != nil {
		return "", err
	}
	if !*a.OK {
		return "", refusal
	}
	if a.Username == "" {
		a.Username = username
	}
	if local, err := jid.PrepareLocal(a.Username); err != nil || local != a.Username {
		return "", fmt.Errorf("%w: no name of an account", ErrAnswer)
	}
	return a.Username, nil
}

// Exists reports whether username, a prepared localpart, is an account, which may
// not have logged in yet. A disabled one is. The error is as for CheckPassword.
func (c *Client) Exists(ctx context.Context, username string) (bool, error) {
	if c.accounts != nil {
		if ok, known := c.accounts.get(username); known {
			return ok, nil
		}
	}
	a, err := c.ask(ctx, question{Kind: "exists", Username: username})
	var disabled *sasl.Failure
	exists := errors.As(err, &disabled) && disabled.Condition == sasl.AccountDisabled
	if err != nil && !exists {
		return false, err
	}
	if exists = exists || *a.OK; c.accounts != nil {
		c.accounts.put(exists, username)
	}
	return exists, nil
}

// ask puts a question, unless the endpoint is left alone. In an answer without an
// error, OK is set.
func (c *Client) ask(ctx context.Context, q question) (*answer, error) {
	q.Host = c.host
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("callout: %w", err)
	}
	if !c.breaker.Allow() {
		return nil, ErrOpen
	}
	got, err := c.endpoint.Do(ctx, http.MethodPost, c.header, body)
	var a *answer
	if err == nil {
		a, err = read(got)
	}
	var disabled *sasl.Failure
	switch {
	case err == nil || errors.As(err, &disabled):
		c.breaker.Succeeded()
	case ctx.Err() != nil:
		c.breaker.Abandoned() // the asker's impatience is not the endpoint's fault
	default:
		if c.breaker.Failed() {
			c.o.Logger.Error("the endpoint for logins fails, and is left alone for a while",
				"host", c.host, "at", c.endpoint.Host(), "err", err)
		} else {
			c.o.Logger.Warn("the endpoint for logins has failed", "host", c.host, "at", c.endpoint.Host(), "kind", q.Kind, "err", err)
		}
	}
	return a, err
}

// read makes sense of an answer.
func read(got *endpoint.Answer) (*answer, error) {
	no := false
	switch got.Status {
	case http.StatusOK:
		var a answer
		if err := json.Unmarshal(got.Body, &a); err != nil || a.OK == nil {
			return nil, fmt.Errorf("%w: no JSON object with ok", ErrAnswer)
		}
		return &a, nil
	case http.StatusUnauthorized, http.StatusNotFound:
		return &answer{OK: &no}, nil
	case http.StatusForbidden:
		return nil, &sasl.Failure{Condition: sasl.AccountDisabled, Cause: errRefused} // RFC 6120 §6.5.2
	}
	return nil, fmt.Errorf("%w: status %d", ErrAnswer, got.Status)
}
