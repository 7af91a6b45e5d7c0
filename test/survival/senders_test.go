package survival

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"

	"trivium/test/harness"
)

const (
	perSender = 150 // messages in one round
	window    = 20  // sent without an acknowledgement
	askEvery  = 5   // messages between two <r/>
)

// sender sends to everybody as fast as it is told that its messages are safe.
type sender struct {
	name    string
	framing string // or "rest"
	roams   bool   // loses its connection again and again, and resumes over any framing
	rng     *rand.Rand
	n       int // of the last message

	c     *harness.Client
	base  int // n when stream management was enabled
	noted int // stanzas since then that are noted as acknowledged
	http  *http.Client
}

// login makes the sender ready for a round. It tries to resume what it had.
func (s *sender) login(srv *server) error {
	if s.framing == "rest" {
		s.http = &http.Client{Transport: &http.Transport{}}
		return nil
	}
	var err error
	if s.c, err = login(srv, s.framing, s.name, s.c); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if err := s.c.Enable(""); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.base, s.noted = s.n, 0
	return nil
}

// login binds a session. What the client had before is to be resumed, which has
// to fail: the server that knew it is gone.
func login(srv *server, framing, name string, old *harness.Client) (*harness.Client, error) {
	conn, err := srv.addr.Dial(framing)
	if err != nil {
		return nil, err
	}
	if old != nil && old.SM.ID != "" {
		var failed *harness.FailedError
		switch err := old.Resume(conn); {
		case err == nil:
			return nil, errors.New("a session that was lost has been resumed")
		case !errors.As(err, &failed):
			return nil, err
		case failed.Node.Child(harness.NSStanzas, "item-not-found") == nil:
			return nil, fmt.Errorf("want item-not-found, got %w", err)
		}
		// XEP-0198 §5: "the server SHOULD allow the client to bind a resource at this
		// point".
		return old, old.Bind("r")
	}
	c := &harness.Client{Conn: conn}
	for _, err := range []error{c.Start(domain), c.Authenticate(name, domain, harness.Password), c.Bind("r")} {
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// flood sends until it has sent enough or the server is gone.
func (s *sender) flood(f *flood) error {
	if s.framing == "rest" {
		defer s.http.CloseIdleConnections()
		return s.floodREST(f)
	}
	err := s.floodXMPP(f)
	if !f.isDown() {
		return err
	}
	for err == nil || !isRule(err) { // what it was told before
		if _, err = s.c.Take(); err != nil {
			break
		}
	}
	s.note(f)
	s.c.Drop()
	if isRule(err) {
		return err
	}
	return nil
}

func isRule(err error) bool {
	var rule *harness.RuleError
	return errors.As(err, &rule)
}

func (s *sender) floodXMPP(f *flood) error {
	leg := s.rng.IntN(30) + 5
	for i := range perSender {
		if leg--; s.roams && leg < 0 {
			leg = s.rng.IntN(30) + 5
			if err := roam(f, s.c, s.rng); err != nil {
				return err
			}
			s.note(f)
		}
		to := f.choose(s)
		if err := s.c.Send("<message type='chat' to='" + to + "@" + domain + "' id='" + strconv.Itoa(s.n) + "'><body>" + s.name + " " + strconv.Itoa(s.n) + f.padding + "</body></message>"); err != nil {
			return err
		}
		if i%askEvery == askEvery-1 {
			if err := s.ask(); err != nil {
				return err
			}
		}
		if err := s.await(f, window); err != nil {
			return err
		}
	}
	return s.await(f, 0)
}

func (s *sender) ask() error { return s.c.Send("<r xmlns='" + harness.NSSM + "'/>") }

// await reads until no more than left messages are not acknowledged.
func (s *sender) await(f *flood, left uint32) error {
	for asked := -1; s.c.SM.Sent-s.c.SM.Acked > left; {
		if asked != s.c.SM.Answers { // the last answer was not enough
			asked = s.c.SM.Answers
			if err := s.ask(); err != nil {
				return err
			}
		}
		n, err := s.c.Take()
		if err != nil {
			return err
		}
		if n != nil && n.Attr("type") == "error" {
			return fmt.Errorf("%s was told %s", s.name, n)
		}
		s.note(f)
	}
	return nil
}

// note writes down what has been acknowledged.
func (s *sender) note(f *flood) {
	for ; s.noted < int(s.c.SM.Acked); s.noted++ {
		f.acked(message{s.name, s.base + s.noted + 1})
	}
}

func (s *sender) floodREST(f *flood) error {
	for range perSender {
		to := f.choose(s)
		body, err := json.Marshal(map[string]string{
			"to": to + "@" + domain, "type": "chat", "body": s.name + " " + strconv.Itoa(s.n) + f.padding,
		})
		if err != nil {
			return err
		}
		rq, err := http.NewRequest(http.MethodPost, f.srv.addr.HTTP+"/api/v1/messages", bytes.NewReader(body))
		if err != nil {
			return err
		}
		rq.Header.Set("Content-Type", "application/json")
		rq.Header.Set("Authorization", "Bearer "+f.srv.tokens[s.name])
		res, err := s.http.Do(rq)
		if err != nil {
			if f.isDown() {
				return nil
			}
			return err
		}
		answer, _ := io.ReadAll(res.Body)
		res.Body.Close()
		switch {
		case res.StatusCode == http.StatusAccepted:
			f.acked(message{s.name, s.n})
		case f.isDown():
			return nil
		default:
			return fmt.Errorf("%s: %s: %s", s.name, res.Status, answer)
		}
	}
	return nil
}
