package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// domain is the one virtual host of every server.
const domain = "localhost"

// driver knows how to run one kind of server. Its methods are called by one
// goroutine, prepare first.
type driver interface {
	name() string
	// prepare installs what is missing, writes the configuration for the given
	// accounts into dir and fills in the endpoint.
	prepare(ctx context.Context, b *bench, dir string, accounts []string) (endpoint, error)
	// version tells what was measured.
	version(ctx context.Context) (string, error)
	// command configures the server and builds its process; it stays in the
	// foreground. Data is kept from one setup to the next.
	command(setup) (*exec.Cmd, error)
	// created is called once, when the server runs for the first time.
	created(ctx context.Context) error
	// rest builds the HTTP request that sends a message, nil when the server
	// has no such interface. The answer's status is 200 or 202.
	rest(from, to, body string) []byte
}

// setup is how a server is configured: what it has besides the core. The zero
// value is instant messaging as RFC 6121 has it.
type setup struct {
	sm         bool   // stream management (XEP-0198)
	archive    bool   // every user's messages are archived (XEP-0313)
	store      string // of the archive: "" is the driver's first choice
	proxied    bool   // a proxy speaks TLS with the clients that come over HTTP
	unpromised bool   // Trivium acknowledges without waiting for the disk
	gateway    bool   // Trivium posts messages to a gateway domain to the load client
	pulled     bool   // it does not: they are read from the event stream
}

// server is one running driver.
type server struct {
	driver
	ep    endpoint
	dir   string
	setup setup
	cmd   *exec.Cmd
	done  chan struct{} // closed when cmd has ended
	log   string        // path of its output

	made       bool            // accounts exist
	subscribed bool            // the presence scenario's rosters exist
	archived   map[string]bool // by setup.store: the archive page scenario's archives exist
}

func (s *server) meter() meter { return meter{root: s.cmd.Process.Pid} }

// start runs the server until its TCP port answers.
func (s *server) start(ctx context.Context) error {
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if s.cmd, err = s.command(s.setup); err != nil {
		return err
	}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	s.done = done
	cmd := s.cmd
	go func() { _ = cmd.Wait(); close(done) }()
	for _, address := range []string{s.ep.tcp, s.ep.direct, s.ep.http} {
		if err := s.awaitPort(ctx, address); err != nil {
			s.stop()
			return fmt.Errorf("%s: %w; its output ends: %s", s.name(), err, s.tail())
		}
	}
	if !s.made {
		if err := s.created(ctx); err != nil {
			s.stop()
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		s.made = true
	}
	return nil
}

func (s *server) awaitPort(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.done:
			return errors.New("the server ended while starting")
		case <-ctx.Done():
			return fmt.Errorf("no answer on %s: %w", address, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends the server, by force after ten seconds.
func (s *server) stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		slog.Warn("server did not stop, killing it", "server", s.name())
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
}

// tail returns the end of the server's output.
func (s *server) tail() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-600):]))
}

// freePort asks the kernel for a loopback port nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// freePorts returns n different ports.
func freePorts(n int) ([]int, error) {
	listeners := make([]net.Listener, 0, n)
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// account is the system user a peer runs as.
type account struct {
	name     string
	uid, gid int
}

// systemAccount returns the named user when this process may switch to it, else nil.
func systemAccount(name string) *account {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		return nil
	}
	return &account{name: name, uid: uid, gid: gid}
}

// own gives a directory tree to the account.
func (a *account) own(dir string) error {
	if a == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, a.uid, a.gid)
	})
}

// write replaces a file that only the account reads.
func (a *account) write(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil || a == nil {
		return err
	}
	return os.Lchown(path, a.uid, a.gid)
}

// run sets the account on a command.
func (a *account) run(cmd *exec.Cmd) *exec.Cmd {
	if a != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}}
	}
	return cmd
}

// install makes sure that a program exists, through apt-get when allowed.
func install(ctx context.Context, b *bench, program string, packages ...string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	if err := aptGet(ctx, b, packages...); err != nil {
		return err
	}
	_, err := exec.LookPath(program)
	return err
}

// installLibrary makes sure that a Debian package exists that has no program.
func installLibrary(ctx context.Context, b *bench, pkg string) error {
	if _, err := debianVersion(ctx, pkg); err == nil {
		return nil
	}
	return aptGet(ctx, b, pkg)
}

func aptGet(ctx context.Context, b *bench, packages ...string) error {
	if _, err := exec.LookPath("apt-get"); err != nil || !b.install || os.Geteuid() != 0 {
		return fmt.Errorf("not installed: run apt-get install %s as root, or this program with -install as root", strings.Join(packages, " "))
	}
	slog.Info("installing", "packages", packages)
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-q", "-y", "--no-install-recommends"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", args[0], err, out[max(0, len(out)-600):])
		}
	}
	return nil
}

// debianVersion returns a package's version.
func debianVersion(ctx context.Context, pkg string) (string, error) {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", pkg).Output()
	return pkg + " " + string(out) + " (Debian)", err
}

// certificate is the one every server presents: ECDSA P-256, self-signed.
type certificate struct {
	certPEM, keyPEM []byte
	client          *tls.Config // TLS 1.3 and X25519 only, so that all servers do the same work
}

func newCertificate() (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: domain},
		DNSNames:     []string{domain},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(0, 0, 7),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &certificate{
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		client: &tls.Config{
			RootCAs: pool, ServerName: domain, MinVersion: tls.VersionTLS13,
			CurvePreferences: []tls.CurveID{tls.X25519},
		},
	}, nil
}

// write puts cert.pem, key.pem and both.pem into dir.
func (c *certificate) write(dir string) error {
	for name, data := range map[string][]byte{
		"cert.pem": c.certPEM, "key.pem": c.keyPEM, "both.pem": append(bytes.Clone(c.keyPEM), c.certPEM...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
