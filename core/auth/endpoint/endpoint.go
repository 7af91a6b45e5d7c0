// Package endpoint owns the HTTP connections to one address of the operator's that
// logins depend on: an authority that is asked about passwords, or a set of keys.
//
// The address is trusted, what it answers is not: an answer has a limit of time
// and size, is not decompressed, and leads nowhere else. It is https, or http to
// this machine, checked again when the name has become an address.
package endpoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Errors of this package.
var (
	ErrURL      = errors.New("endpoint: not an https URL, nor http to this machine")
	ErrTooLarge = errors.New("endpoint: the answer is too large")
	ErrBusy     = errors.New("endpoint: too many requests wait for answers")
	errLoopback = errors.New("endpoint: http leads off this machine")
)

// Options tune a Client. The zero value is the default.
type Options struct {
	// Timeout bounds a whole exchange, the wait for a turn and the body included;
	// 5 s if 0.
	Timeout time.Duration
	// MaxBytes bounds the body of an answer in octets; 64 KiB if 0.
	MaxBytes int
	// Concurrency is how many requests run at a time, and how many connections
	// there are at most; 16 if 0. More requests wait for their turn.
	Concurrency int
	// TLS is how the endpoint is authenticated; the system's authorities if nil.
	TLS *tls.Config
}

// Client talks to one endpoint. It is for concurrent use.
type Client struct {
	url   string
	host  string
	o     Options
	http  *http.Client
	turns chan struct{}
}

// New makes the Client of an address. The error is ErrURL.
func New(address string, o Options) (*Client, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, ErrURL // err repeats the address, which may hold a secret
	case u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Errorf("%w, with a host and without credentials or a fragment", ErrURL)
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, ErrURL
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 10
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 16
	}
	dialer := &net.Dialer{Timeout: o.Timeout}
	if u.Scheme == "http" {
		dialer.Control = onlyLoopback
	}
	return &Client{
		url:   u.String(),
		host:  u.Host,
		o:     o,
		turns: make(chan struct{}, o.Concurrency),
		http: &http.Client{
			// A redirect could lead off to http, or to another who is then told
			// passwords: the answer that has it is the answer.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				// No proxy: the environment does not decide who sees passwords.
				DialContext:            dialer.DialContext,
				TLSClientConfig:        o.TLS,
				TLSHandshakeTimeout:    o.Timeout,
				ResponseHeaderTimeout:  o.Timeout,
				MaxConnsPerHost:        o.Concurrency,
				MaxIdleConnsPerHost:    o.Concurrency,
				IdleConnTimeout:        time.Minute,
				DisableCompression:     true,
				MaxResponseHeaderBytes: 16 << 10,
			},
		},
	}, nil
}

// isLoopback reports whether a URL's host is this machine by its name.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// onlyLoopback is a net.Dialer.Control: whatever "localhost" became.
func onlyLoopback(_, address string, _ syscall.RawConn) error {
	if at, err := netip.ParseAddrPort(address); err != nil || !at.Addr().Unmap().IsLoopback() {
		return errLoopback
	}
	return nil
}

// Host returns the endpoint's host, and port if its address has one: for logs,
// which must not have the rest.
func (c *Client) Host() string { return c.host }

// Answer is a complete answer, of any status.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends one request and returns the whole answer. header may be nil. The
// request may be sent twice if a connection breaks: it has to be harmless. The
// error is ErrTooLarge, ErrBusy, a context's, or that of the network; it tells no
// part of the request.
func (c *Client) Do(ctx context.Context, method string, header http.Header, body []byte) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	rq, err := http.NewRequestWithContext(ctx, method, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, plain(err)
	}
	if header != nil {
		rq.Header = header.Clone()
	}
	rq.Header["Idempotency-Key"] = nil // not sent; lets the transport replace a connection that was closed while idle
	rq.Header.Set("User-Agent", "trivium")
	rs, err := c.http.Do(rq)
	if err != nil {
		return nil, plain(err)
	}
	defer rs.Body.Close()
	if rs.ContentLength > int64(c.o.MaxBytes) {
		return nil, ErrTooLarge
	}
	content, err := io.ReadAll(io.LimitReader(rs.Body, int64(c.o.MaxBytes)+1))
	switch {
	case err != nil:
		return nil, plain(err)
	case len(content) > c.o.MaxBytes:
		return nil, ErrTooLarge
	}
	return &Answer{Status: rs.StatusCode, Header: rs.Header, Body: content}, nil
}

// plain takes the address out of an error: its query may hold a secret.
func plain(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return fmt.Errorf("endpoint: %w", err)
}

// Close closes the connections that are idle. A Client may be used afterwards.
func (c *Client) Close() { c.http.CloseIdleConnections() }
