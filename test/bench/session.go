package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/xdg-go/scram"
)

// password is every account's password: loopback only, made and removed by the run.
const password = "bench-password"

// setupTimeout bounds every step that is not a measured phase.
const setupTimeout = 30 * time.Second

// endpoint says where a server listens. Empty fields: the road is not there.
type endpoint struct {
	tcp    string // host:port, STARTTLS offered and not required
	direct string // host:port, TLS from the first byte
	http   string // host:port
	ws     string // path
	bosh   string // path
	domain string
	relay  bool // a byte relay listens at tcp: there is no XMPP
	tls    *tls.Config
	creds  *credentials
}

// credentials keeps SCRAM clients, so that PBKDF2 is paid once per account and
// salt: the load client's own work stays small. Safe for concurrent use.
type credentials struct {
	clients sync.Map // user string -> *scram.Client
}

func (c *credentials) conversation(user string) (*scram.ClientConversation, error) {
	if client, ok := c.clients.Load(user); ok {
		return client.(*scram.Client).NewConversation(), nil
	}
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		return nil, err
	}
	kept, _ := c.clients.LoadOrStore(user, client)
	return kept.(*scram.Client).NewConversation(), nil
}

// session is one logged-in resource of an account.
type session struct {
	link
	jid   string // full
	ns    string // " xmlns='jabber:client'" where the framing does not imply it
	split splitter
	buf   []byte
}

// login connects an account over a road and binds resource "b" (RFC 6120 §9.1).
func login(ctx context.Context, ep endpoint, r road, user string) (*session, error) {
	s, err := connect(ctx, ep, r)
	if err != nil {
		return nil, fmt.Errorf("%s over %s: %w", user, r, err)
	}
	s.buf = make([]byte, 4096)
	if err = s.authenticated(ep, r, user); err == nil {
		err = s.bind()
	}
	s.buf = nil
	if err != nil {
		_ = s.close()
		return nil, fmt.Errorf("%s over %s: %w", user, r, err)
	}
	return s, s.setDeadline(time.Time{})
}

func connect(ctx context.Context, ep endpoint, r road) (*session, error) {
	s := &session{}
	var dialer net.Dialer
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	dial := func(address string) (net.Conn, error) {
		if address == "" {
			return nil, errors.New("the server has no such road")
		}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			err = conn.SetDeadline(time.Now().Add(setupTimeout))
		}
		return conn, err
	}
	switch r {
	case roadTCP, roadSTARTTLS:
		conn, err := dial(ep.tcp)
		if err != nil {
			return nil, err
		}
		s.link = &tcpLink{conn: conn}
	case roadDirectTLS:
		conn, err := dial(ep.direct)
		if err != nil {
			return nil, err
		}
		link := &tcpLink{conn: conn}
		cfg := ep.tls.Clone()
		cfg.NextProtos = []string{"xmpp-client"} // XEP-0368 §3
		if err := link.startTLS(cfg); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		s.link = link
	case roadWebSocket:
		conn, err := dial(ep.http)
		if err != nil {
			return nil, err
		}
		link, err := dialWebSocket(conn, ep.http, ep.ws)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		s.link, s.ns = link, " xmlns='jabber:client'" // RFC 7395 §3.3.3
	case roadBOSH:
		a, err := dial(ep.http)
		if err != nil {
			return nil, err
		}
		b, err := dial(ep.http)
		if err != nil {
			return nil, errors.Join(err, a.Close())
		}
		s.link, s.ns = newBOSH(a, b, ep.http, ep.bosh), " xmlns='jabber:client'" // XEP-0206 §3
	}
	return s, nil
}

// authenticated negotiates the stream up to the features that follow SASL.
func (s *session) authenticated(ep endpoint, r road, user string) error {
	if err := s.open(ep.domain, false); err != nil {
		return err
	}
	if r == roadSTARTTLS {
		if _, err := s.await("<stream:features", "features"); err != nil {
			return err
		}
		if err := s.sendXML("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"); err != nil {
			return err
		}
		if _, err := s.await("<proceed"); err != nil {
			return err
		}
		tcp, ok := s.link.(*tcpLink)
		if !ok {
			return errNotTCP
		}
		if err := tcp.startTLS(ep.tls); err != nil {
			return err
		}
		s.split = splitter{}
		if err := s.open(ep.domain, false); err != nil {
			return err
		}
	}
	features, err := s.await("<stream:features", "<features")
	if err != nil {
		return err
	}
	if !bytes.Contains(features, []byte(">SCRAM-SHA-256<")) {
		return fmt.Errorf("SCRAM-SHA-256 is not offered: %.400s", features)
	}
	if err := s.authenticate(ep, user); err != nil {
		return err
	}
	s.split = splitter{}
	if err := s.open(ep.domain, true); err != nil { // RFC 6120 §6.4.6
		return err
	}
	_, err = s.await("<stream:features", "<features")
	return err
}

