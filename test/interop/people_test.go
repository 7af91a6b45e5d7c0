package interop

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"trivium/test/harness"
)

const (
	nsCarbons = "urn:xmpp:carbons:2"
	nsForward = "urn:xmpp:forward:0"
	nsMAM     = "urn:xmpp:mam:2"
	nsRSM     = "http://jabber.org/protocol/rsm"
	nsSID     = "urn:xmpp:sid:0"
)

// A person is a raw client of the test itself: those whom a survivor talks to,
// and her second device.
type person struct {
	*harness.Client
	bare string
	next int // number of the next stanza
	seen []message
}

// newPerson logs in over TCP and enables stream management, so that what
// it has sent can be known to have arrived.
func newPerson(s *server, a account, resource, presence string) (*person, error) {
	c, err := authenticated(s, a, "tcp")
	if err != nil {
		return nil, err
	}
	p := &person{Client: c, bare: a.JID}
	c.SM.Answer = true
	if err := c.Bind(resource); err != nil {
		return nil, err
	}
	if err := c.Enable(""); err != nil {
		return nil, err
	}
	return p, c.Send(presence)
}

// authenticated connects and logs in; nothing is bound.
func authenticated(s *server, a account, framing string) (*harness.Client, error) {
	pem, err := os.ReadFile(s.desc.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	conn, err := (&harness.Server{TCP: s.desc.TCP, HTTP: "http://" + s.http, CA: pool}).Dial(framing)
	if err != nil {
		return nil, err
	}
	c := &harness.Client{Conn: conn}
	if err := c.Start(s.domain); err != nil {
		return nil, err
	}
	if s.desc.Name == "prosody" { // it stores keys for SCRAM-SHA-1, which the harness does not speak
		return c, plain(c, s.domain, a)
	}
	return c, c.Authenticate(a.Local, s.domain, a.Password)
}

// plain logs in with RFC 4616.
func plain(c *harness.Client, domain string, a account) error {
	secret := base64.StdEncoding.EncodeToString([]byte("\x00" + a.Local + "\x00" + a.Password))
	if err := c.Send("<auth xmlns='" + harness.NSSASL + "' mechanism='PLAIN'>" + secret + "</auth>"); err != nil {
		return err
	}
	n, err := c.Receive()
	if err != nil {
		return err
	}
	if !n.Is(harness.NSSASL, "success") {
		return fmt.Errorf("PLAIN: %s", n)
	}
	return c.Start(domain)
}

// says sends chat messages and waits until the server has acknowledged them.
func (p *person) says(to string, bodies ...string) error {
	for _, body := range bodies {
		p.next++
		err := p.Send(fmt.Sprintf("<message to='%s' type='chat' id='%s-%d'><body>%s</body></message>", to, p.JID, p.next, escape(body)))
		if err != nil {
			return err
		}
	}
	return p.AwaitAck(p.SM.Sent)
}

// hears waits for n messages with bodies in all and returns those there are.
func (p *person) hears(n int) ([]message, error) {
	if err := p.Sync(); err != nil {
		return nil, err
	}
	for len(p.Pending()) > 0 || len(p.seen) < n {
		got, err := p.Next()
		if err != nil {
			return nil, fmt.Errorf("%d of %d messages have come: %w", len(p.seen), n, err)
		}
		if got.Is(harness.NSClient, "message") && got.Attr("type") == "error" {
			return nil, errors.New("refused: " + got.String())
		}
		if m := messageOf(got, p.bare); m.Body != "" {
			p.seen = append(p.seen, m)
		}
	}
	return p.seen, nil
}

// messageOf reads a message as its recipient does.
func messageOf(n *harness.Node, account string) message {
	if !n.Is(harness.NSClient, "message") {
		return message{}
	}
	var m message
	for _, kind := range []string{"sent", "received"} {
		if c := n.Child(nsCarbons, kind); c != nil {
			m.Carbon = kind
			n = c.Child(nsForward, "forwarded").Child(harness.NSClient, "message")
		}
	}
	if n == nil {
		return message{}
	}
	m.From, m.To = bareOf(n.Attr("from")), bareOf(n.Attr("to"))
	if b := n.Child(harness.NSClient, "body"); b != nil {
		m.Body = b.Text
	}
	for _, c := range n.Children {
		if c.Is(nsSID, "stanza-id") && c.Attr("by") == account {
			m.ID = c.Attr("id")
		}
	}
	return m
}

// archive reads the whole archive of the person's account, oldest first.
func (p *person) archive() ([]message, error) {
	var all []message
	after := ""
	for {
		p.next++
		query := fmt.Sprintf("q%d", p.next)
		done, err := p.Request("<iq type='set' id='" + query + "'><query xmlns='" + nsMAM + "' queryid='" + query + "'>" +
			"<set xmlns='" + nsRSM + "'><max>50</max>" + after + "</set></query></iq>")
		if err != nil {
			return nil, err
		}
		fin := done.Child(nsMAM, "fin")
		if fin == nil {
			return nil, fmt.Errorf("archive: %s", done)
		}
		for len(p.Pending()) > 0 {
			got, err := p.Next()
			if err != nil {
				return nil, err
			}
			result := got.Child(nsMAM, "result")
			if result == nil || result.Attr("queryid") != query {
				if m := messageOf(got, p.bare); m.Body != "" {
					p.seen = append(p.seen, m)
				}
				continue
			}
			m := messageOf(result.Child(nsForward, "forwarded").Child(harness.NSClient, "message"), p.bare)
			if m.ID = result.Attr("id"); m.Body != "" {
				all = append(all, m)
			}
		}
		if c := fin.Attr("complete"); c == "true" || c == "1" {
			return all, nil
		}
		last := fin.Child(nsRSM, "set").Child(nsRSM, "last")
		if last == nil {
			return nil, fmt.Errorf("archive: not complete, and no last: %s", done)
		}
		after = "<after>" + escape(last.Text) + "</after>"
	}
}

func bareOf(jid string) string {
	bare, _, _ := strings.Cut(jid, "/")
	return bare
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;").Replace(s)
}
