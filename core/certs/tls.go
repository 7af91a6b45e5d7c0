package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync/atomic"
)

// ALPN protocol names.
const (
	ALPNClient = "xmpp-client" // XEP-0368 §3
	ALPNHTTP   = "http/1.1"    // RFC 7301 §6
)

// suites are the cipher suites offered for TLS 1.2: ephemeral keys and
// authenticated encryption only (RFC 9325 §4.2). Those of TLS 1.3
// are all of this kind and are not configurable.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
}

// ServerConfig returns a configuration for connections to any of the hosts:
// Direct TLS with ALPNClient, HTTPS with ALPNHTTP. A client that offers other
// protocols only is refused (RFC 7301 §3.2); one that offers none is served.
// The configuration follows every Reload and must not be changed.
func (s *Store) ServerConfig(alpn ...string) *tls.Config {
	return s.HostConfig("", alpn...)
}

// HostConfig is ServerConfig for a connection whose host is already known, as
// after STARTTLS from the stream header: host is served if the client names no
// server or an unknown one. Make one per host and keep it: it holds the keys of
// the session tickets, which are replaced daily.
func (s *Store) HostConfig(host string, alpn ...string) *tls.Config {
	name, err := asciiName(host)
	if err != nil {
		name = "" // not a host that could have a certificate
	}
	m := &maker{store: s, host: name}
	m.base = &tls.Config{
		MinVersion:   tls.VersionTLS12, // RFC 9325 §3.1.1
		CipherSuites: suites,
		NextProtos:   alpn,
	}
	outer := m.base.Clone()
	outer.GetConfigForClient = m.configFor
	outer.GetCertificate = s.GetCertificate // for net/http, which wants to see a certificate
	// Tickets are sealed with base's keys, whichever certificate was chosen.
	return outer
}

// A maker holds one ready configuration per certificate, so that a handshake
// allocates none.
type maker struct {
	store *Store
	host  string
	base  *tls.Config // never used for a handshake: it owns the ticket keys
	made  atomic.Pointer[madeConfigs]
}

type madeConfigs struct {
	snap   *snapshot
	byCert map[*tls.Certificate]*tls.Config
}

// configFor chooses the certificate of a connection and remembers it there.
func (m *maker) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	made := m.configs()
	cert := made.snap.choose(hello, m.host)
	remember(hello.Conn, cert.Leaf)
	return made.byCert[cert], nil
}

func (m *maker) configs() *madeConfigs {
	snap := m.store.current.Load()
	if made := m.made.Load(); made != nil && made.snap == snap {
		return made
	}
	made := &madeConfigs{snap: snap, byCert: make(map[*tls.Certificate]*tls.Config)}
	for _, certs := range snap.byName {
		for _, cert := range certs {
			if made.byCert[cert] == nil {
				made.byCert[cert] = m.configWith(cert)
			}
		}
	}
	m.made.Store(made)
	return made
}

// configWith returns a configuration that shows exactly one certificate, also in
// the sessions it resumes: a resumed handshake carries no certificate, yet
// tls-server-end-point is that of the certificate the client saw first (RFC 5929
// §4). So a ticket names its certificate, and is worthless under another.
func (m *maker) configWith(cert *tls.Certificate) *tls.Config {
	c := m.base.Clone()
	c.Certificates = []tls.Certificate{*cert}
	tag := sha256.Sum256(cert.Leaf.Raw)
	c.WrapSession = func(cs tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, tag[:])
		return m.base.EncryptTicket(cs, session)
	}
	c.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		session, err := m.base.DecryptTicket(identity, cs)
		if err != nil || session == nil {
			return nil, err
		}
		for _, extra := range session.Extra {
			if bytes.Equal(extra, tag[:]) {
				return session, nil
			}
		}
		return nil, nil // a full handshake follows
	}
	return c
}

// remember notes the certificate on the connection, if it can hold it.
func remember(conn net.Conn, leaf *x509.Certificate) {
	if r, ok := conn.(Rememberer); ok {
		r.RememberLeaf(leaf)
	}
}

// Rememberer is the transport of a TLS connection, if it can hold the certificate
// that was sent over it: tls-server-end-point hashes that one, whatever has been
// reloaded since, and crypto/tls does not tell a server.
type Rememberer interface {
	// RememberLeaf is called once, during the handshake.
	RememberLeaf(*x509.Certificate)
}
