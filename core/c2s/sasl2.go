//spec:xep-0388 1.0.4 complete | Extensible SASL Profile | with and without 'from'; inline Bind 2, stream management and FAST; tasks
//spec:xep-0478 0.2.0 complete | Stream Limits Advertisement | size and idle time, before and after login
package c2s

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/core/sasl"
	"trivium/core/stanza"
	"trivium/core/stream"
	"trivium/core/wire"
)

const (
	nsSASL2 = "urn:xmpp:sasl:2" // XEP-0388
	nsFAST  = "urn:xmpp:fast:0" // XEP-0484
)

// clientKeeper is an optional ability of a VirtualHost's Backend: it remembers the
// clients of its accounts and gives them tokens (auth.Service.Host).
type clientKeeper interface {
	NoteClient(ctx context.Context, username string, l auth.ClientLogin) (auth.Grant, error)
	Resource(username, client string) string
}

// authentication is the stream feature of SASL2 (XEP-0388 §2.1), with what a client
// may ask for in the same breath.
func (s *session) authentication() *stanza.Element {
	el := stanza.El(nsSASL2, "authentication")
	for _, name := range s.login.offer2.Mechanisms() {
		el.Add(stanza.TextEl(nsSASL2, "mechanism", name))
	}
	inline := stanza.El(nsSASL2, "inline", s.bind2Feature(), stanza.El(nsManage, "sm")) // XEP-0198 §8.2
	if names := s.login.offer2.TokenMechanisms(); len(names) > 0 {
		// XEP-0484 §3.1. There is no early data in our TLS.
		fast := stanza.El(nsFAST, "fast")
		for _, name := range names {
			fast.Add(stanza.TextEl(nsFAST, "mechanism", name))
		}
		inline.Add(fast)
	}
	el.Add(inline)
	for _, h := range s.upgrades() {
		el.Add(stanza.TextEl(nsUpgrade, "upgrade", upgradeName(h))) // XEP-0480 §2.1
	}
	return el
}

// decode decodes what a peer sends of an exchange: nil is none.
func decode(space, text string) ([]byte, error) {
	if space == nsSASL {
		return sasl.Decode(text)
	}
	// XEP-0388 §2.2: an empty element is an empty string. White space SHOULD NOT be
	// there, but is harmless around.
	text = strings.Trim(text, " \t\r\n")
	switch text {
	case "":
		return []byte{}, nil
	case "=":
		return nil, &sasl.Failure{Condition: sasl.IncorrectEncoding}
	}
	return sasl.Decode(text)
}

// encode writes what a peer is sent of an exchange.
func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// loginRequest is an <authenticate/> (XEP-0388 §2.4).
type loginRequest struct {
	mechanism string
	initial   []byte // nil: none
	agent     userAgent
	fast      bool // a token is provided
	use       sasl.TokenUse
	want      string // mechanism of the token that is asked for; "" for none
	upgrades  []string
	resume    *stanza.Element // nil: none
	bind      *stanza.Element // nil: none

	began    time.Time // before the account was looked at
	username string    // "" for ANONYMOUS
}

// userAgent is what the client says of itself.
type userAgent struct {
	id               string // a UUID v4 in lower case, or ""
	software, device string
}

// parseLogin reads an <authenticate/>. The error is a *sasl.Failure.
func parseLogin(el *stanza.Element) (rq loginRequest, err error) {
	rq.mechanism = el.Attr("mechanism")
	if in := el.Child(nsSASL2, "initial-response"); in != nil {
		if rq.initial, err = decode(nsSASL2, in.Text()); err != nil {
			return rq, err
		}
	}
	if ua := el.Child(nsSASL2, "user-agent"); ua != nil {
		// An id that is none is as good as no id: the client is not remembered.
		if id := strings.ToLower(ua.Attr("id")); isUUIDv4(id) {
			rq.agent.id = id
		}
		rq.agent.software = label(ua.ChildText(nsSASL2, "software"))
		rq.agent.device = label(ua.ChildText(nsSASL2, "device"))
	}
	if fast := el.Child(nsFAST, "fast"); fast != nil {
		rq.fast = true
		if rq.use, err = parseUse(fast); err != nil {
			return rq, err
		}
		if rq.agent.id == "" { // XEP-0484 §4.1
			return rq, &sasl.Failure{Condition: sasl.MalformedRequest, Cause: errNoID}
		}
	}
	rq.want = el.Child(nsFAST, "request-token").Attr("mechanism")
	for _, up := range el.Children(nsUpgrade, "upgrade") {
		rq.upgrades = append(rq.upgrades, strings.TrimSpace(up.Text()))
	}
	rq.resume = el.Child(nsManage, "resume")
	rq.bind = el.Child(nsBind2, "bind")
	return rq, nil
}

