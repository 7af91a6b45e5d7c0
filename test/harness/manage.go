package harness

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Management is a client's side of stream management (XEP-0198). The client
// follows what is said on the stream, however it is said: it counts from the
// <enable/> it sends and the <enabled/> it gets, alone or within SASL2 and
// Bind 2, takes <r/> and <a/> out of what it hands on, and holds the server to
// the rules of §4.
//
// Counters are modulo 2^32, as they are on the stream.
type Management struct {
	ID       string // of the session, when it may be resumed
	Max      string // 'max' of <enabled/>, "" without
	Received uint32 // stanzas from the server: the next 'h' to send
	Sent     uint32 // stanzas to the server
	Acked    uint32 // those of them that it has acknowledged
	Asked    int    // <r/> received
	Answers  int    // <a/> received
	// Answer makes every <r/> be answered at once.
	Answer bool

	unacked  []string // stanzas sent and not acknowledged, oldest first
	enabling bool     // <enable/> has been sent and not been answered
	resuming *Node    // the <resume/> that has not been answered
	sending  bool     // stanzas sent are counted
	on       bool     // stanzas received are counted
}

// RuleError says that the server has broken a rule of stream management.
type RuleError struct{ Err error }

func (e *RuleError) Error() string { return "XEP-0198: " + e.Err.Error() }
func (e *RuleError) Unwrap() error { return e.Err }

// Managed tells whether stream management is enabled.
func (c *Client) Managed() bool { return c.SM.on }

// Unacked returns the stanzas that the server has not acknowledged, oldest first.
func (c *Client) Unacked() []string { return slices.Clone(c.SM.unacked) }

// isStanza tells whether an element as it is written is a stanza.
func isStanza(element string) bool {
	for _, name := range [...]string{"<message", "<presence", "<iq"} {
		if rest, ok := strings.CutPrefix(element, name); ok && rest != "" && strings.ContainsRune(" \t\n/>", rune(rest[0])) {
			return true
		}
	}
	return false
}

// sends follows what the client says.
func (m *Management) sends(element string) error {
	if isStanza(element) {
		if m.sending {
			m.Sent++
			m.unacked = append(m.unacked, element)
		}
		return nil
	}
	if !strings.Contains(element, NSSM) {
		return nil
	}
	n, err := Parse(element, NSClient)
	if err != nil {
		return nil // what is wrong with it is for the server to say
	}
	if n.Is(NSSASL2, "authenticate") { // XEP-0198 §8
		m.resuming = n.Child(NSSM, "resume")
		m.enabling = n.Child(NSBind2, "bind").Child(NSSM, "enable") != nil
		return nil // counting begins with what it is answered with
	}
	switch {
	case m.on:
	case n.Is(NSSM, "enable"):
		// §4: "set to zero and started after sending either <enable/> or <enabled/>".
		m.enabling, m.sending, m.Sent, m.Acked, m.unacked = true, true, 0, 0, nil
	case n.Is(NSSM, "resume"):
		m.resuming = n
	}
	return nil
}

// receives follows what the server says. It reports false for what is between
// the two of them only.
func (m *Management) receives(n *Node) (pass bool, err error) {
	switch {
	case n.Name.Space == NSClient:
		if m.on {
			m.Received++
		}
		return true, nil
	case n.Is(NSSASL2, "success"):
		if r := n.Child(NSSM, "resumed"); r != nil {
			return true, m.resumed(r)
		}
		m.resuming = nil
		if e := n.Child(NSBind2, "bound").Child(NSSM, "enabled"); e != nil {
			m.sending, m.Sent, m.Acked, m.unacked = true, 0, 0, nil
			return true, m.enabled(e)
		}
		m.enabling = false
		return true, nil
	case n.Name.Space != NSSM:
		return true, nil
	}
	switch n.Name.Local {
	case "r":
		m.Asked++
		return false, nil
	case "a":
		m.Answers++
		return false, m.acked(n)
	case "enabled":
		return true, m.enabled(n)
	case "resumed":
		return true, m.resumed(n)
	case "failed":
		if m.enabling {
			m.enabling, m.sending = false, false
		}
		m.resuming = nil
	}
	return true, nil
}

func (m *Management) enabled(n *Node) error {
	if !m.enabling {
		return fmt.Errorf("nobody asked for %s", n)
	}
	m.ID, m.Max = "", n.Attr("max")
	if v := n.Attr("resume"); v == "true" || v == "1" {
		if m.ID = n.Attr("id"); m.ID == "" {
			return fmt.Errorf("%s has no id", n) // §5: MUST
		}
	}
	m.enabling, m.on, m.Received = false, true, 0
	return nil
}

func (m *Management) resumed(n *Node) error {
	q := m.resuming
	if q == nil || n.Attr("previd") != q.Attr("previd") {
		return fmt.Errorf("nobody asked for %s", n)
	}
	if m.ID != q.Attr("previd") { // resumed by hand: what was sent before is not known
		h, err := count(n)
		if err != nil {
			return err
		}
		r, err := count(q)
		if err != nil {
			return err
		}
		m.ID, m.Received, m.Sent, m.Acked, m.unacked = q.Attr("previd"), r, h, h, nil
	}
	m.resuming, m.on, m.sending = nil, true, true
	return m.acked(n) // §5: as 'h' of an <a/>
}

