package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
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
	ep      endpoint // with a memory for TLS sessions
	road    road
	user    string
	agent   string // <user-agent/>
	token   string
	sleeper // the session to resume, if it has an id
}

// newDevice is one that has not logged in yet. Devices share no number.
func newDevice(ep endpoint, r road, number int) *device {
	ep.tls = ep.tls.Clone()
	ep.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return &device{
		ep: ep, road: r, user: userName(chatFrom + number),
		agent: fmt.Sprintf("<user-agent id='d4565fa7-4d72-4749-b3d3-%012d'><software>bench</software></user-agent>", number),
	}
}

// earnToken logs in with SASL2 and the password, and asks for a token.
func (d *device) earnToken(ctx context.Context) error {
	s, err := connect(ctx, d.ep, d.road)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.open(d.ep.domain, false); err != nil {
		return err
	}
	features, err := s.await("<stream:features", "<features")
	if err != nil {
		return err
	}
	if !bytes.Contains(features, []byte(">"+hashedToken+"<")) {
		return fmt.Errorf("%w: no %s", errUnsupported, hashedToken)
	}
	conv, err := d.ep.creds.conversation(d.user)
	if err != nil {
		return err
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
		return err
	}
	err = s.sendXML("<authenticate xmlns='" + nsSASL2 + "' mechanism='SCRAM-SHA-256'><initial-response>" + first + "</initial-response>" + d.agent +
		"<request-token xmlns='" + nsFAST + "' mechanism='" + hashedToken + "'/></authenticate>")
	if err != nil {
		return err
	}
	el, err := s.await("<challenge", "<failure")
	if err != nil {
		return err
	}
	answer, err := step(inner(el))
	if err != nil {
		return fmt.Errorf("SASL2: %w: %.300s", err, el)
	}
	if err := s.sendXML("<response xmlns='" + nsSASL2 + "'>" + answer + "</response>"); err != nil {
		return err
	}
	if el, err = s.await("<success", "<failure"); err != nil {
		return err
	}
	if _, err := step([]byte(childText(el, "additional-data"))); err != nil || !conv.Valid() {
		return errors.Join(fmt.Errorf("SASL2: %.300s", el), err)
	}
	d.takeToken(el)
	if d.token == "" {
		return fmt.Errorf("no token in %.300s", el)
	}
	return nil
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

// login logs in with the token: the stream header and <authenticate/>, with inline
// in it, leave without waiting, as what the server offers is known from the last
// time. It returns <success/>, which is valid until the next element is read.
func (d *device) login(ctx context.Context, inline string) (*session, []byte, error) {
	s, err := connect(ctx, d.ep, d.road)
	if err != nil {
		return nil, nil, err
	}
	initial := append([]byte(d.user+"\x00"), d.mac("Initiator")...)
	if err = s.open(d.ep.domain, false); err == nil {
		err = s.sendXML("<authenticate xmlns='" + nsSASL2 + "' mechanism='" + hashedToken + "'><initial-response>" + encode(string(initial)) +
			"</initial-response>" + d.agent + "<fast xmlns='" + nsFAST + "'/>" + inline + "</authenticate>")
	}
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
func (d *device) visit(ctx context.Context) error {
	s, success, err := d.login(ctx, "<bind xmlns='"+nsBind2+"'><tag>b</tag></bind>")
	if err != nil {
		return err
	}
	if !bytes.Contains(success, []byte("<bound")) {
		return errors.Join(fmt.Errorf("not bound: %.300s", success), s.close())
	}
	return errors.Join(s.available(), s.close())
}

// sleep logs in with a session that can be resumed, and loses its connection.
func (d *device) sleep(ctx context.Context) error {
	s, success, err := d.login(ctx, "<bind xmlns='"+nsBind2+"'><tag>b</tag><enable xmlns='"+nsSM+"' resume='true'/></bind>")
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

// wake logs in and resumes the session, which is a client's whole way back.
func (d *device) wake(ctx context.Context) (*session, error) {
	s, success, err := d.login(ctx, "<resume xmlns='"+nsSM+"' previd='"+d.id+"' h='"+strconv.FormatInt(d.h, 10)+"'/>")
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(success, []byte("<resumed ")) {
		return nil, errors.Join(fmt.Errorf("not resumed: %.300s", success), s.close())
	}
	return s, nil
}

// password logs in with SCRAM, as runLogins does.
func (d *device) password(ctx context.Context) error {
	s, err := login(ctx, d.ep, d.road, d.user)
	if err != nil {
		return err
	}
	return errors.Join(s.available(), s.close())
}

// comeback is a way to log in again.
type comeback string

const (
	bySCRAM  comeback = "SCRAM"
	byToken  comeback = "token"  // FAST and Bind 2
	byResume comeback = "resume" // FAST, and the session before is resumed
)

// runComebacks is runLogins for clients that have been there before: they have a
// TLS session, and a token, to come back with.
func runComebacks(ctx context.Context, b *bench, s *server, r road, how comeback) (*outcome, error) {
	devices := make([]*device, 2*chatPairs/loginWorkers*loginWorkers)
	visit := func(i int) error {
		switch how {
		case byToken:
			return devices[i].visit(ctx)
		case byResume: // and its connection is lost again
			session, err := devices[i].wake(ctx)
			if err != nil {
				return err
			}
			return session.cut()
		}
		return devices[i].password(ctx)
	}
	err := each(len(devices), func(i int) error {
		d := newDevice(s.ep, r, i)
		devices[i] = d
		if how != bySCRAM {
			if err := d.earnToken(ctx); err != nil {
				return err
			}
		}
		if how == byResume {
			if err := d.sleep(ctx); err != nil {
				return err
			}
		}
		return visit(i) // the first use of a token is more work than those that follow
	})
	if err != nil {
		return nil, err
	}
	out, err := b.countLogins(ctx, s, len(devices), visit)
	if err == nil && how == byResume { // leave nothing behind
		err = each(len(devices), func(i int) error {
			session, err := devices[i].wake(ctx)
			if err != nil {
				return err
			}
			return session.close()
		})
	}
	return out, err
}
