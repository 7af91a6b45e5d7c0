package harness

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// played is a Conn whose server says what has been written down.
type played struct {
	says []string
	sent []string
}

func (p *played) Open(string, string) error   { return nil }
func (p *played) Send(element string) error   { p.sent = append(p.sent, element); return nil }
func (p *played) SendRaw(octets string) error { return p.Send(octets) }
func (p *played) Close() error                { return nil }
func (p *played) Drop()                       {}
func (p *played) Receive() (*Node, error) {
	if len(p.says) == 0 {
		return nil, ErrEnd
	}
	n, err := Parse(p.says[0], NSClient)
	p.says = p.says[1:]
	return n, err
}

const (
	smEnabled = "<enabled xmlns='" + NSSM + "' id='s1' resume='true'/>"
	smA       = "<a xmlns='" + NSSM + "' h='%d'/>"
	smMessage = "<message><body>Hist!</body></message>"
)

// A client holds the server to its counters.
func TestManagementCounts(t *testing.T) {
	for _, tt := range []struct {
		name string
		send []string // after <enable/>
		says []string // after <enabled/>
		err  string   // "" when the server is right
		in   uint32
		left int // not acknowledged
	}{
		{name: "nothing", says: []string{fmt.Sprintf(smA, 0)}},
		{name: "stanzas count", send: []string{smMessage, "<presence/>", "<iq\ntype='get' id='1'/>"}, left: 3},
		{name: "others do not", send: []string{"<r xmlns='" + NSSM + "'/>", "<inactive xmlns='urn:xmpp:csi:0'/>", "<messages/>"}},
		{name: "received", says: []string{smMessage, "<r xmlns='" + NSSM + "'/>", "<iq type='result' id='1'/>"}, in: 2},
		{name: "acknowledged", send: []string{smMessage, smMessage, smMessage}, says: []string{fmt.Sprintf(smA, 1), fmt.Sprintf(smA, 2)}, left: 1},
		{name: "one too many", send: []string{smMessage}, says: []string{fmt.Sprintf(smA, 2)}, err: "of 1 stanzas"},
		{name: "backwards", send: []string{smMessage, smMessage}, says: []string{fmt.Sprintf(smA, 2), fmt.Sprintf(smA, 1)}, err: "from 2 to 1"},
		{name: "no number", says: []string{"<a xmlns='" + NSSM + "'/>"}, err: "h:"},
		{name: "resumed without being asked", says: []string{"<resumed xmlns='" + NSSM + "' h='0' previd='s1'/>"}, err: "nobody asked"},
		{name: "enabled again", says: []string{smEnabled}, err: "nobody asked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &played{says: append([]string{smEnabled}, tt.says...)}
			c := &Client{Conn: p}
			if err := c.Enable(""); err != nil {
				t.Fatal(err)
			}
			for _, st := range tt.send {
				if err := c.Send(st); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			for err == nil {
				_, err = c.Receive()
			}
			switch {
			case tt.err == "" && !errors.Is(err, ErrEnd) || tt.err != "" && !strings.Contains(err.Error(), tt.err):
				t.Errorf("%v, want %q", err, tt.err)
			case tt.err != "":
			case c.SM.Received != tt.in || len(c.Unacked()) != tt.left:
				t.Errorf("received %d, left %q", c.SM.Received, c.Unacked())
			}
		})
	}
}

// Counters pass 2^32 - 1 as XEP-0198 §4 says.
func TestManagementWraps(t *testing.T) {
	p := &played{says: []string{smEnabled, fmt.Sprintf(smA, uint32(1<<32-1)), fmt.Sprintf(smA, 1)}}
	c := &Client{Conn: p}
	if err := c.Enable(""); err != nil {
		t.Fatal(err)
	}
	c.SM.Sent, c.SM.Acked = 1<<32-2, 1<<32-2
	for range 3 {
		if err := c.Send(smMessage); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Receive(); !errors.Is(err, ErrEnd) || len(c.Unacked()) != 0 || c.SM.Acked != 1 {
		t.Errorf("%v, %d left, acknowledged %d", err, len(c.Unacked()), c.SM.Acked)
	}
}

// Inline in SASL2 and Bind 2 it is the same (XEP-0198 §8).
func TestManagementInline(t *testing.T) {
	p := &played{says: []string{
		"<success xmlns='" + NSSASL2 + "'><bound xmlns='" + NSBind2 + "'>" + smEnabled + "</bound></success>", smMessage, smMessage,
		"<success xmlns='" + NSSASL2 + "'><resumed xmlns='" + NSSM + "' h='1' previd='s1'/></success>", smMessage,
	}}
	c := &Client{Conn: p}
	next := func(want string) {
		t.Helper()
		if n, err := c.Receive(); err != nil || n.Name.Local != want {
			t.Fatalf("%v %v", n, err)
		}
	}
	auth := "<authenticate xmlns='" + NSSASL2 + "' mechanism='X'>%s</authenticate>"
	if err := c.Send(fmt.Sprintf(auth, "<bind xmlns='"+NSBind2+"'><enable xmlns='"+NSSM+"' resume='true'/></bind>")); err != nil {
		t.Fatal(err)
	}
	next("success")
	next("message")
	next("message")
	for _, body := range []string{"1", "2"} {
		if err := c.Send("<message><body>" + body + "</body></message>"); err != nil {
			t.Fatal(err)
		}
	}
	if c.SM.Received != 2 || c.SM.ID != "s1" || !c.Managed() {
		t.Fatalf("%+v", c.SM)
	}
	c.Reconnect(p)
	if err := c.Send(fmt.Sprintf(auth, "<resume xmlns='"+NSSM+"' previd='s1' h='2'/>")); err != nil {
		t.Fatal(err)
	}
	next("success")
	if left := c.Unacked(); len(left) != 1 || !strings.Contains(left[0], "2") {
		t.Errorf("left %q", left)
	}
	next("message")
	if c.SM.Received != 3 || c.SM.Sent != 2 || !c.Managed() {
		t.Errorf("%+v", c.SM)
	}
}
