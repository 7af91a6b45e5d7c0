package bosh

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"trivium/core/stream"
)

// site is a real HTTP server with the endpoint on a router.
func site(t testing.TB, secure bool, opt Options) (*httptest.Server, chan *peer) {
	t.Helper()
	peers := make(chan *peer, 4096)
	h := New(taking(func(c stream.Conn) {
		p := &peer{conn: c}
		peers <- p
		p.run()
	}), opt)
	r := chi.NewRouter()
	r.Handle(Path, h)
	s := httptest.NewUnstartedServer(r)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() { h.Close(); s.Close() })
	return s, peers
}

func do(t testing.TB, c *http.Client, method, url, text string, header ...string) (*http.Response, string) {
	t.Helper()
	rq, err := http.NewRequest(method, url+Path, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		rq.Header.Set(header[i], header[i+1])
	}
	rs, err := c.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Body.Close()
	all, err := io.ReadAll(rs.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rs, string(all)
}

func TestOverHTTP(t *testing.T) {
	s, _ := site(t, true, Options{})
	c := s.Client()
	rs, text := do(t, c, "POST", s.URL, "<body rid='100' to='example.com' ver='1.6' wait='60' hold='1' xmlns='"+NS+"'/>")
	r := parseReply(t, rs, text)
	sid := r.attrs["sid"]
	for rid := 101; rid < 120; rid++ {
		rs, text = do(t, c, "POST", s.URL, fmt.Sprintf("<body rid='%d' sid='%s' xmlns='%s'>%s</body>", rid, sid, NS, hello))
		parseReply(t, rs, text).want(t, hello)
	}
	if len(rs.TransferEncoding) != 0 { // XEP-0124 §5
		t.Errorf("transfer encoding %v", rs.TransferEncoding)
	}
	big := "<message xmlns='jabber:client'><body>" + strings.Repeat("x", 200_000) + "</body></message>"
	rs, text = do(t, c, "POST", s.URL, fmt.Sprintf("<body rid='120' sid='%s' xmlns='%s'>%s</body>", sid, NS, big))
	parseReply(t, rs, text).want(t, big)
	rs, text = do(t, c, "POST", s.URL, fmt.Sprintf("<body rid='121' sid='%s' type='terminate' xmlns='%s'/>", sid, NS))
	parseReply(t, rs, text).want(t, "", "type", "terminate")
}

// XEP-0124 §19.1: a secure session is not continued over a connection that is
// not, and does not end for it.
func TestSecureSession(t *testing.T) {
	secure := atomic.Bool{}
	secure.Store(true)
	s, peers := site(t, false, Options{Secure: func(*http.Request) bool { return secure.Load() }})
	c := s.Client()
	rs, text := do(t, c, "POST", s.URL, "<body rid='100' to='example.com' ver='1.6' xmlns='"+NS+"'/>")
	sid := parseReply(t, rs, text).attrs["sid"]
	if p := <-peers; !p.conn.Info().Secure {
		t.Error("not secure")
	}
	secure.Store(false)
	next := fmt.Sprintf("<body rid='101' sid='%s' xmlns='%s'>%s</body>", sid, NS, hello)
	if rs, err := c.Post(s.URL+Path, "text/xml", strings.NewReader(next)); err == nil {
		rs.Body.Close()
		t.Errorf("status %d in clear", rs.StatusCode)
	}
	secure.Store(true)
	rs, text = do(t, c, "POST", s.URL, next)
	parseReply(t, rs, text).want(t, hello)
}

func TestMethods(t *testing.T) {
	s, _ := site(t, false, Options{})
	for _, tt := range []struct {
		method string
		status int
		typ    string
	}{
		{"GET", 200, "text/html; charset=utf-8"},
		{"HEAD", 200, "text/html; charset=utf-8"},
		{"OPTIONS", 204, ""},
		{"PUT", 405, "text/plain; charset=utf-8"},
		{"DELETE", 405, "text/plain; charset=utf-8"},
	} {
		rs, _ := do(t, s.Client(), tt.method, s.URL, "")
		if rs.StatusCode != tt.status || rs.Header.Get("Content-Type") != tt.typ {
			t.Errorf("%s: %d %q", tt.method, rs.StatusCode, rs.Header.Get("Content-Type"))
		}
		if tt.status == 405 && rs.Header.Get("Allow") == "" {
			t.Errorf("%s: no Allow", tt.method)
		}
	}
	rs, text := do(t, s.Client(), "POST", s.URL, "x", "Content-Encoding", "gzip")
	parseReply(t, rs, text).want(t, "", "type", "terminate", "condition", "bad-request")
}

func TestCORS(t *testing.T) {
	const create = "<body rid='1' to='example.com' ver='1.6' xmlns='" + NS + "'/>"
	for _, tt := range []struct {
		origins []string
		origin  string
		ok      bool
	}{
		{nil, "https://chat.example.org", false},
		{nil, "SELF", true},
		{[]string{"https://chat.example.org"}, "https://chat.example.org", true},
		{[]string{"https://*.example.org"}, "https://chat.example.org", true},
		{[]string{"https://*.example.org"}, "https://chat.example.org.example.net", false},
		{[]string{"*"}, "https://anywhere.example", true},
		{[]string{"*"}, "", true},
		{nil, "", true},
	} {
		s, _ := site(t, false, Options{Origins: tt.origins})
		origin := strings.Replace(tt.origin, "SELF", s.URL, 1)
		var header []string
		if origin != "" {
			header = []string{"Origin", origin}
		}
		for _, method := range []string{"OPTIONS", "POST"} {
			rs, _ := do(t, s.Client(), method, s.URL, create, header...)
			if ok := rs.StatusCode < 300; ok != tt.ok {
				t.Errorf("%v, %s from %q: status %d", tt.origins, method, origin, rs.StatusCode)
			}
			want := ""
			if tt.ok {
				want = origin
			}
			if got := rs.Header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%v, %s from %q: Access-Control-Allow-Origin %q", tt.origins, method, origin, got)
			}
			if got := rs.Header.Get("Access-Control-Allow-Credentials"); got != "" {
				t.Errorf("credentials: %q", got)
			}
			if origin != "" && rs.Header.Get("Vary") != "Origin" {
				t.Errorf("Vary %q", rs.Header.Get("Vary"))
			}
			if method == "OPTIONS" && tt.ok && origin != "" &&
				(!strings.Contains(rs.Header.Get("Access-Control-Allow-Methods"), "POST") || rs.Header.Get("Access-Control-Allow-Headers") != "Content-Type") {
				t.Errorf("preflight: %v", rs.Header)
			}
		}
	}
}

