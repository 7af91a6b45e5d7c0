package harness

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xdg-go/scram"
)

// Patience is how long a client waits for what the server owes it. Nothing waits
// that long unless the server is wrong.
const Patience = 10 * time.Second

// Conn is one stream over one framing, as its client sees it. One goroutine at a
// time uses it.
type Conn interface {
	// Open sends a stream header, also after a restart, and waits for the server's.
	// lang is the stream's xml:lang, or empty.
	Open(to, lang string) error
	// Send sends one top-level element as it is written on a TCP stream.
	Send(element string) error
	// SendRaw sends octets as they are: into a TCP stream, as one WebSocket message,
	// inside one BOSH <body/>.
	SendRaw(octets string) error
	// Receive returns the next top-level element. The error is ErrEnd when the
	// server has ended its stream in order, which on BOSH may be an *Ended.
	Receive() (*Node, error)
	// Close ends our stream in order.
	Close() error
	// Drop gives up everything without a word.
	Drop()
}

// ErrEnd says that the server has ended its stream in order.
var ErrEnd = errors.New("the stream has ended")

// Framings are the ways to reach the server, by name.
var Framings = []string{"tcp", "websocket", "bosh"}

// Dial connects over a framing.
func (s *Server) Dial(framing string) (Conn, error) {
	switch framing {
	case "tcp":
		return dialTCP(s.TCP, s.CA)
	case "websocket":
		return dialWebSocket(s.HTTP)
	case "bosh":
		return dialBOSH(s.HTTP)
	}
	return nil, fmt.Errorf("no framing %q", framing)
}

// Client is one stream with the steps of its negotiation. With stream management
// it may outlive the Conn.
type Client struct {
	Conn
	JID    string // once bound
	Lang   string // of the stream headers
	Stream *Node  // the features offered last
	SM     Management

	user, host, password string
	pending              []*Node
	ended                error
	syncs                int

	// In a transcript.
	away    bool // without a stream; it may resume
	stalled bool // away, but its old connection is still open
	asked   int  // requests for an acknowledgement that have been seen
}

// Send sends one top-level element as it is written on a TCP stream.
func (c *Client) Send(element string) error {
	if err := c.SM.sends(element); err != nil {
		return err
	}
	return c.Conn.Send(element)
}

// Receive returns the next top-level element, except acknowledgements and
// requests for them: see Management.
func (c *Client) Receive() (*Node, error) {
	for {
		if n, err := c.Take(); n != nil || err != nil {
			return n, err
		}
	}
}

// Take takes one element and returns nil if it is not to be handed on, which
// Receive would wait for.
func (c *Client) Take() (*Node, error) {
	n, err := c.Conn.Receive()
	if err != nil {
		return nil, err
	}
	pass, err := c.SM.receives(n)
	if err != nil {
		return nil, &RuleError{err}
	}
	if c.JID == "" && n.Is(NSSM, "resumed") {
		c.JID = c.user + "@" + c.host // whatever resource it is
	}
	if c.SM.Answer && n.Is(NSSM, "r") {
		return nil, c.Ack()
	}
	if !pass {
		return nil, nil
	}
	return n, nil
}

// Start opens a stream to a host.
func (c *Client) Start(host string) error {
	c.host = host
	if err := c.Open(host, c.Lang); err != nil {
		return err
	}
	f, err := c.Receive()
	if err != nil {
		return err
	}
	if !f.Is(NSStream, "features") {
		return fmt.Errorf("want features, got %s", f)
	}
	c.Stream = f
	return nil
}

// Authenticate logs in with SCRAM-SHA-256 and restarts the stream.
func (c *Client) Authenticate(user, host, password string) error {
	c.user, c.password = user, password
	conv, err := conversation(user, password)
	if err != nil {
		return err
	}
	step := func(in string) (string, error) {
		out, err := conv.Step(in)
		return base64.StdEncoding.EncodeToString([]byte(out)), err
	}
	first, err := step("")
	if err != nil {
		return err
	}
	if err := c.Send("<auth xmlns='" + NSSASL + "' mechanism='SCRAM-SHA-256'>" + first + "</auth>"); err != nil {
		return err
	}
	for _, name := range []string{"challenge", "success"} {
		n, err := c.Receive()
		if err != nil {
			return err
		}
		if !n.Is(NSSASL, name) {
			return fmt.Errorf("want %s, got %s", name, n)
		}
		data, err := base64.StdEncoding.DecodeString(n.Text)
		if err != nil {
			return err
		}
		out, err := step(string(data))
		if err != nil {
			return err
		}
		if name == "challenge" {
			if err := c.Send("<response xmlns='" + NSSASL + "'>" + out + "</response>"); err != nil {
				return err
			}
		}
	}
	if !conv.Valid() {
		return errors.New("the server has not proved that it knows the password")
	}
	return c.Start(host)
}

