package harness

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Login is how a client logs in with SASL2 (XEP-0388).
type Login struct {
	User, Host string
	Password   string // for SCRAM-SHA-256
	Token      string // for Mechanism, when not empty (XEP-0484)
	Mechanism  string // HT-SHA-256-NONE when empty
	Inline     string // elements beside the initial response: <bind/>, <resume/>, <user-agent/> ...
}

// exchange is one run of a SASL mechanism.
type exchange interface {
	Step(in string) (out string, err error)
	Valid() bool // the server has proved that it knows the secret
}

// hashed is HT-SHA-256-NONE: the keyed hash of a token, without channel binding.
type hashed struct {
	user, token string
	begun, ok   bool
}

func (h *hashed) mac(role string) string {
	m := hmac.New(sha256.New, []byte(h.token))
	m.Write([]byte(role))
	return string(m.Sum(nil))
}

func (h *hashed) Step(in string) (string, error) {
	if !h.begun {
		h.begun = true
		return h.user + "\x00" + h.mac("Initiator"), nil
	}
	h.ok = hmac.Equal([]byte(in), []byte(h.mac("Responder")))
	return "", nil
}

func (h *hashed) Valid() bool { return h.ok }

// FailureError is a <failure/> of SASL2.
type FailureError struct{ Node *Node }

func (e *FailureError) Error() string { return "login failed: " + e.Node.String() }

// LogIn logs in with SASL2 and returns the <success/>. Afterwards the session is
// resumed (what the server does not acknowledge has been sent again), bound, or
// neither, as the inline elements asked; unless it is resumed the features are
// those that followed. The error is a *FailureError when the server refuses.
func (c *Client) LogIn(l Login) (*Node, error) {
	c.user, c.password = l.User, l.Password
	mechanism := "SCRAM-SHA-256"
	var run exchange
	if l.Token != "" {
		if mechanism = l.Mechanism; mechanism == "" {
			mechanism = "HT-SHA-256-NONE"
		}
		run = &hashed{user: l.User, token: l.Token}
	} else {
		conv, err := conversation(l.User, l.Password)
		if err != nil {
			return nil, err
		}
		run = conv
	}
	step := func(in string) (string, error) {
		out, err := run.Step(in)
		return base64.StdEncoding.EncodeToString([]byte(out)), err
	}
	first, err := step("")
	if err != nil {
		return nil, err
	}
	err = c.Send("<authenticate xmlns='" + NSSASL2 + "' mechanism='" + escape(mechanism) + "'><initial-response>" + first +
		"</initial-response>" + l.Inline + "</authenticate>")
	if err != nil {
		return nil, err
	}
	for {
		n, err := c.Receive()
		if err != nil {
			return nil, err
		}
		switch {
		case n.Is(NSSASL2, "challenge"):
			out, err := stepNode(n, step)
			if err != nil {
				return nil, err
			}
			if err := c.Send("<response xmlns='" + NSSASL2 + "'>" + out + "</response>"); err != nil {
				return nil, err
			}
			continue
		case n.Is(NSSASL2, "failure"):
			return n, &FailureError{n}
		case !n.Is(NSSASL2, "success"):
			return nil, fmt.Errorf("want <success/>, got %s", n)
		}
		if d := n.Child(NSSASL2, "additional-data"); d != nil {
			if _, err := stepNode(d, step); err != nil {
				return nil, err
			}
		}
		if !run.Valid() {
			return nil, errors.New("the server has not proved that it knows the secret")
		}
		return n, c.loggedIn(n)
	}
}

func stepNode(n *Node, step func(string) (string, error)) (string, error) {
	data, err := base64.StdEncoding.DecodeString(n.Text)
	if err != nil {
		return "", err
	}
	return step(string(data))
}

// loggedIn takes what a <success/> says.
func (c *Client) loggedIn(n *Node) error {
	id := n.Child(NSSASL2, "authorization-identifier")
	if id == nil {
		return fmt.Errorf("no authorization-identifier in %s", n)
	}
	if strings.Contains(id.Text, "/") {
		c.JID = id.Text
	}
	// XEP-0198 §8.2: after a resumption "stream features MUST NOT be sent".
	if n.Child(NSSM, "resumed") != nil {
		return c.resend()
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
