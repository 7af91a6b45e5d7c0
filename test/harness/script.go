package harness

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/archive"
	"trivium/core/mod/register"
	"trivium/core/mod/upload"
	"trivium/core/router"
)

// Script is a transcript: a conversation of clients with one server. One line is
// one step; a line that begins with white space goes on with the one before, and
// '#' begins a comment line. Before the first step may stand
//
//	account juliet@example.org         an account that nobody below connects to
//	server registration open           XEP-0077 is open on every host
//	server conflict refuse             or rename; RFC 6120 §7.7.2.2
//	server resources 2                 sessions that one account may have
//	server archive always              messages are archived (XEP-0313); else never
//	server uploads on                  XEP-0363: files of 20000 octets, 30000 in a day
//	server inactivity 2s               silence after which a BOSH session is lost
//	server gateway aim.example.org     a gateway domain, see aGateway
//	let name = text                    $name stands for the text in later lines
//
// and then, for a client called romeo,
//
//	romeo connects romeo@example.org/orchard [priority N] [lang de] [roster] [no presence]
//	                                   [managed] [over websocket]
//	romeo opens example.org [lang] [over bosh]  a stream; the next steps negotiate by hand
//	romeo authenticates romeo@example.org [password]
//	romeo logs-in romeo@example.org [token T] [<bind/> ...]
//	                                   the same with SASL2 (XEP-0388), by password or by a
//	                                   token of XEP-0484; what the server says comes next
//	romeo binds [resource]
//	romeo features <stream:features/>  compares the features offered last
//	romeo > <message/>                 sends
//	romeo < <message/>                 receives next, as Vars.Match compares
//	romeo <~ <message/>                the same, in any order with the <~ lines around it
//	romeo awaits <message/>            receives until this comes, whatever else does before
//	romeo quiet                        nothing more has come: shown by a ping round trip
//	romeo disconnects                  ends its stream in order
//	romeo drops                        loses its connection without a word
//	romeo ends [condition]             the server ends the stream, after this stream error
//
// With stream management (XEP-0198), enabled by the word managed or by hand:
//
//	romeo acks [h]                     acknowledges h stanzas, or all it has received
//	romeo acked [h]                    the server acknowledges h stanzas and no more, or all
//	romeo asked                        the server has asked for an acknowledgement again
//	romeo stalls                       gets nothing from now on: its network is gone
//	romeo resumes [over tcp]           logs in and resumes, stalled or dropped; after a stall
//	                                   the old stream is a client called romeo.old
//
// A client counts stanzas from when it has enabled stream management, and those
// of quiet and connects are among them. Requests for an acknowledgement and
// answers to them come at times that the server chooses, so < never sees them.
//
// A client that connects with presence has had its own presence and that of its
// contacts afterwards, and other clients have had its.
type Script struct {
	Name    string
	Options Options
	steps   []step
	ids     bool
}

// Archived returns the transcript for a server that archives everything: the ids
// that messages get then may be anywhere (XEP-0359), besides those that the
// transcript knows of.
func (s *Script) Archived() *Script {
	c := *s
	c.Options.Modules.Archive.Default = archive.Always
	c.ids = true
	return &c
}

type step struct {
	line            int
	who, verb, rest string
}

// ReadScript reads a transcript from a file.
func ReadScript(path string) (*Script, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseScript(path, string(b))
}