// bind binds the resource "b" (RFC 6120 §7.7).
func (s *session) bind() error {
	result, err := s.query("set", "bind", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>b</resource></bind>")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(result), "<jid>")
	jid, _, ok := strings.Cut(rest, "</jid>")
	if !ok {
		return fmt.Errorf("bind was refused: %.300s", result)
	}
	s.jid = jid
	return nil
}

// authenticate runs SCRAM-SHA-256 (RFC 6120 §6, RFC 7677), without channel binding.
func (s *session) authenticate(ep endpoint, user string) error {
	const ns = "urn:ietf:params:xml:ns:xmpp-sasl"
	conv, err := ep.creds.conversation(user)
	if err != nil {
		return err
	}
	first, err := conv.Step("")
	if err != nil {
		return err
	}
	if err := s.sendXML("<auth xmlns='" + ns + "' mechanism='SCRAM-SHA-256'>" + encode(first) + "</auth>"); err != nil {
		return err
	}
	for !conv.Done() {
		el, err := s.await("<challenge", "<success", "<failure")
		if err != nil {
			return err
		}
		if bytes.HasPrefix(el, []byte("<failure")) {
			return fmt.Errorf("SASL: %.200s", el)
		}
		data, err := base64.StdEncoding.DecodeString(string(inner(el)))
		if err != nil {
			return fmt.Errorf("SASL: %w", err)
		}
		answer, err := conv.Step(string(data))
		if err != nil {
			return fmt.Errorf("SASL: %w", err)
		}
		if bytes.HasPrefix(el, []byte("<success")) {
			break
		}
		if err := s.sendXML("<response xmlns='" + ns + "'>" + encode(answer) + "</response>"); err != nil {
			return err
		}
	}
	if !conv.Valid() {
		return errors.New("SASL: the server did not prove that it knows the account")
	}
	return nil
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// sendXML sends one element during set-up. On the roads whose framing has no
// inherited default namespace a stanza gets it added.
func (s *session) sendXML(xml string) error {
	if s.ns != "" {
		for _, name := range []string{"<iq", "<presence", "<message"} {
			if strings.HasPrefix(xml, name) {
				xml = name + s.ns + xml[len(name):]
			}
		}
	}
	return s.send(s.pack(nil, []byte(xml)))
}

// message builds a chat message in the road's unit.
func (s *session) message(to, body string) []byte {
	return s.pack(nil, []byte("<message"+s.ns+" to='"+to+"' type='chat' id='m1'><body>"+body+"</body></message>"))
}

// await returns the next element that starts with one of the given strings, and
// skips the others. The slice is valid until the next call.
func (s *session) await(starts ...string) ([]byte, error) {
	for {
		el, err := s.nextElement()
		if err != nil {
			return nil, fmt.Errorf("waiting for %s: %w", starts[0], err)
		}
		for _, start := range starts {
			if bytes.HasPrefix(el, []byte(start)) {
				return el, nil
			}
		}
		if bytes.HasPrefix(el, []byte("<stream:error")) {
			return nil, fmt.Errorf("waiting for %s: %.200s", starts[0], el)
		}
	}
}

func (s *session) nextElement() ([]byte, error) {
	for {
		el, ok, err := s.split.next()
		if ok || err != nil {
			return el, err
		}
		if s.buf == nil {
			s.buf = make([]byte, 4096)
		}
		n, err := s.recv(s.buf)
		if err != nil {
			return nil, err
		}
		s.split.feed(s.buf[:n])
	}
}

// query sends an iq to the own account and returns its answer (RFC 6120 §8.2.3).
func (s *session) query(kind, id, payload string) ([]byte, error) {
	if err := s.sendXML("<iq type='" + kind + "' id='" + id + "'>" + payload + "</iq>"); err != nil {
		return nil, err
	}
	for {
		el, err := s.await("<iq")
		if err != nil || attr(el, "id") == id {
			return el, err
		}
	}
}

// each runs f for 0..n-1 on a few goroutines and returns the first error.
func each(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	next := make(chan int)
	failed := make(chan struct{})
	for range min(n, 4*runtime.NumCPU()) {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					once.Do(func() { first = err; close(failed) })
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-failed:
			break feed
		}
	}
	close(next)
	wg.Wait()
	return first
}

// loginAll logs accounts in over a road, all or none.
func loginAll(ctx context.Context, ep endpoint, r road, users []string) ([]*session, error) {
	sessions := make([]*session, len(users))
	err := each(len(users), func(i int) (err error) {
		sessions[i], err = login(ctx, ep, r, users[i])
		return err
	})
	if err != nil {
		closeAll(sessions)
		return nil, err
	}
	return sessions, nil
}

func closeAll(sessions []*session) {
	for _, s := range sessions {
		if s != nil {
			_ = s.close()
		}
	}
}

// available sends initial presence and waits until the server has taken it in:
// what follows on the stream is answered after it (RFC 6120 §10.1).
func (s *session) available() error {
	if err := s.setDeadline(time.Now().Add(setupTimeout)); err != nil {
		return err
	}
	if err := s.sendXML("<presence/>"); err != nil {
		return err
	}
	if _, err := s.query("get", "sync", "<query xmlns='jabber:iq:roster'/>"); err != nil {
		return err
	}
	return s.setDeadline(time.Time{})
}

// users returns the names of accounts from..from+n-1.
func users(from, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = userName(from + i)
	}
	return names
}

func userName(i int) string { return fmt.Sprintf("u%05d", i) }