// XEP-0124 §7.1: the client chooses the type of responses, and gets nothing that
// a browser would run.
func TestContentType(t *testing.T) {
	s, _ := site(t, false, Options{})
	rs, _ := do(t, s.Client(), "POST", s.URL, "<body rid='1' to='example.com' ver='1.6' content='text/html; charset=utf-8' xmlns='"+NS+"'/>")
	if got := rs.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	if !strings.Contains(rs.Header.Get("Content-Security-Policy"), "sandbox") || rs.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("header %v", rs.Header)
	}
}

// A body that does not come has a limit in time, and one that does not end in
// size.
func TestBodyLimits(t *testing.T) {
	s, _ := site(t, false, Options{BodyTimeout: 50 * time.Millisecond, MaxBody: 1000})
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100\r\n\r\n<body", Path)
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if all, err := io.ReadAll(c); err != nil || strings.Contains(string(all), "sid=") {
		t.Errorf("%q, %v", all, err)
	}
	rs, text := do(t, s.Client(), "POST", s.URL, strings.Repeat(" ", 1001))
	parseReply(t, rs, text).want(t, "", "type", "terminate", "condition", "policy-violation")
	// Chunked, so that nothing is announced.
	rq, _ := http.NewRequest("POST", s.URL+Path, io.MultiReader(bytes.NewReader(make([]byte, 600)), bytes.NewReader(make([]byte, 600))))
	if rs, err := s.Client().Do(rq); err == nil {
		if all, _ := io.ReadAll(rs.Body); !strings.Contains(string(all), "policy-violation") {
			t.Errorf("%s", all)
		}
		rs.Body.Close()
	}
}

// A held request whose connection breaks is noticed.
func TestBrokenHTTP(t *testing.T) {
	s, peers := site(t, false, Options{})
	rs, text := do(t, s.Client(), "POST", s.URL, "<body rid='100' to='example.com' ver='1.6' wait='60' hold='1' xmlns='"+NS+"'/>")
	sid := parseReply(t, rs, text).attrs["sid"]
	p := <-peers
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	next := fmt.Sprintf("<body rid='101' sid='%s' xmlns='%s'>%s</body>", sid, NS, quiet)
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: example.com\r\nContent-Length: %d\r\n\r\n%s", Path, len(next), next)
	conn := p.conn.(*Conn)
	until(t, func() bool { conn.mu.Lock(); defer conn.mu.Unlock(); return conn.live == 1 })
	c.Close()
	until(t, func() bool { conn.mu.Lock(); defer conn.mu.Unlock(); return conn.live == 0 })
	if _, err := p.conn.Write(batch("<presence/>"), nil); err != nil {
		t.Fatal(err)
	}
	rs, text = do(t, s.Client(), "POST", s.URL, next)
	parseReply(t, rs, text).want(t, "<presence xmlns='jabber:client'/>")
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

// Only what is late is answered with 408 (RFC 9110 §15.5.9); what is no HTTP is a
// bad request, and the connection cannot be used again (RFC 9112 §6.3, §7.1).
func TestBrokenBody(t *testing.T) {
	s, peers := site(t, false, Options{BodyTimeout: 20 * time.Second})
	hasty, hastyPeers := site(t, false, Options{BodyTimeout: 50 * time.Millisecond})
	const chunked, ten = "Transfer-Encoding: chunked", "Content-Length: 10"
	for _, tt := range []struct {
		name, header, body string
		server             *httptest.Server
		half               bool // close our side after the body
		status             int
	}{
		{"no number", chunked, "zz\r\n<body/>\r\n0\r\n\r\n", s, false, 400},
		{"wrong size", chunked, "3\r\n<body/>\r\n0\r\n\r\n", s, false, 400},
		{"number too long", chunked, "fffffffffffffffff\r\n<body/>", s, false, 400},
		{"chunk cut off", chunked, "ff\r\n<body", s, true, 400},
		{"body cut off", ten, "<body", s, true, 400},
		{"chunk late", chunked, "7\r\n<body", hasty, false, 408},
		{"body late", ten, "<body", hasty, false, 408},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", tt.server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: example.com\r\n%s\r\n\r\n%s", Path, tt.header, tt.body)
			if tt.half {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			rs, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			rs.Body.Close()
			if rs.StatusCode != tt.status || !rs.Close {
				t.Errorf("status %d, close %v; want %d, true", rs.StatusCode, rs.Close, tt.status)
			}
		})
	}
	if len(peers)+len(hastyPeers) != 0 {
		t.Error("a session was made")
	}
}