var (
	clientsMu sync.Mutex
	clients   = map[string]*scram.Client{}
)

// conversation begins a SCRAM exchange; the clients keep the keys they derived.
func conversation(user, password string) (*scram.ClientConversation, error) {
	clientsMu.Lock()
	defer clientsMu.Unlock()
	key := user + "\x00" + password
	cl := clients[key]
	if cl == nil {
		var err error
		if cl, err = scram.SHA256.NewClient(user, password, ""); err != nil {
			return nil, err
		}
		clients[key] = cl
	}
	return cl.NewConversation(), nil
}

// Bind binds a resource, "" for one that the server makes.
func (c *Client) Bind(resource string) error {
	text := ""
	if resource != "" {
		text = "<resource>" + escape(resource) + "</resource>"
	}
	n, err := c.Request("<iq type='set' id='bind'><bind xmlns='" + NSBind + "'>" + text + "</bind></iq>")
	if err != nil {
		return err
	}
	full := n.Child(NSBind, "bind").Child(NSBind, "jid")
	if full == nil {
		return fmt.Errorf("bind: %s", n)
	}
	c.JID = full.Text
	return nil
}

// Request sends an iq and returns its answer; what comes before waits for Next.
func (c *Client) Request(iq string) (*Node, error) {
	q, err := Parse(iq, NSClient)
	if err != nil {
		return nil, err
	}
	if err := c.Send(iq); err != nil {
		return nil, err
	}
	for {
		n, err := c.Receive()
		if err != nil {
			c.ended = err
			return nil, err
		}
		typ := n.Attr("type")
		if n.Is(NSClient, "iq") && n.Attr("id") == q.Attr("id") && (typ == "result" || typ == "error") {
			return n, nil
		}
		c.pending = append(c.pending, n)
	}
}

// Sync makes a ping round trip to the server, after which everything that this
// client has sent has been dealt with, and everything due to it has arrived.
func (c *Client) Sync() error {
	c.syncs++
	n, err := c.Request("<iq type='get' id='sync-" + strconv.Itoa(c.syncs) + "' to='" + c.host + "'><ping xmlns='" + NSPing + "'/></iq>")
	if err != nil {
		return err
	}
	if n.Attr("type") != "result" {
		return fmt.Errorf("ping: %s", n)
	}
	return nil
}

// Next returns the next element that is not the answer to a Request.
func (c *Client) Next() (*Node, error) {
	if len(c.pending) > 0 {
		n := c.pending[0]
		c.pending = c.pending[1:]
		return n, nil
	}
	if c.ended != nil {
		return nil, c.ended
	}
	return c.Receive()
}

// Pending returns what came before the answers to Requests and waits for Next.
func (c *Client) Pending() []*Node { return c.pending }

// Drain returns what Pending does, and forgets it.
func (c *Client) Drain() []*Node {
	all := c.pending
	c.pending = nil
	return all
}

// filter keeps of what is pending only what keep wants.
func (c *Client) filter(keep func(*Node) bool) {
	var left []*Node
	for _, n := range c.pending {
		if keep(n) {
			left = append(left, n)
		}
	}
	c.pending = left
}

// langAttr writes xml:lang for a stream header (RFC 6120 §4.7.4).
func langAttr(lang string) string {
	if lang == "" {
		return ""
	}
	return " xml:lang='" + escape(lang) + "'"
}

// standalone declares the content namespace on an element that inherits it on a
// TCP stream (RFC 7395 §3.3.3, XEP-0124 §4).
func standalone(element string) string {
	end := strings.IndexAny(element, ">")
	if !strings.HasPrefix(element, "<") || end < 0 || strings.Contains(element[:end], "xmlns=") {
		return element
	}
	name := strings.IndexAny(element, " \t\n/>")
	return element[:name] + " xmlns='" + NSClient + "'" + element[name:]
}
