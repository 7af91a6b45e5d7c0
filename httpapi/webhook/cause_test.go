package webhook

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"trivium/core/mod/modtest"
)

// speaker answers every connection with some octets, whatever it is sent.
func speaker(t *testing.T, says string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				buf := make([]byte, 1)
				_, _ = c.Read(buf)
				_, _ = io.WriteString(c, says)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().String()
}

// What an attempt has failed of says nothing of what answered, nor where.
func TestCauseTellsNothing(t *testing.T) {
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = nil
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refuses := closed.Addr().String()
	closed.Close()
	for _, tt := range []struct{ name, url string }{
		{"another protocol", "http://" + speaker(t, "SSH-2.0-canary\r\n") + "/secret"},
		{"bad status", "http://" + speaker(t, "HTTP/1.1 canary canary\r\n\r\n") + "/secret"},
		{"bad header", "http://" + speaker(t, "HTTP/1.1 200 OK\r\nca nary canary\r\n\r\n") + "/secret"},
		{"bad length", "http://" + speaker(t, "HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n") + "/secret"},
		{"bad chunk", "http://" + speaker(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\ncanary") + "/secret"},
		{"bad coding", "http://" + speaker(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: canary\r\n\r\n") + "/secret"},
		{"large header", "http://" + speaker(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("canary", 20000)+"\r\n\r\n") + "/secret"},
		{"no TLS", "https://" + speaker(t, "canary canary canary") + "/secret"},
		{"untrusted", untrusted.URL + "/secret"},
		{"nobody", "http://" + refuses + "/secret"},
		{"no such host", "http://canary.invalid/secret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := modtest.New(t)
			w, _ := start(t, s, Endpoint{URL: tt.url, Timeout: 5 * time.Second}, Options{})
			trial, err := w.Try(t.Context(), "app")
			if err != nil || trial.OK || trial.Error == "" {
				t.Fatalf("%+v, %v", trial, err)
			}
			for _, word := range []string{"canary", "secret", "127.0.0.1", "://"} {
				if strings.Contains(trial.Error, word) {
					t.Errorf("it tells %q", trial.Error)
				}
			}
			t.Log(trial.Error)
		})
	}
}

// Every other error is told in our words too.
func TestCauseOfAnything(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("canary"), &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("canary")},
		&tls.CertificateVerificationError{Err: fmt.Errorf("canary")},
		tls.RecordHeaderError{Msg: "canary"},
	} {
		if got := cause(context.Background(), err).Error(); strings.Contains(got, "canary") {
			t.Errorf("%T: %q", err, got)
		}
	}
}