var (
	errNoID    = errors.New("a token needs a user-agent id")
	errFrom    = errors.New("the account is not the one that the stream is from")
	errRevoked = errors.New("the client was revoked")
)

// parseUse reads the attributes of <fast/> (XEP-0484 §3.4, §3.6).
func parseUse(fast *stanza.Element) (u sasl.TokenUse, err error) {
	if text, ok := fast.Lookup("count"); ok {
		// "The value of this attribute MUST be a positive integer", an xs:int.
		n, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(text), "+"), 10, 31)
		if err != nil || n == 0 {
			return u, &sasl.Failure{Condition: sasl.MalformedRequest, Cause: err}
		}
		u.Count = uint32(n)
	}
	switch strings.TrimSpace(fast.Attr("invalidate")) {
	case "", "0", "false":
	case "1", "true":
		u.Invalidate = true
	default:
		return u, &sasl.Failure{Condition: sasl.MalformedRequest}
	}
	return u, nil
}

// isUUIDv4 checks the form of RFC 9562 §4 and §5.4, in lower case.
func isUUIDv4(s string) bool {
	if len(s) != 36 || s[14] != '4' || !strings.ContainsRune("89ab", rune(s[19])) {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}

// labelMax bounds the name of a software or a device in octets.
const labelMax = 128

// label makes a text that a client chose fit for lists: one line, not too long, and
// nothing that turns what stands beside it around.
func label(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
	}), " ")
	if len(s) > labelMax {
		s = s[:labelMax]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}

// authenticate2 takes an attempt by SASL2, from <authenticate/> to <success/> and
// what was asked for beside it.
func (s *session) authenticate2(ctx context.Context, el *stanza.Element) (state, error) {
	offer := s.login.offer2
	if offer == nil {
		return s.refuse(nsSASL2, nil, &sasl.Failure{Condition: sasl.EncryptionRequired})
	}
	began := time.Now()
	rq, err := parseLogin(el)
	if err != nil {
		return s.refuse(nsSASL2, nil, err)
	}
	var ex sasl.Exchange
	if rq.fast {
		ex, err = offer.StartToken(rq.mechanism, rq.agent.id, rq.use)
	} else {
		ex, err = offer.Start(rq.mechanism)
	}
	if err != nil {
		return s.refuse(nsSASL2, nil, err)
	}
	data, err := s.exchange(ctx, nsSASL2, ex, rq.initial)
	if err != nil {
		return s.refuse(nsSASL2, ex, err)
	}
	account, err := s.identify(ex)
	if err == nil && s.login.from.Local() != "" && s.login.from != account {
		// XEP-0388 §2.4, §6.4
		err = &sasl.Failure{Condition: sasl.InvalidAuthzid, Cause: errFrom}
	}
	if err != nil {
		return s.refuse(nsSASL2, ex, err)
	}
	rq.began, rq.username = began, ex.Username()
	if data, err = s.runTasks(ctx, s.tasksFor(ctx, &rq), data); err != nil {
		return s.refuse(nsSASL2, nil, err)
	}
	grant, err := s.noteClient(ctx, &rq)
	if err != nil {
		return s.refuse(nsSASL2, ex, err)
	}
	s.authenticated(account)
	return s.proceed(ctx, &rq, data, grant)
}

// byPassword reports whether a mechanism shows that the client knows the password.
func byPassword(mechanism string) bool {
	return mechanism == "PLAIN" || strings.HasPrefix(mechanism, "SCRAM-")
}

// noteClient notes where an account was logged in from, and returns the token to
// tell. The error is a *sasl.Failure.
func (s *session) noteClient(ctx context.Context, rq *loginRequest) (auth.Grant, error) {
	keeper, ok := sasl.As[clientKeeper](s.host.Backend)
	if !ok || rq.agent.id == "" || rq.username == "" {
		return auth.Grant{}, nil // XEP-0484 §4.1: a token needs the id
	}
	l := auth.ClientLogin{
		ID: rq.agent.id, Software: rq.agent.software, Device: rq.agent.device,
		Mechanism: rq.mechanism, Began: rq.began,
		Password: byPassword(rq.mechanism), ByToken: rq.fast, Invalidated: rq.use.Invalidate,
	}
	for _, name := range s.login.offer2.TokenMechanisms() {
		if name == rq.want {
			l.Request = name // XEP-0484 §3.2: one of those advertised
		}
	}
	grant, err := keeper.NoteClient(ctx, rq.username, l)
	switch {
	case errors.Is(err, auth.ErrNoClient):
		return auth.Grant{}, &sasl.Failure{Condition: sasl.NotAuthorized, Cause: errRevoked}
	case err != nil: // the client is in all the same, and asks again next time
		s.svc.log.Error("the login of a client was not noted", "remote", s.remote().String(), "err", err)
		return auth.Grant{}, nil
	}
	return grant, nil
}

