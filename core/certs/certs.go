// Package certs owns the server's TLS certificates: which one a client is shown,
// when files are read again, and the development CA that stands in where no
// certificate is configured.
//
// A Store serves many virtual hosts. The client's server name (SNI) chooses the
// host; a STARTTLS stream that sends none is served by the host of its stream
// header. Every connection remembers the certificate of its session, because
// the channel binding tls-server-end-point is computed from it: see Leaf.
//
//spec:rfc-7590 partial | Use of TLS in XMPP | certificates, server name indication, session resumption
//spec:rfc-9325 partial | Recommendations for Secure Use of TLS and DTLS | protocol versions, cipher suites, session tickets
//spec:rfc-5929 partial | Channel Bindings for TLS | tls-server-end-point; tls-unique does not exist in TLS 1.3 and is never offered
//spec:xep-0368 1.1.0 partial | SRV records for XMPP over TLS | server name and ALPN of Direct TLS; the records are the operator's
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/idna"
)

// A File names a certificate chain and its private key, both in PEM. They may
// be one and the same file.
type File struct {
	// Hosts are the virtual hosts that this certificate serves, whatever names it
	// contains. If empty, it serves every name it contains.
	Hosts []string
	Cert  string // path of the chain, the server's own certificate first
	Key   string // path of the private key; empty means Cert
}

// Options tune a Store. Hosts must not be empty.
type Options struct {
	// Dir holds the development CA and the certificates it signed. It is created
	// (mode 0700) only if a host has no certificate of its own.
	Dir string
	// Hosts are all virtual hosts, the default one first.
	Hosts []string
	// Files are the configured certificates. Where several serve one host, the
	// client is shown the first that its signature algorithms allow.
	Files []File
	// Logger gets one record per event; the default discards them.
	Logger *slog.Logger
	// Now is the clock; the default is time.Now.
	Now func() time.Time
}

// A Store holds the certificates of all virtual hosts. All methods may be called
// from any goroutine.
type Store struct {
	dir string
	log *slog.Logger
	now func() time.Time

	reload  sync.Mutex // one Reload at a time; guards the two below
	hosts   []string   // A-labels, the default first
	files   []File
	current atomic.Pointer[snapshot]
}

// A snapshot is what one Reload found. It is replaced whole, never edited.
type snapshot struct {
	byName map[string][]*tls.Certificate // A-label or "*.parent" -> candidates, best first
	first  []*tls.Certificate            // of the default host
	ca     string                        // path of the development CA; empty if unused
	stamps map[string]stamp              // of the files that were read
	renew  time.Time                     // when a self-made certificate wants renewal; zero if none
}

