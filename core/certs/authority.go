package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 397 * 24 * time.Hour // what browsers and Apple's systems accept
	renewBefore  = 30 * 24 * time.Hour
	backdate     = time.Hour // for clients whose clock is late
)

// An authority is the development CA. On disk it is two files: ca.key (key and
// certificate, mode 0600) is the truth and is written in one step; ca.pem (the
// certificate alone) is what clients are told to trust. Each certificate it
// signs is one file as well, chain and key, mode 0600.
type authority struct {
	dir  string
	path string // of ca.pem
	now  time.Time
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openAuthority reads the CA of dir, or makes one if there is none or it is
// about to expire.
func openAuthority(dir string, now time.Time) (*authority, error) {
	if dir == "" {
		return nil, fmt.Errorf("certs: a host has no certificate, and there is no directory for a development CA")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	a := &authority{dir: dir, path: filepath.Join(dir, "ca.pem"), now: now}
	secret := filepath.Join(dir, "ca.key")
	pair, err := tls.LoadX509KeyPair(secret, secret)
	switch {
	case err == nil && pair.Leaf.IsCA && pair.Leaf.NotAfter.Sub(now) > leafLifetime:
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("certs: %s: the key is not an ECDSA key; remove the file to get a new CA", secret)
		}
		a.cert, a.key = pair.Leaf, key
	case err != nil && !os.IsNotExist(err):
		// Never replace silently what people may have told their clients to trust.
		return nil, fmt.Errorf("certs: %s: %w; remove the file to get a new CA", secret, err)
	default:
		if err := a.create(secret); err != nil {
			return nil, fmt.Errorf("certs: making a development CA: %w", err)
		}
	}
	if err := writeFile(a.path, encodeCertificate(a.cert.Raw), 0o644); err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	return a, nil
}

func (a *authority) create(secret string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	// A few random digits tell two development CAs apart in a trust store.
	var tag [4]byte
	rand.Read(tag[:])
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Trivium development CA " + hex.EncodeToString(tag[:]), Organization: []string{"Trivium"}},
		NotBefore:             a.now.Add(-backdate),
		NotAfter:              a.now.Add(caLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs servers, never another CA
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.key = key
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	return writeFile(secret, append(text, encodeCertificate(der)...), 0o600)
}

// certificate returns the certificate of a host: the one on disk if it still
// fits, otherwise a new one, and then fresh is true.
func (a *authority) certificate(host string) (cert *tls.Certificate, fresh bool, err error) {
	file := filepath.Join(a.dir, strings.ReplaceAll(host, ":", "_")+".pem")
	if pair, err := tls.LoadX509KeyPair(file, file); err == nil && a.fits(pair.Leaf, host) {
		return &pair, false, nil
	}
	text, err := a.sign(host)
	if err != nil {
		return nil, false, fmt.Errorf("certs: making a certificate for %s: %w", host, err)
	}
	if err := writeFile(file, text, 0o600); err != nil {
		return nil, false, fmt.Errorf("certs: %w", err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, false, fmt.Errorf("certs: %s: %w", file, err)
	}
	return &pair, true, nil
}

// fits reports whether a certificate on disk is this CA's, for this host, and
// not about to expire.
func (a *authority) fits(leaf *x509.Certificate, host string) bool {
	names, ips := subjects(host)
	return leaf.NotAfter.Sub(a.now) > renewBefore &&
		!leaf.NotBefore.After(a.now) &&
		leaf.CheckSignatureFrom(a.cert) == nil &&
		slices.Equal(leaf.DNSNames, names) &&
		slices.EqualFunc(leaf.IPAddresses, ips, net.IP.Equal)
}

func (a *authority) sign(host string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	names, ips := subjects(host)
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: host},
		NotBefore:             a.now.Add(-backdate),
		NotAfter:              a.now.Add(leafLifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              names,
		IPAddresses:           ips,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{encodeCertificate(der), encodeCertificate(a.cert.Raw), text}, nil), nil
}

// subjects returns what the certificate of a host names: the domain (a DNS-ID,
// RFC 6120 §13.7.1.2.1), and for localhost the loopback addresses as well.
func subjects(host string) (names []string, ips []net.IP) {
	if ip := net.ParseIP(host); ip != nil {
		return nil, []net.IP{ip}
	}
	names = []string{host}
	if host == "localhost" {
		ips = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	return names, ips
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
