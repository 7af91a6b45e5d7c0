package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
)

const (
	nsSASL2 = "urn:xmpp:sasl:2" // XEP-0388
	nsBind2 = "urn:xmpp:bind:0" // XEP-0386
	nsFAST  = "urn:xmpp:fast:0" // XEP-0484
)

const hashedToken = "HT-SHA-256-NONE"

// device is a client that comes back: what it remembers between its logins. One
// goroutine uses it at a time.
type device struct {
	user    string
	agent   string // <user-agent/>
	token   string
	sleeper // the session to resume, if it has an id
}

// newDevice logs an account in with SASL2 and its password, and asks for a token.
func newDevice(ctx context.Context, ep endpoint, user string, number int) (*device, error) {
	d := &device{user: user, agent: fmt.Sprintf("<user-agent id='d4565fa7-4d72-4749-b3d3-%012d'><software>bench</software></user-agent>", number)}
	s, err := connect(ctx, ep, roadTCP)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.open(ep.domain, false); err != nil {
		return nil, err
	}
	features, err := s.await("<stream:features")
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(features, []byte(">"+hashedToken+"<")) {
		return nil, fmt.Errorf("%w: no %s", errUnsupported, hashedToken)
	}
	conv, err := ep.creds.conversation(user)
	if err != nil {
		return nil, err
	}
	step := func(in []byte) (string, error) {
		data, err := base64.StdEncoding.DecodeString(string(in))
		if err != nil {
			return "", err
		}
		out, err := conv.Step(string(data))
		return encode(out), err
	}
	first, err := step(nil)
	if err != nil {
		return nil, err
	}
	err = s.sendXML("<authenticate xmlns='" + nsSASL2 + "' mechanism='SCRAM-SHA-256'><initial-response>" + first + "</initial-response>" + d.agent +
		"<request-token xmlns='" + nsFAST + "' mechanism='" + hashedToken + "'/></authenticate>")
	if err != nil {
		return nil, err
	}
	el, err := s.await("<challenge", "<failure")
	if err != nil {
		return nil, err
	}
	answer, err := step(inner(el))
	if err != nil {
		return nil, fmt.Errorf("SASL2: %w: %.300s", err, el)
	}
	if err := s.sendXML("<response xmlns='" + nsSASL2 + "'>" + answer + "</response>"); err != nil {
		return nil, err
	}
	if el, err = s.await("<success", "<failure"); err != nil {
		return nil, err
	}
	if _, err := step([]byte(childText(el, "additional-data"))); err != nil || !conv.Valid() {
		return nil, errors.Join(fmt.Errorf("SASL2: %.300s", el), err)
	}
	d.takeToken(el)
	if d.token == "" {
		return nil, fmt.Errorf("no token in %.300s", el)
	}
	return d, nil
}

// takeToken keeps a new token, if a <success/> has one (XEP-0484 §3.5).
func (d *device) takeToken(success []byte) {
	if i := bytes.Index(success, []byte("<token ")); i >= 0 {
		if token := attr(success[i:], "token"); token != "" {
			d.token = token
		}
	}
}

func (d *device) mac(role string) []byte {
	m := hmac.New(sha256.New, []byte(d.token))
	m.Write([]byte(role))
	return m.Sum(nil)
}

// login logs in with the token. The stream header and <authenticate/>, with inline
// in it, leave in one write: what the server offers is known from the last time.
// It returns <success/>, which is valid until the next element is read.
func (d *device) login(ctx context.Context, ep endpoint, inline string) (*session, []byte, error) {
	s, err := connect(ctx, ep, roadTCP)
	if err != nil {
		return nil, nil, err
	}
	initial := append([]byte(d.user+"\x00"), d.mac("Initiator")...)
	err = s.send([]byte("<?xml version='1.0'?><stream:stream to='" + ep.domain + "' from='" + d.user + "@" + ep.domain +
		"' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" +
		"<authenticate xmlns='" + nsSASL2 + "' mechanism='" + hashedToken + "'><initial-response>" + encode(string(initial)) + "</initial-response>" +
		d.agent + "<fast xmlns='" + nsFAST + "'/>" + inline + "</authenticate>"))
	var el []byte
	if err == nil {
		el, err = s.await("<success", "<failure")
	}
	if err == nil {
		proof, decodeErr := base64.StdEncoding.DecodeString(childText(el, "additional-data"))
		if decodeErr != nil || !hmac.Equal(proof, d.mac("Responder")) {
			err = fmt.Errorf("%s is not logged in by its token: %.300s", d.user, el)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, s.close())
	}
	d.takeToken(el)
	return s, el, nil
}

// visit logs in, binds with Bind 2, and does what a client does then, as at the end
// of a login with SCRAM.
func (d *device) visit(ctx context.Context, ep endpoint) error {
	s, success, err := d.login(ctx, ep, "<bind xmlns='"+nsBind2+"'><tag>b</tag></bind>")
	if err != nil {
		return err
	}
	if !bytes.Contains(success, []byte("<bound")) {
		return errors.Join(fmt.Errorf("not bound: %.300s", success), s.close())
	}
	return errors.Join(s.available(), s.close())
}

// sleep logs in with a session that can be resumed, and loses its connection.
func (d *device) sleep(ctx context.Context, ep endpoint) error {
	s, success, err := d.login(ctx, ep, "<bind xmlns='"+nsBind2+"'><tag>b</tag><enable xmlns='"+nsSM+"' resume='true'/></bind>")
	if err != nil {
		return err
	}
	i := bytes.Index(success, []byte("<enabled "))
	if i < 0 {
		return errors.Join(fmt.Errorf("no stream management: %.300s", success), s.close())
	}
	d.id = attr(success[i:], "id")
	d.h, err = s.availableCounted()
	return errors.Join(err, s.cut())
}

// wake logs in and resumes the session, which is a client's whole way back, and
// loses the connection again.
func (d *device) wake(ctx context.Context, ep endpoint) error {
	s, success, err := d.login(ctx, ep, "<resume xmlns='"+nsSM+"' previd='"+d.id+"' h='"+strconv.FormatInt(d.h, 10)+"'/>")
	if err != nil {
		return err
	}
	if !bytes.Contains(success, []byte("<resumed ")) {
		err = fmt.Errorf("not resumed: %.300s", success)
	}
	return errors.Join(err, s.cut())
}

// runFAST is runLogins with tokens. With resume each login takes up the session
// that the one before has left.
func runFAST(ctx context.Context, b *bench, s *server, resume bool) (*outcome, error) {
	devices := make([]*device, 2*chatPairs/loginWorkers*loginWorkers)
	err := each(len(devices), func(i int) (err error) {
		if devices[i], err = newDevice(ctx, s.ep, userName(chatFrom+i), i); err != nil {
			return err
		}
		if resume {
			return devices[i].sleep(ctx, s.ep)
		}
		return devices[i].visit(ctx, s.ep) // the first use of a token is more work than those that follow
	})
	if err != nil {
		return nil, err
	}
	out, err := b.countLogins(ctx, s, len(devices), func(i int) error {
		if resume {
			return devices[i].wake(ctx, s.ep)
		}
		return devices[i].visit(ctx, s.ep)
	})
	if err == nil && resume { // leave nothing behind
		err = each(len(devices), func(i int) error {
			session, _, err := devices[i].login(ctx, s.ep, "<resume xmlns='"+nsSM+"' previd='"+devices[i].id+"' h='"+strconv.FormatInt(devices[i].h, 10)+"'/>")
			if err != nil {
				return err
			}
			return session.close()
		})
	}
	return out, err
}
