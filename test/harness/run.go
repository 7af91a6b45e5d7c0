package harness

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// Run plays a transcript over one framing, on a server of its own.
func (s *Script) Run(t *testing.T, framing string) {
	t.Helper()
	if err := s.play(t, framing); err != nil {
		t.Fatal(err)
	}
}

func (s *Script) play(t *testing.T, framing string) error {
	r := &run{srv: Start(t, s.Options), framing: framing, clients: map[string]*Client{}, vars: Vars{}, ids: s.ids}
	t.Cleanup(func() {
		for _, c := range r.conns {
			c.Drop()
		}
	})
	for i := 0; i < len(s.steps); i++ {
		st := s.steps[i]
		var err error
		if st.verb == "<~" {
			var group []step
			for ; i < len(s.steps) && s.steps[i].verb == "<~" && s.steps[i].who == st.who; i++ {
				group = append(group, s.steps[i])
			}
			i--
			err = r.anyOrder(group)
		} else {
			err = r.step(st)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %s %s: %w", s.Name, st.line, st.who, st.verb, err)
		}
	}
	// What was not expected is a mistake, too.
	for who, c := range r.clients {
		if c.here() {
			if err := r.quiet(c); err != nil {
				return fmt.Errorf("%s: at the end, %s: %w", s.Name, who, err)
			}
		}
	}
	return nil
}

// run is one performance of a Script.
type run struct {
	srv     *Server
	framing string
	clients map[string]*Client
	conns   []Conn
	vars    Vars
	ids     bool // ids of archives may be anywhere
}

var errGone = errors.New("there is no such client now")

// here tells whether the client is bound and has a stream to talk on.
func (c *Client) here() bool { return c.JID != "" && c.ended == nil && !c.away }

func (r *run) step(st step) error {
	switch st.verb {
	case "connects":
		return r.connect(st.who, strings.Fields(st.rest))
	case "opens":
		args := strings.Fields(st.rest)
		framing := r.framing
		if n := len(args); n > 2 && args[n-2] == "over" {
			framing, args = args[n-1], args[:n-2]
		}
		c, err := r.dial(st.who, framing)
		if err != nil {
			return err
		}
		if len(args) > 1 {
			c.Lang = args[1]
		}
		return c.Start(args[0])
	}
	c := r.clients[st.who]
	if c == nil || c.away && st.verb != "resumes" && st.verb != "drops" {
		return errGone
	}
	switch st.verb {
	case "authenticates":
		args := append(strings.Fields(st.rest), Password)
		user, host, _ := strings.Cut(args[0], "@")
		return c.Authenticate(user, host, args[1])
	case "logs-in":
		return c.logIn(r.vars.fill(st.rest))
	case "binds":
		return c.Bind(st.rest)
	case ">":
		return c.Send(r.vars.fill(st.rest))
	case "<":
		got, err := c.Next()
		if err != nil {
			return fmt.Errorf("%w\nwant %s", err, st.rest)
		}
		return r.compare(st.rest, got)
	case "awaits":
		want, err := Parse(st.rest, NSClient)
		if err != nil {
			return err
		}
		for {
			got, err := c.Next()
			if err != nil {
				return fmt.Errorf("%w\nwant %s", err, st.rest)
			}
			if r.vars.find(want, []*Node{r.plain(want, got)}) == 0 {
				return nil
			}
		}
	case "features":
		return r.compare(st.rest, c.Stream)
	case "quiet":
		return r.quiet(c)
	case "disconnects":
		if err := r.settle(c); err != nil {
			return err
		}
		delete(r.clients, st.who)
		if err := c.Close(); err != nil {
			return err
		}
		return r.ends(c, "")
	case "acks":
		h := c.SM.Received
		if st.rest != "" {
			h = number(st.rest)
		}
		return c.Send("<a xmlns='" + NSSM + "' h='" + strconv.FormatUint(uint64(h), 10) + "'/>")
	case "acked":
		h := c.SM.Sent
		if st.rest != "" {
			h = number(st.rest)
		}
		return c.AwaitAck(h)
	case "asked":
		err := c.AwaitRequest(c.asked + 1)
		c.asked = c.SM.Asked
		return err
	case "stalls":
		if err := r.settleOthers(c); err != nil {
			return err
		}
		c.away, c.stalled = true, true
		return nil
	case "resumes":
		return r.resume(st.who, c, st.rest)
	case "drops":
		if c.away { // stalled before
			c.stalled = false
			c.Drop()
			return nil
		}
		if c.SM.ID != "" {
			// What it has not received yet it never will.
			if err := r.settleOthers(c); err != nil {
				return err
			}
			c.away = true
			c.Drop()
			return nil
		}
		if err := r.settle(c); err != nil {
			return err
		}
		delete(r.clients, st.who)
		if _, ok := c.Conn.(*boshConn); ok {
			// A BOSH client has no connection to lose; it would be missed only after the
			// time of inactivity (XEP-0124 §10).
			return c.Close()
		}
		c.Drop()
		return nil
	case "ends":
		delete(r.clients, st.who)
		return r.ends(c, st.rest)
	}
	return fmt.Errorf("no step %q", st.verb)
}