// proceed ends a successful login: it resumes, or binds, or does neither, and tells
// (XEP-0388 §2.6.1).
func (s *session) proceed(ctx context.Context, rq *loginRequest, data []byte, grant auth.Grant) (state, error) {
	var inline stanza.Payloads
	if rq.resume != nil {
		// XEP-0198 §8.2: before anything else, and if it works instead of it.
		reply, ok := s.resume(rq.resume)
		inline = append(inline, reply)
		if ok {
			if err := s.send(success(data, s.peer.JID, inline, grant)); err != nil {
				return nil, err
			}
			return nil, s.resumed() // and no features
		}
	}
	if rq.bind != nil {
		return nil, s.bind2(ctx, rq, func(full jid.JID, bound stanza.Payload) stanza.Payload {
			return success(data, full, append(inline, bound), grant)
		})
	}
	// No stream restart: the features follow at once.
	return awaitBind, s.send(success(data, s.account, inline, grant), s.bindFeatures())
}

// success is <success/> of XEP-0388 §2.6.1.
func success(data []byte, id jid.JID, inline stanza.Payloads, grant auth.Grant) stanza.Payload {
	b := []byte("<success xmlns='" + nsSASL2 + "'>")
	if data != nil {
		b = append(append(append(b, "<additional-data>"...), encode(data)...), "</additional-data>"...)
	}
	b = append(b, "<authorization-identifier>"...)
	b = wire.AppendText(b, id.String())
	b = append(b, "</authorization-identifier>"...)
	b = inline.AppendXML(b)
	if grant.Token != "" {
		b = stanza.El(nsFAST, "token").Set("expiry", grant.Expiry.Format(time.RFC3339)).Set("token", grant.Token).AppendXML(b)
	}
	return stanza.Raw(append(b, "</success>"...))
}

// task is something a client has to do after it has proved who it is and before it
// is let in (XEP-0388 §2.6.3).
type task interface {
	name() string
	// step takes what <next/> holds, and then what each <task-data/> does. It returns
	// what the next <task-data/> to send holds, or nil when the task is done. An error
	// that is a *sasl.Failure ends the attempt.
	step(ctx context.Context, in *stanza.Element) (stanza.Payload, error)
}

// runTasks has the client do the tasks, one after the other. It returns the data for
// <success/>: none once a <continue/> has told it.
func (s *session) runTasks(ctx context.Context, tasks []task, data []byte) ([]byte, error) {
	for _, t := range tasks {
		el := stanza.El(nsSASL2, "continue")
		if data != nil {
			el.Add(stanza.TextEl(nsSASL2, "additional-data", encode(data)))
			data = nil
		}
		el.Add(stanza.El(nsSASL2, "tasks", stanza.TextEl(nsSASL2, "task", t.name())))
		var out stanza.Payload = el
		for due := "next"; out != nil; due = "task-data" {
			if err := s.send(out); err != nil {
				return nil, err
			}
			ev, err := s.next()
			switch {
			case err != nil:
				return nil, err
			case ev.Is(nsSASL2, "abort"):
				return nil, &sasl.Failure{Condition: sasl.Aborted}
			case !ev.Is(nsSASL2, due):
				// XEP-0388 §6.8: a second <authenticate/> is among what ends the stream.
				return nil, stream.Err(stream.NotAuthorized, "")
			}
			in := ev.Tree()
			if due == "next" && in.Attr("task") != t.name() {
				return nil, &sasl.Failure{Condition: sasl.MalformedRequest}
			}
			reply, err := t.step(ctx, in)
			if err != nil {
				return nil, err
			}
			if out = nil; reply != nil {
				out = stanza.Payloads{stanza.Raw("<task-data xmlns='" + nsSASL2 + "'>"), reply, stanza.Raw("</task-data>")}
			}
		}
	}
	return data, nil
}