// New reads all certificates and makes those that are missing. The error names
// the file that could not be used.
func New(opts Options) (*Store, error) {
	s := &Store{dir: opts.Dir, log: opts.Logger, now: opts.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.Replace(opts.Hosts, opts.Files); err != nil {
		return nil, err
	}
	return s, nil
}

// Replace changes the hosts and the configured files, and reads everything
// again. On an error the store goes on with what it had.
func (s *Store) Replace(hosts []string, files []File) error {
	names := make([]string, 0, len(hosts))
	for _, host := range hosts {
		name, err := asciiName(host)
		if err != nil {
			return fmt.Errorf("certs: host %q: %w", host, err)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return errors.New("certs: no hosts")
	}
	s.reload.Lock()
	defer s.reload.Unlock()
	snap, err := s.load(names, files)
	if err != nil {
		return err
	}
	s.hosts, s.files = names, slices.Clone(files)
	s.current.Store(snap)
	return nil
}

// Reload reads all files again and renews self-made certificates that are about
// to expire. New connections see the result; on an error (a file is missing, or
// key and certificate do not belong together) nothing changes.
func (s *Store) Reload() error {
	s.reload.Lock()
	defer s.reload.Unlock()
	snap, err := s.load(s.hosts, s.files)
	if err != nil {
		return err
	}
	s.current.Store(snap)
	return nil
}

// CAPath returns the path of the development CA's certificate, for clients to
// trust, or "" if every host has a configured certificate.
func (s *Store) CAPath() string { return s.current.Load().ca }

// GetCertificate chooses by server name and, where a host has several
// certificates, by what the client can verify. It has the shape of the field of
// tls.Config. A name that is unknown or absent gets the default host's
// certificate: the client, not the server, decides whether to trust it.
func (s *Store) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert := s.current.Load().choose(hello, "")
	remember(hello.Conn, cert.Leaf)
	return cert, nil
}

// choose returns the certificate for a client hello; fallback is the host to
// assume if the client names none that is known.
func (snap *snapshot) choose(hello *tls.ClientHelloInfo, fallback string) *tls.Certificate {
	certs := snap.lookup(hello.ServerName)
	if certs == nil {
		certs = snap.lookup(fallback)
	}
	if certs == nil {
		certs = snap.first
	}
	for _, cert := range certs {
		if len(certs) == 1 || hello.SupportsCertificate(cert) == nil {
			return cert
		}
	}
	return certs[0]
}

// lookup finds the candidates for a name: exact first, then the wildcard for its
// leftmost label (RFC 9525 §6.3). It returns nil for a name that is not served.
func (snap *snapshot) lookup(name string) []*tls.Certificate {
	if name == "" {
		return nil
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if certs := snap.byName[name]; certs != nil {
		return certs
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		return snap.byName["*."+parent]
	}
	return nil
}

// load builds a snapshot of the given hosts and files.
func (s *Store) load(hosts []string, files []File) (*snapshot, error) {
	snap := &snapshot{
		byName: make(map[string][]*tls.Certificate),
		stamps: make(map[string]stamp),
	}
	named := make(map[string][]*tls.Certificate) // from files that name no hosts
	for _, file := range files {
		cert, err := loadFile(file, snap.stamps)
		if err != nil {
			return nil, err
		}
		if left := cert.Leaf.NotAfter.Sub(s.now()); left < 0 {
			s.log.Warn("certificate has expired", "file", file.Cert, "expired", cert.Leaf.NotAfter)
		} else if left < 7*24*time.Hour {
			s.log.Warn("certificate expires soon", "file", file.Cert, "expires", cert.Leaf.NotAfter)
		}
		for _, host := range file.Hosts {
			name, err := asciiName(host)
			if err != nil {
				return nil, fmt.Errorf("certs: %s: host %q: %w", file.Cert, host, err)
			}
			if err := cert.Leaf.VerifyHostname(name); err != nil {
				s.log.Warn("certificate does not cover its host", "file", file.Cert, "host", name, "err", err)
			}
			snap.byName[name] = append(snap.byName[name], cert)
		}
		if len(file.Hosts) == 0 {
			for _, name := range certificateNames(cert.Leaf) {
				named[name] = append(named[name], cert)
			}
		}
	}
	for name, certs := range named {
		snap.byName[name] = append(snap.byName[name], certs...)
	}
	if err := s.selfSign(snap, hosts); err != nil {
		return nil, err
	}
	snap.first = snap.lookup(hosts[0])
	return snap, nil
}

// selfSign gives every host that has no certificate one of the development CA.
func (s *Store) selfSign(snap *snapshot, hosts []string) error {
	var bare []string
	for _, host := range hosts {
		if snap.lookup(host) == nil {
			bare = append(bare, host)
		}
	}
	if len(bare) == 0 {
		return nil
	}
	made, err := openAuthority(s.dir, s.now())
	if err != nil {
		return err
	}
	snap.ca = made.path
	for _, host := range bare {
		cert, fresh, err := made.certificate(host)
		if err != nil {
			return err
		}
		if fresh {
			s.log.Info("made a development certificate", "host", host, "ca", made.path, "expires", cert.Leaf.NotAfter)
		}
		snap.byName[host] = []*tls.Certificate{cert}
		if renew := cert.Leaf.NotAfter.Add(-renewBefore); snap.renew.IsZero() || renew.Before(snap.renew) {
			snap.renew = renew
		}
	}
	return nil
}

// certificateNames returns the names that a certificate contains, as lookup keys.
func certificateNames(leaf *x509.Certificate) []string {
	names := make(map[string]bool)
	for _, name := range leaf.DNSNames {
		names[strings.ToLower(name)] = true
	}
	for _, ip := range leaf.IPAddresses {
		names[ip.String()] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// asciiName turns a virtual host into the form in which TLS carries it: A-labels
// in lower case without a final dot (RFC 6066 §3), or an IP address.
func asciiName(host string) (string, error) {
	literal := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if ip := net.ParseIP(literal); ip != nil {
		return ip.String(), nil
	}
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(host, "."))
	if err != nil {
		return "", err
	}
	if name == "" {
		return "", errors.New("empty name")
	}
	if strings.ContainsAny(name, "/\\\x00") || strings.HasPrefix(name, ".") {
		return "", errors.New("not a host name")
	}
	return name, nil
}