// number reads what Script.add has checked.
func number(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

func (r *run) dial(who, framing string) (*Client, error) {
	if r.clients[who] != nil {
		return nil, errors.New("is connected already")
	}
	conn, err := r.srv.Dial(framing)
	if err != nil {
		return nil, err
	}
	c := &Client{Conn: conn}
	r.clients[who] = c
	r.conns = append(r.conns, conn)
	return c, nil
}

// resume goes on over another connection.
func (r *run) resume(who string, c *Client, over string) error {
	framing := r.framing
	if over != "" {
		framing = strings.TrimSpace(strings.TrimPrefix(over, "over"))
	}
	conn, err := r.srv.Dial(framing)
	if err != nil {
		return err
	}
	r.conns = append(r.conns, conn)
	if !c.away {
		return errors.New("is connected: stalls or drops come first")
	}
	if err := r.settleOthers(c); err != nil { // what they have sent waits for the session
		return err
	}
	if c.stalled {
		old := *c // what its network has lost is still in there
		r.clients[who+".old"] = &Client{Conn: c.Conn, host: c.host, SM: old.SM}
	}
	if err := c.Resume(conn); err != nil {
		return err
	}
	c.away, c.stalled = false, false
	return nil
}

// logIn logs in with SASL2: "romeo@example.org [token T] [<inline/> ...]".
func (c *Client) logIn(text string) error {
	bare, rest := cut(text)
	l := Login{Password: Password}
	l.User, l.Host, _ = strings.Cut(bare, "@")
	if word, after := cut(rest); word == "token" {
		l.Token, rest = cut(after)
	}
	l.Inline = rest
	n, err := c.LogIn(l)
	if refused := (*FailureError)(nil); errors.As(err, &refused) {
		err = nil
	}
	if n != nil && err == nil {
		c.pending = append(c.pending, n)
	}
	return err
}

func (r *run) connect(who string, args []string) error {
	full := args[0]
	bare, resource, _ := strings.Cut(full, "/")
	user, host, _ := strings.Cut(bare, "@")
	presence, roster, lang := "<presence/>", false, ""
	managed, framing := false, r.framing
	for i := 1; i < len(args); i++ {
		switch args[i] {
		case "priority":
			i++
			if i == len(args) {
				return errors.New("which priority?")
			}
			n, err := strconv.Atoi(args[i])
			if err != nil {
				return err
			}
			presence = "<presence><priority>" + strconv.Itoa(n) + "</priority></presence>"
		case "no":
			i++
			presence = ""
		case "lang":
			if i++; i == len(args) {
				return errors.New("which language?")
			}
			lang = args[i]
		case "roster":
			roster = true
		case "managed":
			managed = true
		case "over":
			if i++; i == len(args) {
				return errors.New("over which framing?")
			}
			framing = args[i]
		default:
			return fmt.Errorf("no option %q", args[i])
		}
	}
	c, err := r.dial(who, framing)
	if err != nil {
		return err
	}
	c.Lang = lang
	if err := c.Start(host); err != nil {
		return err
	}
	if err := c.Authenticate(user, host, Password); err != nil {
		return err
	}
	if err := c.Bind(resource); err != nil {
		return err
	}
	if managed {
		if err := c.Enable(""); err != nil {
			return err
		}
	}
	if roster { // RFC 6121 §2.2: from now on it is an interested resource
		n, err := c.Request("<iq type='get' id='connects'><query xmlns='" + NSRoster + "'/></iq>")
		if err != nil {
			return err
		}
		if n.Attr("type") != "result" {
			return fmt.Errorf("roster get: %s", n)
		}
	}
	if presence == "" {
		return nil
	}
	if err := c.Send(presence); err != nil {
		return err
	}
	if err := c.Sync(); err != nil {
		return err
	}
	c.filter(func(n *Node) bool { // its own presence, that of contacts
		return !n.Is(NSClient, "presence") || n.Attr("type") != ""
	})
	for _, other := range r.clients {
		if other == c || !other.here() {
			continue
		}
		if err := other.Sync(); err != nil {
			return err
		}
		other.filter(func(n *Node) bool {
			return !n.Is(NSClient, "presence") || n.Attr("type") != "" || n.Attr("from") != c.JID
		})
	}
	return nil
}

func (r *run) compare(pattern string, got *Node) error {
	want, err := Parse(pattern, NSClient)
	if err != nil {
		return err
	}
	if d := r.vars.Match(want, r.plain(want, got)); d != "" {
		return fmt.Errorf("%s\n got %s\nwant %s", d, got, want)
	}
	return nil
}

// plain returns got without the ids of archives (XEP-0359) that the pattern does
// not know of, where they may be anywhere.
func (r *run) plain(want, got *Node) *Node {
	if !r.ids {
		return got
	}
	known := map[string]bool{}
	want.walk(func(n *Node) {
		if n.Is(NSStanzaID, "stanza-id") {
			known[n.Attr("by")] = true
		}
	})
	return got.prune(func(n *Node) bool { return n.Is(NSStanzaID, "stanza-id") && !known[n.Attr("by")] })
}

func (r *run) anyOrder(group []step) error {
	c := r.clients[group[0].who]
	if c == nil {
		return errGone
	}
	var want []*Node
	for _, st := range group {
		n, err := Parse(st.rest, NSClient)
		if err != nil {
			return err
		}
		want = append(want, n)
	}
next:
	for len(want) > 0 {
		got, err := c.Next()
		if err != nil {
			return fmt.Errorf("%w\nwant %s", err, want)
		}
		for i, w := range want {
			if r.vars.find(w, []*Node{r.plain(w, got)}) == 0 {
				want = append(want[:i], want[i+1:]...)
				continue next
			}
		}
		return fmt.Errorf("not expected\n got %s\nwant one of %s", got, want)
	}
	return nil
}

// settle waits until the server has dealt with what the others and c have sent.
func (r *run) settle(c *Client) error {
	if err := r.settleOthers(c); err != nil || c.JID == "" {
		return err
	}
	return c.Sync()
}

func (r *run) settleOthers(c *Client) error {
	for _, other := range r.clients {
		if other == c || !other.here() {
			continue
		}
		if err := other.Sync(); err != nil {
			return fmt.Errorf("%s: %w", other.JID, err)
		}
	}
	return nil
}

func (r *run) quiet(c *Client) error {
	if err := r.settle(c); err != nil {
		return err
	}
	if len(c.pending) > 0 {
		return fmt.Errorf("did not expect %s", c.pending)
	}
	return nil
}

// drain reads until the stream has ended.
func (r *run) drain(c *Client) ([]*Node, error) {
	var all []*Node
	for {
		n, err := c.Next()
		if errors.Is(err, ErrEnd) {
			c.ended = err
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, n)
	}
}

func (r *run) ends(c *Client, condition string) error {
	all, err := r.drain(c)
	if err != nil {
		return err
	}
	if condition == "" {
		if len(all) > 0 {
			return fmt.Errorf("did not expect %s", all)
		}
		return nil
	}
	if len(all) != 1 || !all[0].Is(NSStream, "error") || all[0].Child(NSStreams, condition) == nil {
		return fmt.Errorf("want the stream error %s, got %s", condition, all)
	}
	return nil
}
