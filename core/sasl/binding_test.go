package sasl

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	xdg "github.com/xdg-go/scram"

	"trivium/core/jid"
)

func certificate(t *testing.T, key crypto.Signer, alg x509.SignatureAlgorithm) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:       big.NewInt(1),
		Subject:            pkix.Name{CommonName: "example.org"},
		DNSNames:           []string{"example.org"},
		NotBefore:          time.Now().Add(-time.Hour),
		NotAfter:           time.Now().Add(time.Hour),
		SignatureAlgorithm: alg,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// handshake returns the states of both ends of a connection.
func handshake(t *testing.T, cert tls.Certificate, version uint16) (client, server tls.ConnectionState) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	srv := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true})
	cli := tls.Client(a, &tls.Config{RootCAs: roots, ServerName: "example.org", MaxVersion: version, MinVersion: tls.VersionTLS12})
	failed := make(chan error, 1)
	go func() { failed <- srv.HandshakeContext(t.Context()) }()
	if err := cli.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return cli.ConnectionState(), srv.ConnectionState()
}

// Over real TLS, a client that computes its bindings itself logs in.
func TestTLSBinding(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t, key, x509.ECDSAWithSHA384)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		clientState, serverState := handshake(t, cert, version)
		if clientState.Version != version {
			t.Fatalf("negotiated %x", clientState.Version)
		}
		s := New(jid.Must("example.org"), &accounts{passwords: map[string]string{"juliet": "x"}}, Options{})
		o := s.Offer(true, TLS{State: &serverState, Leaf: cert.Leaf})
		exporter, err := xdg.NewTLSExporterBinding(&clientState)
		if err != nil {
			t.Fatal(err)
		}
		endPoint, err := xdg.NewTLSServerEndpointBinding(&clientState)
		if err != nil {
			t.Fatal(err)
		}
		client, _ := xdg.SHA256.NewClientUnprepped("juliet", "x", "")
		for _, cb := range []xdg.ChannelBinding{exporter, endPoint} {
			x := start(t, o, "SCRAM-SHA-256-PLUS")
			if err := converse(t.Context(), client.NewConversationWithChannelBinding(cb), x); err != nil {
				t.Errorf("%s, version %x: %v", cb.Type, version, err)
			}
		}
		// Another connection to the same server has the same end point only.
		other, _ := handshake(t, cert, version)
		if exporter, err = xdg.NewTLSExporterBinding(&other); err != nil {
			t.Fatal(err)
		}
		x := start(t, o, "SCRAM-SHA-256-PLUS")
		expect(t, converse(t.Context(), client.NewConversationWithChannelBinding(exporter), x), NotAuthorized)
	}
}

// RFC 5929 §4.1.
func TestEndPoint(t *testing.T) {
	raw := []byte("a certificate")
	sum256, sum384, sum512 := sha256.Sum256(raw), sha512.Sum384(raw), sha512.Sum512(raw)
	for alg, want := range map[x509.SignatureAlgorithm][]byte{
		x509.MD5WithRSA: sum256[:], x509.SHA1WithRSA: sum256[:], x509.ECDSAWithSHA1: sum256[:],
		x509.SHA256WithRSA: sum256[:], x509.SHA256WithRSAPSS: sum256[:], x509.ECDSAWithSHA256: sum256[:],
		x509.SHA384WithRSA: sum384[:], x509.SHA384WithRSAPSS: sum384[:], x509.ECDSAWithSHA384: sum384[:],
		x509.SHA512WithRSA: sum512[:], x509.SHA512WithRSAPSS: sum512[:], x509.ECDSAWithSHA512: sum512[:],
		x509.PureEd25519: nil, x509.UnknownSignatureAlgorithm: nil, x509.MD2WithRSA: nil,
	} {
		got, err := EndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: alg})
		if !bytes.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%s: %x, %v, want %x", alg, got, err, want)
		}
	}
}

// A server that does not know its certificate, or has one without an end point,
// binds by exporter alone.
func TestTLSBindingWithoutEndPoint(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t, key, x509.PureEd25519)
	_, state := handshake(t, cert, tls.VersionTLS13)
	s := New(jid.Must("example.org"), &accounts{}, Options{})
	for _, b := range []TLS{{State: &state}, {State: &state, Leaf: cert.Leaf}} {
		if got := s.Offer(true, b).BindingTypes(); len(got) != 1 || got[0] != TLSExporter {
			t.Errorf("offers %q", got)
		}
		if _, err := b.ChannelBinding("tls-unique"); err == nil {
			t.Error("tls-unique is offered")
		}
	}
}
