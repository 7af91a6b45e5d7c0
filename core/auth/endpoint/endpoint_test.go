package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestURLs(t *testing.T) {
	for _, tt := range []struct {
		url string
		ok  bool
	}{
		{"https://idp.example.org/keys", true},
		{"https://10.0.0.1:8443/keys?a=b", true},
		{"http://127.0.0.1:80/", true},
		{"http://127.9.9.9/", true},
		{"http://[::1]:80/", true},
		{"http://localhost/", true},
		{"http://localhost.example.org/", false},
		{"http://127.0.0.1.example.org/", false},
		{"http://10.0.0.1/", false},
		{"http://example.org/", false},
		{"http://0.0.0.0/", false},
		{"https://user:secret@example.org/", false},
		{"https://example.org/#a", false},
		{"https:///keys", false},
		{"https:example.org", false},
		{"ftp://localhost/", false},
		{"file:///etc/passwd", false},
		{"localhost", false},
		{"", false},
		{"https://exa mple.org:secret/", false},
	} {
		c, err := New(tt.url, Options{})
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrURL) || (c == nil) == tt.ok {
			t.Errorf("%s: %v", tt.url, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v tells a secret", tt.url, err)
		}
	}
}

func newClient(t *testing.T, h http.HandlerFunc, o Options) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := New(srv.URL+"/?key=secret", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestDo(t *testing.T) {
	var connections sync.Map
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		connections.Store(r.RemoteAddr, true)
		body, _ := io.ReadAll(r.Body)
		if _, sent := r.Header["Idempotency-Key"]; sent || r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("headers %v", r.Header)
		}
		w.Header().Set("X-Echo", r.Header.Get("X-Test"))
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(append([]byte(r.Method+" "), body...))
	}, Options{})
	for range 3 {
		a, err := c.Do(t.Context(), http.MethodPost, http.Header{"X-Test": {"yes"}}, []byte("body"))
		if err != nil || a.Status != http.StatusForbidden || string(a.Body) != "POST body" || a.Header.Get("X-Echo") != "yes" {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	n := 0
	connections.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d connections for three requests, want 1", n)
	}
}

// A redirect is an answer, and nobody else learns of the request.
func TestNoRedirect(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		c := newClient(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) }, Options{})
		a, err := c.Do(t.Context(), http.MethodPost, nil, []byte("password"))
		if err != nil || a.Status != status {
			t.Errorf("%d: %+v, %v", status, a, err)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

func TestSizes(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for size, want := range map[int]error{0: nil, 100: nil, 101: ErrTooLarge, 1 << 20: ErrTooLarge} {
			c := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
				if chunked {
					w.(http.Flusher).Flush()
				}
				_, _ = w.Write(make([]byte, size))
			}, Options{MaxBytes: 100})
			a, err := c.Do(t.Context(), http.MethodGet, nil, nil)
			if !errors.Is(err, want) || err == nil && len(a.Body) != size {
				t.Errorf("%d octets, chunked %v: %v, want %v", size, chunked, err, want)
			}
		}
	}
}

// An endpoint that trickles, or says nothing, costs the timeout and no more, and
// the errors tell no secret. Those who wait for a turn meanwhile give up as well.
func TestSlow(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){
		"silent":   func(http.ResponseWriter) {},
		"headers":  func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"trickles": func(w http.ResponseWriter) { _, _ = w.Write([]byte("{")); w.(http.Flusher).Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				begin(w)
				<-r.Context().Done()
			}, Options{Timeout: 50 * time.Millisecond, Concurrency: 1})
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					_, err := c.Do(t.Context(), http.MethodPost, nil, []byte("x"))
					var timeout interface{ Timeout() bool }
					if !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &timeout) && timeout.Timeout()) {
						t.Errorf("%v, want a timeout", err)
					}
					if err != nil && strings.Contains(err.Error(), "secret") {
						t.Errorf("%v tells a secret", err)
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestBroken(t *testing.T) {
	c := newClient(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Options{})
	if a, err := c.Do(t.Context(), http.MethodPost, nil, []byte("x")); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%+v, %v", a, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, http.MethodPost, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
}

// http to a name of this machine does not go where the name has led.
func TestOnlyLoopback(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true, "10.0.0.1:80": false, "[fe80::1%lo]:80": false, "": false,
	} {
		if err := onlyLoopback("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A certificate of nobody's is refused, one of an authority that is named is not.
func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	defer srv.Close()
	srv.Config.ErrorLog = nil
	strict, err := New(srv.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer strict.Close()
	if a, err := strict.Do(t.Context(), http.MethodGet, nil, nil); err == nil {
		t.Errorf("%+v from an endpoint that nobody vouches for", a)
	}
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	named, err := New(srv.URL, Options{TLS: &tls.Config{RootCAs: pool}})
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	if a, err := named.Do(t.Context(), http.MethodGet, nil, nil); err != nil || string(a.Body) != "ok" {
		t.Errorf("%+v, %v", a, err)
	}
}
