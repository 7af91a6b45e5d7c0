package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// writeCert writes a self-signed certificate for the names to one PEM file.
func writeCert(t *testing.T, path string, names ...string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: names[0]},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(90 * 24 * time.Hour),
		DNSNames:     names,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	text, err := encodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(encodeCertificate(der), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	return leaf
}

func newStore(t *testing.T, opts Options) *Store {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// outcome is what both ends of a handshake saw.
type outcome struct {
	client tls.ConnectionState
	leaf   *x509.Certificate // what the server remembers
}

// recorder is a Rememberer.
type recorder struct {
	net.Conn
	leaf atomic.Pointer[x509.Certificate]
}

func (r *recorder) RememberLeaf(leaf *x509.Certificate) { r.leaf.Store(leaf) }

// handshake connects a client to a server over loopback (a net.Pipe would lock
// up where both ends write at once). One byte crosses after the handshake, so
// that the client has seen the tickets of TLS 1.3.
func handshake(server, client *tls.Config) (outcome, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return outcome{}, err
	}
	defer l.Close()
	type result struct {
		leaf *x509.Certificate
		err  error
	}
	done := make(chan result, 1)
	go func() {
		inner, err := l.Accept()
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer inner.Close()
		transport := &recorder{Conn: inner}
		conn := tls.Server(transport, server)
		if err = conn.Handshake(); err == nil {
			_, err = conn.Write([]byte("!"))
		}
		done <- result{transport.leaf.Load(), err}
	}()
	inner, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return outcome{}, err
	}
	defer inner.Close()
	conn := tls.Client(inner, client)
	if err = conn.Handshake(); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	inner.Close() // whatever the server still waits for
	got := <-done
	if err == nil {
		err = got.err
	}
	return outcome{conn.ConnectionState(), got.leaf}, err
}

// trusting returns a client configuration that checks nothing of the chain: the
// tests look at which certificate came.
func trusting(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true}
}

func TestDevelopmentCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	s := newStore(t, Options{Dir: dir, Hosts: []string{"example.org", "münchen.example"}})
	pem, err := os.ReadFile(s.CAPath())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(pem, []byte("PRIVATE")) {
		t.Error("the file that clients are given contains a private key")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("CAPath is not a certificate in PEM")
	}
	for _, host := range []string{"example.org", "xn--mnchen-3ya.example"} {
		// A client that trusts the CA verifies the whole chain and the name.
		if _, err := handshake(s.ServerConfig(), &tls.Config{ServerName: host, RootCAs: roots}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		want := os.FileMode(0o600)
		if entry.Name() == "ca.pem" {
			want = 0o644
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", entry.Name(), info.Mode().Perm(), want)
		}
		names = append(names, entry.Name())
	}
	if want := []string{"ca.key", "ca.pem", "example.org.pem", "xn--mnchen-3ya.example.pem"}; !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v, want mode 0700", info.Mode(), err)
	}
}

func TestDevelopmentCertificatesAreWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	leafAt := func(now time.Time, hosts ...string) *x509.Certificate {
		s := newStore(t, Options{Dir: dir, Hosts: hosts, Now: func() time.Time { return now }})
		return s.current.Load().first[0].Leaf
	}
	first := leafAt(start, "example.org")
	if !leafAt(start.Add(24*time.Hour), "example.org").Equal(first) {
		t.Error("a second start made another certificate")
	}
	if !leafAt(start, "example.org", "example.net").Equal(first) {
		t.Error("a new host changed the certificate of the old one")
	}
	late := leafAt(first.NotAfter.Add(-renewBefore), "example.org")
	if late.Equal(first) {
		t.Error("a certificate about to expire was not renewed")
	}
	if !bytes.Equal(late.AuthorityKeyId, first.AuthorityKeyId) {
		t.Error("the renewal made a new CA, which no client trusts")
	}
	ca := late.AuthorityKeyId
	if next := leafAt(start.Add(caLifetime-leafLifetime+time.Hour), "example.org"); bytes.Equal(next.AuthorityKeyId, ca) {
		t.Error("a CA that would expire before its certificates was not renewed")
	}
}

func TestDamagedCAIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	newStore(t, Options{Dir: dir, Hosts: []string{"example.org"}})
	file := filepath.Join(dir, "ca.key")
	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: dir, Hosts: []string{"example.org"}}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("New: %v, want an error that names %s", err, file)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "no key" {
		t.Errorf("the file was changed: %q, %v", text, err)
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.pem"), filepath.Join(dir, "two.pem")
	writeCert(t, one, "example.org")
	writeCert(t, two, "example.org")
	for _, tt := range []struct {
		name string
		opts Options
		want string
	}{
		{"no hosts", Options{Dir: dir}, "no hosts"},
		{"no directory", Options{Hosts: []string{"example.org"}}, "no directory"},
		{"missing file", Options{Hosts: []string{"example.org"}, Files: []File{{Cert: dir + "/none.pem"}}}, "none.pem"},
		{"foreign key", Options{Hosts: []string{"example.org"}, Files: []File{{Cert: one, Key: two}}}, "two.pem"},
		{"path as host", Options{Dir: dir, Hosts: []string{"../../etc/passwd"}}, "passwd"},
		{"empty host", Options{Dir: dir, Hosts: []string{""}}, "empty name"},
	} {
		if _, err := New(tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}

func TestSelection(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	org := writeCert(t, path("org.pem"), "example.org", "www.example.org")
	wild := writeCert(t, path("wild.pem"), "*.example.net", "example.net")
	bound := writeCert(t, path("bound.pem"), "elsewhere.example")
	s := newStore(t, Options{
		Dir:   path("made"),
		Hosts: []string{"example.org", "example.net", "chat.example.com", "own.example"},
		Files: []File{
			{Cert: path("org.pem")},
			{Cert: path("wild.pem")},
			{Cert: path("bound.pem"), Hosts: []string{"chat.example.com"}},
		},
	})
	own := s.current.Load().byName["own.example"][0].Leaf
	for _, tt := range []struct {
		sni, host string
		want      *x509.Certificate
	}{
		{"example.org", "", org},
		{"EXAMPLE.org", "", org},
		{"www.example.org", "", org},
		{"example.net", "", wild},
		{"muc.example.net", "", wild},
		{"a.b.example.net", "", org}, // a wildcard stands for one label
		{"chat.example.com", "", bound},
		{"own.example", "", own},
		{"", "", org}, // the default host
		{"unknown.example", "", org},
		{"", "example.net", wild}, // STARTTLS: the stream header told
		{"unknown.example", "own.example", own},
		{"example.org", "example.net", org}, // the server name is the stronger word
		{"", "unknown.example", org},
	} {
		config := s.HostConfig(tt.host)
		got, err := handshake(config, trusting(tt.sni))
		if err != nil {
			t.Errorf("SNI %q, host %q: %v", tt.sni, tt.host, err)
			continue
		}
		if sent := got.client.PeerCertificates[0]; !sent.Equal(tt.want) {
			t.Errorf("SNI %q, host %q: sent %v, want %v", tt.sni, tt.host, sent.DNSNames, tt.want.DNSNames)
		}
		if !got.leaf.Equal(tt.want) {
			t.Errorf("SNI %q, host %q: Leaf is not the certificate that was sent", tt.sni, tt.host)
		}
	}
}

func TestProtocolPolicy(t *testing.T) {
	s := newStore(t, Options{Dir: t.TempDir(), Hosts: []string{"example.org"}})
	for _, tt := range []struct {
		name    string
		client  func(*tls.Config)
		version uint16 // 0 if refused
		alpn    string
	}{
		{name: "1.3 preferred", client: func(*tls.Config) {}, version: tls.VersionTLS13},
		{name: "1.2 accepted", client: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, version: tls.VersionTLS12},
		{name: "1.1 refused", client: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }},
		{name: "CBC refused", client: func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}},
		{name: "static RSA refused", client: func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		}},
		{name: "ALPN", client: func(c *tls.Config) { c.NextProtos = []string{"xmpp-client"} }, version: tls.VersionTLS13, alpn: "xmpp-client"},
		{name: "ALPN of servers refused", client: func(c *tls.Config) { c.NextProtos = []string{"xmpp-server"} }},
	} {
		client := trusting("example.org")
		tt.client(client)
		got, err := handshake(s.ServerConfig(ALPNClient), client)
		switch {
		case tt.version == 0 && err == nil:
			t.Errorf("%s: the handshake succeeded", tt.name)
		case tt.version != 0 && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case got.client.Version != tt.version && tt.version != 0:
			t.Errorf("%s: version %x, want %x", tt.name, got.client.Version, tt.version)
		case got.client.NegotiatedProtocol != tt.alpn && tt.version != 0:
			t.Errorf("%s: protocol %q, want %q", tt.name, got.client.NegotiatedProtocol, tt.alpn)
		}
	}
}

