package stream

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"trivium/core/certs"
	"trivium/core/wire"
)

func serverTLS(t testing.TB) *tls.Config {
	t.Helper()
	s, err := certs.New(certs.Options{Dir: t.TempDir(), Hosts: []string{"example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	return s.HostConfig("example.org")
}

func TestChannelBinding(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ours, peer := net.Pipe()
			client := tls.Client(peer, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
			shaken := make(chan error, 1)
			go func() { shaken <- client.Handshake() }()
			c, err := NewDirectTLS(NewSocket(ours), serverTLS(t), wire.Limits{}, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { c.Abort(); peer.Close() }()
			if err := <-shaken; err != nil {
				t.Fatal(err)
			}
			if i := c.Info(); !i.Secure || !i.Implicit {
				t.Errorf("Info of Direct TLS: %+v", i)
			}
			cs := client.ConnectionState()
			// RFC 9266 §2: 32 octets for this label and no context.
			want, err := cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.ChannelBinding("tls-exporter"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("tls-exporter: %x, %v; the client has %x", got, err, want)
			}
			// RFC 5929 §4.1: the hash of the certificate; these are signed with SHA-256.
			sum := sha256.Sum256(cs.PeerCertificates[0].Raw)
			if got, err := c.ChannelBinding("tls-server-end-point"); err != nil || !bytes.Equal(got, sum[:]) {
				t.Errorf("tls-server-end-point: %x, %v; the client has %x", got, err, sum)
			}
			for _, typ := range []string{"tls-unique", "", "TLS-EXPORTER"} {
				if got, err := c.ChannelBinding(typ); err == nil {
					t.Errorf("%q: %x", typ, got)
				}
			}
		})
	}
	ours, peer := net.Pipe()
	defer peer.Close()
	c := NewTCP(NewSocket(ours), wire.Limits{})
	defer c.Abort()
	for _, typ := range []string{"tls-exporter", "tls-server-end-point"} {
		if got, err := c.ChannelBinding(typ); err == nil {
			t.Errorf("%s in clear: %x", typ, got)
		}
	}
}