// acked takes the 'h' of an <a/> or a <resumed/>.
func (m *Management) acked(n *Node) error {
	h, err := count(n)
	if err != nil {
		return err
	}
	switch d := h - m.Acked; {
	case !m.on:
		return fmt.Errorf("%s without stream management", n)
	case d > m.Sent-m.Acked:
		return fmt.Errorf("%s: the server has acknowledged from %d to %d, of %d stanzas sent", n, m.Acked, h, m.Sent)
	default:
		m.unacked, m.Acked = m.unacked[d:], h
	}
	return nil
}

// count reads an 'h', an xs:unsignedInt.
func count(n *Node) (uint32, error) {
	h, err := strconv.ParseUint(n.Attr("h"), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: h: %w", n, err)
	}
	return uint32(h), nil
}

// Enable enables stream management with resumption. max is the time to resume
// asked for, "" for none.
func (c *Client) Enable(max string) error {
	if max != "" {
		max = " max='" + escape(max) + "'"
	}
	if err := c.Send("<enable xmlns='" + NSSM + "' resume='true'" + max + "/>"); err != nil {
		return err
	}
	for {
		n, err := c.Receive()
		switch {
		case err != nil:
			c.ended = err
			return err
		case n.Is(NSSM, "enabled"):
			if c.SM.ID == "" {
				return fmt.Errorf("cannot be resumed: %s", n)
			}
			return nil
		case n.Is(NSSM, "failed"):
			return &FailedError{n}
		}
		c.pending = append(c.pending, n)
	}
}

// Ack acknowledges everything received.
func (c *Client) Ack() error {
	return c.Send("<a xmlns='" + NSSM + "' h='" + strconv.FormatUint(uint64(c.SM.Received), 10) + "'/>")
}

// AwaitAck asks, again and again, until the server has acknowledged h stanzas.
// What else comes waits for Next.
func (c *Client) AwaitAck(h uint32) error {
	for {
		answers := c.SM.Answers
		if err := c.Send("<r xmlns='" + NSSM + "'/>"); err != nil {
			return err
		}
		for c.SM.Answers == answers {
			n, err := c.Take()
			if err != nil {
				c.ended = err
				return fmt.Errorf("acknowledged are %d, not %d: %w", c.SM.Acked, h, err)
			}
			if n != nil {
				c.pending = append(c.pending, n)
			}
		}
		// Fewer: the others are being stored.
		if d := int32(c.SM.Acked - h); d == 0 {
			return nil
		} else if d > 0 {
			return fmt.Errorf("acknowledged are %d, not %d", c.SM.Acked, h)
		}
	}
}

// AwaitRequest waits until the server has asked for an acknowledgement n times.
func (c *Client) AwaitRequest(n int) error {
	for c.SM.Asked < n {
		got, err := c.Take()
		if err != nil {
			c.ended = err
			return err
		}
		if got != nil {
			c.pending = append(c.pending, got)
		}
	}
	return nil
}

// FailedError is a <failed/> of stream management.
type FailedError struct{ Node *Node }

func (e *FailedError) Error() string { return "stream management failed: " + e.Node.String() }

// Resume goes on with the session over another connection: it logs in there,
// resumes, and sends again what the server does not acknowledge (XEP-0198 §5).
// The old connection is left as it is. The error is a *FailedError when the
// server has no such session: then the client may bind.
func (c *Client) Resume(conn Conn) error {
	if c.SM.ID == "" {
		return errors.New("the session cannot be resumed")
	}
	left := c.SM.unacked
	c.Reconnect(conn)
	if err := c.Start(c.host); err != nil {
		return err
	}
	if err := c.Authenticate(c.user, c.host, c.password); err != nil {
		return err
	}
	err := c.Send("<resume xmlns='" + NSSM + "' previd='" + escape(c.SM.ID) + "' h='" + strconv.FormatUint(uint64(c.SM.Received), 10) + "'/>")
	if err != nil {
		return err
	}
	n, err := c.Receive()
	switch {
	case err != nil:
		return err
	case n.Is(NSSM, "failed"):
		c.SM = Management{Answer: c.SM.Answer, unacked: left}
		return &FailedError{n}
	case !n.Is(NSSM, "resumed"):
		return fmt.Errorf("want <resumed/>, got %s", n)
	}
	return c.resend()
}

// Reconnect gives the client another connection, on which nothing has been said.
// It remembers its session and what is not acknowledged.
func (c *Client) Reconnect(conn Conn) {
	c.Conn, c.ended = conn, nil
	c.SM.on, c.SM.sending, c.SM.enabling, c.SM.resuming = false, false, false, nil
}

// resend sends again what is not acknowledged; the counters know it already.
func (c *Client) resend() error {
	for _, st := range c.SM.unacked {
		if err := c.Conn.Send(st); err != nil {
			return err
		}
	}
	return nil
}