// A resumed handshake carries no certificate, yet both ends must agree on
// tls-server-end-point (RFC 5929 §4).
func TestResumptionKeepsTheCertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			dir := t.TempDir()
			org, net := filepath.Join(dir, "org.pem"), filepath.Join(dir, "net.pem")
			first := writeCert(t, org, "example.org")
			writeCert(t, net, "example.net")
			s := newStore(t, Options{Hosts: []string{"example.org", "example.net"}, Files: []File{{Cert: org}, {Cert: net}}})
			config := s.ServerConfig()
			cache := tls.NewLRUClientSessionCache(8)
			connect := func(name string) outcome {
				t.Helper()
				client := trusting(name)
				client.MaxVersion = version
				client.ClientSessionCache = cache
				got, err := handshake(config, client)
				if err != nil {
					t.Fatal(err)
				}
				if ours, theirs := EndPointBinding(got.leaf), EndPointBinding(got.client.PeerCertificates[0]); !bytes.Equal(ours, theirs) {
					t.Errorf("%s, resumed %v: the ends disagree on tls-server-end-point", name, got.client.DidResume)
				}
				return got
			}
			if connect("example.org").client.DidResume {
				t.Fatal("the first connection resumed nothing")
			}
			for range 3 {
				if !connect("example.org").client.DidResume {
					t.Error("no resumption: tickets are off")
				}
			}
			if err := s.Reload(); err != nil {
				t.Fatal(err)
			}
			if !connect("example.org").client.DidResume {
				t.Error("reading the same certificate again made tickets worthless")
			}
			second := writeCert(t, org, "example.org")
			if err := s.Reload(); err != nil {
				t.Fatal(err)
			}
			got := connect("example.org")
			if got.client.DidResume || !got.leaf.Equal(second) || got.leaf.Equal(first) {
				t.Error("a session of the old certificate was resumed under the new one")
			}
		})
	}
}

// A ticket of one virtual host is worthless at another.
func TestNoResumptionAcrossHosts(t *testing.T) {
	s := newStore(t, Options{Dir: t.TempDir(), Hosts: []string{"example.org", "example.net"}})
	config := s.ServerConfig()
	cache := &oneSession{}
	for i, name := range []string{"example.org", "example.net"} {
		client := trusting(name)
		client.ClientSessionCache = cache
		got, err := handshake(config, client)
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 && got.client.DidResume {
			t.Error("example.net resumed a session of example.org")
		}
		if i == 1 && cache.offered == 0 {
			t.Error("the client offered no ticket: the test shows nothing")
		}
	}
}

// oneSession offers the session it holds to every server.
type oneSession struct {
	session *tls.ClientSessionState
	offered int
}

func (c *oneSession) Put(_ string, s *tls.ClientSessionState) { c.session = s }
func (c *oneSession) Get(string) (*tls.ClientSessionState, bool) {
	if c.session != nil {
		c.offered++
	}
	return c.session, c.session != nil
}

func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cert.pem")
	first := writeCert(t, file, "example.org")
	s := newStore(t, Options{Hosts: []string{"example.org"}, Files: []File{{Cert: file}}})
	config := s.ServerConfig()
	shown := func() *x509.Certificate {
		t.Helper()
		got, err := handshake(config, trusting("example.org"))
		if err != nil {
			t.Fatal(err)
		}
		return got.client.PeerCertificates[0]
	}
	if !shown().Equal(first) {
		t.Error("not the configured certificate")
	}
	if err := os.WriteFile(file, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Reload of a damaged file: %v, want an error that names it", err)
	}
	if !shown().Equal(first) {
		t.Error("a failed reload changed the certificate")
	}
	second := writeCert(t, file, "example.org")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if !shown().Equal(second) {
		t.Error("a reload did not change the certificate")
	}
	if s.CAPath() != "" {
		t.Errorf("CAPath = %q without a development CA", s.CAPath())
	}
	// A new host without certificate brings the development CA in.
	if err := s.Replace([]string{"example.org", "example.net"}, []File{{Cert: file}}); err == nil {
		t.Error("Replace made a CA without a directory")
	}
	s.dir = t.TempDir()
	if err := s.Replace([]string{"example.org", "example.net"}, []File{{Cert: file}}); err != nil {
		t.Error(err)
	}
	if s.CAPath() == "" {
		t.Error("CAPath is empty, yet example.net has no configured certificate")
	}
	if !shown().Equal(second) {
		t.Error("a new host changed the certificate of the old one")
	}
}

func TestRunFollowsTheFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "cert.pem")
		writeCert(t, file, "example.org")
		s := newStore(t, Options{Hosts: []string{"example.org"}, Files: []File{{Cert: file}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx, time.Minute)
		shows := func(want *x509.Certificate, when string) {
			t.Helper()
			time.Sleep(time.Minute) // the fake clock of the bubble
			synctest.Wait()
			if got := s.current.Load().first[0].Leaf; !got.Equal(want) {
				t.Errorf("%s: serial %v, want %v", when, got.SerialNumber, want.SerialNumber)
			}
		}
		touch := func(minutes int) {
			t.Helper()
			at := time.Now().Add(time.Duration(minutes) * time.Minute)
			if err := os.Chtimes(file, at, at); err != nil {
				t.Fatal(err)
			}
		}
		second := writeCert(t, file, "example.org")
		touch(1)
		shows(second, "after a change")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		shows(second, "while the file is missing")
		third := writeCert(t, file, "example.org")
		touch(2)
		shows(third, "after the file came back")
	})
}

func TestRunRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Options{Dir: t.TempDir(), Hosts: []string{"example.org"}})
		first := s.current.Load().first[0].Leaf
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx, 24*time.Hour)
		time.Sleep(leafLifetime) // the fake clock of the bubble
		synctest.Wait()
		got := s.current.Load().first[0].Leaf
		if got.Equal(first) || !got.NotAfter.After(time.Now()) {
			t.Errorf("the certificate that ends %v was not renewed in time", first.NotAfter)
		}
	})
}

func TestEndPointBinding(t *testing.T) {
	raw := []byte("the certificate, octet for octet")
	s256, s384, s512 := sha256.Sum256(raw), sha512.Sum384(raw), sha512.Sum512(raw)
	for _, tt := range []struct {
		alg  x509.SignatureAlgorithm
		want []byte
	}{
		{x509.MD5WithRSA, s256[:]}, // RFC 5929 §4.1: MD5 and SHA-1 are replaced
		{x509.SHA1WithRSA, s256[:]},
		{x509.ECDSAWithSHA1, s256[:]},
		{x509.SHA256WithRSA, s256[:]},
		{x509.SHA256WithRSAPSS, s256[:]},
		{x509.ECDSAWithSHA256, s256[:]},
		{x509.SHA384WithRSA, s384[:]},
		{x509.ECDSAWithSHA384, s384[:]},
		{x509.SHA512WithRSAPSS, s512[:]},
		{x509.ECDSAWithSHA512, s512[:]},
		{x509.PureEd25519, nil}, // undefined: no hash function
		{x509.UnknownSignatureAlgorithm, nil},
	} {
		cert := &x509.Certificate{Raw: raw, SignatureAlgorithm: tt.alg}
		if got := EndPointBinding(cert); !bytes.Equal(got, tt.want) {
			t.Errorf("%v: %x, want %x", tt.alg, got, tt.want)
		}
	}
	if got := EndPointBinding(nil); got != nil {
		t.Errorf("no certificate: %x", got)
	}
}

// A handshake on a ready configuration must not build a new one.
func TestConfigPerConnectionAllocatesNothing(t *testing.T) {
	s := newStore(t, Options{Dir: t.TempDir(), Hosts: []string{"example.org"}})
	m := &maker{store: s, base: &tls.Config{}}
	hello := &tls.ClientHelloInfo{ServerName: "example.org", Conn: &recorder{}}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.configFor(hello); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocs, want 0", n)
	}
}
