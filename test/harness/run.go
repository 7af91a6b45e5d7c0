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
	r := &run{srv: Start(t, s.Options), framing: framing, clients: map[string]*Client{}, vars: Vars{}}
	t.Cleanup(func() {
		for _, c := range r.all {
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
		if c.ended == nil && c.JID != "" {
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
	all     []*Client
	vars    Vars
}

var errGone = errors.New("there is no such client now")

func (r *run) step(st step) error {
	switch st.verb {
	case "connects":
		return r.connect(st.who, strings.Fields(st.rest))
	case "opens":
		c, err := r.dial(st.who)
		if err != nil {
			return err
		}
		host, lang := cut(st.rest)
		c.Lang = lang
		return c.Start(host)
	}
	c := r.clients[st.who]
	if c == nil {
		return errGone
	}
	switch st.verb {
	case "authenticates":
		args := append(strings.Fields(st.rest), Password)
		user, host, _ := strings.Cut(args[0], "@")
		return c.Authenticate(user, host, args[1])
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
	case "drops":
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

func (r *run) dial(who string) (*Client, error) {
	if r.clients[who] != nil {
		return nil, errors.New("is connected already")
	}
	conn, err := r.srv.Dial(r.framing)
	if err != nil {
		return nil, err
	}
	c := &Client{Conn: conn}
	r.clients[who] = c
	r.all = append(r.all, c)
	return c, nil
}

func (r *run) connect(who string, args []string) error {
	full := args[0]
	bare, resource, _ := strings.Cut(full, "/")
	user, host, _ := strings.Cut(bare, "@")
	presence, roster, lang := "<presence/>", false, ""
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
		default:
			return fmt.Errorf("no option %q", args[i])
		}
	}
	c, err := r.dial(who)
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
		if other == c || other.JID == "" || other.ended != nil {
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
	if d := r.vars.Match(want, got); d != "" {
		return fmt.Errorf("%s\n got %s\nwant %s", d, got, want)
	}
	return nil
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
			if r.vars.find(w, []*Node{got}) == 0 {
				want = append(want[:i], want[i+1:]...)
				continue next
			}
		}
		return fmt.Errorf("not expected\n got %s\nwant one of %s", got, want)
	}
	return nil
}

// settle waits until the server has dealt with what the others have sent.
func (r *run) settle(c *Client) error {
	for _, other := range r.clients {
		if other == c || other.JID == "" || other.ended != nil {
			continue
		}
		if err := other.Sync(); err != nil {
			return fmt.Errorf("%s: %w", other.JID, err)
		}
	}
	if c.JID == "" {
		return nil
	}
	return c.Sync()
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