// ParseScript reads a transcript.
func ParseScript(name, text string) (*Script, error) {
	s := &Script{Name: name}
	s.Options.Modules.Archive.Default = archive.Never
	lets := map[string]string{}
	expand := func(line string) string {
		for k, v := range lets {
			line = strings.ReplaceAll(line, "$"+k, v)
		}
		return line
	}
	var lines []step
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
		case line[0] == ' ' || line[0] == '\t':
			if len(lines) == 0 {
				return nil, fmt.Errorf("%s:%d: nothing goes on here", name, i+1)
			}
			lines[len(lines)-1].rest += "\n" + trimmed
		default:
			lines = append(lines, step{line: i + 1, rest: trimmed})
		}
	}
	for _, l := range lines {
		word, rest := cut(l.rest)
		rest = expand(rest)
		var err error
		switch word {
		case "let":
			k, v, ok := strings.Cut(rest, "=")
			if !ok {
				err = fmt.Errorf("let name = text")
			}
			lets[strings.TrimSpace(k)] = strings.TrimSpace(v)
		case "account":
			err = s.account(rest)
		case "server":
			err = s.server(strings.Fields(rest))
		default:
			l.who = word
			l.verb, l.rest = cut(rest)
			err = s.add(l)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, l.line, err)
		}
	}
	if len(s.steps) == 0 {
		return nil, fmt.Errorf("%s: no steps", name)
	}
	if s.Options.Modules.Register.Open != nil {
		s.Options.Modules.Register.Open = s.Options.Hosts
	}
	return s, nil
}

// cut splits off the first word.
func cut(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t\n")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

// add checks a step, as far as can be done before it runs.
func (s *Script) add(l step) error {
	args := strings.Fields(l.rest)
	switch l.verb {
	case ">":
		if !strings.HasPrefix(l.rest, "<") {
			return fmt.Errorf("%s > what?", l.who)
		}
	case "<", "<~", "awaits", "features":
		if _, err := Parse(l.rest, NSClient); err != nil {
			return err
		}
	case "connects", "authenticates":
		if len(args) == 0 {
			return fmt.Errorf("%s %s as whom?", l.who, l.verb)
		}
		if l.verb == "authenticates" {
			break // the account may be made on the way
		}
		if err := s.account(args[0]); err != nil {
			return err
		}
	case "logs-in":
		if len(args) == 0 {
			return fmt.Errorf("%s logs in as whom?", l.who)
		}
		if err := s.account(args[0]); err != nil {
			return err
		}
	case "opens":
		if len(args) < 1 || len(args) > 4 {
			return fmt.Errorf("%s opens a stream to which host?", l.who)
		}
		s.host(args[0])
	case "acks", "acked":
		if len(args) > 0 {
			if _, err := strconv.ParseUint(args[0], 10, 32); err != nil {
				return fmt.Errorf("%s %s how many? %w", l.who, l.verb, err)
			}
		}
	case "binds", "quiet", "disconnects", "drops", "ends", "asked", "stalls", "resumes":
	default:
		return fmt.Errorf("no step %q", l.verb)
	}
	s.steps = append(s.steps, l)
	return nil
}

func (s *Script) account(address string) error {
	j, err := jid.Parse(address)
	if err != nil {
		return err
	}
	s.host(j.Domain())
	if a := j.Bare().String(); !slices.Contains(s.Options.Accounts, a) {
		s.Options.Accounts = append(s.Options.Accounts, a)
	}
	return nil
}

func (s *Script) host(h string) {
	if !slices.Contains(s.Options.Hosts, h) {
		s.Options.Hosts = append(s.Options.Hosts, h)
	}
}

func (s *Script) server(args []string) error {
	o := &s.Options
	switch strings.Join(args, " ") {
	case "registration open":
		o.Modules.Register = register.Options{Open: []string{}}
		return nil
	case "archive always":
		o.Modules.Archive.Default = archive.Always
		return nil
	case "uploads on":
		o.Modules.Upload = upload.Options{
			URL: func(host string) string { return "https://" + host + "/upload" }, MaxSize: 20000, Quota: 30000,
		}
		return nil
	case "conflict refuse":
		o.Sessions.Conflict = router.ConflictRefuse
		return nil
	case "conflict rename":
		o.Sessions.Conflict = router.ConflictRename
		return nil
	}
	if len(args) == 2 && args[0] == "resources" {
		var err error
		o.Sessions.MaxSessions, err = strconv.Atoi(args[1])
		return err
	}
	if len(args) == 2 && args[0] == "inactivity" {
		var err error
		o.BOSH.Inactivity, err = time.ParseDuration(args[1])
		return err
	}
	if len(args) == 2 && args[0] == "gateway" {
		o.Gateways = append(o.Gateways, aGateway(args[1]))
		return nil
	}
	return fmt.Errorf("no setting %q", strings.Join(args, " "))
}
