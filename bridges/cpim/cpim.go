// Package cpim maps between XMPP and the Common Presence and Instant Messaging
// model: RFC 3922, on top of Message/CPIM (package message), PIDF (package pidf),
// im: and pres: addresses (package address) and the subscriptions of RFC 3859
// (package subscription).
//
// A Mapper does no I/O and holds nothing but its Options. It says no with a
// *stanza.Error, which is what the XMPP side is to be told, and with ErrNothing
// where there is nothing to carry and nobody to tell. Encrypted content passes
// through as it is or is refused; it is never opened, and nothing that was
// protected goes on unprotected.
//
// Where RFC 3922 is silent, contradicts itself or has been superseded, docs/cpim.md
// says what is done.
//
//spec:rfc-3922 complete | Mapping XMPP to CPIM | messages, presence and subscriptions, both ways
//spec:rfc-3860 partial | Common Profile for Instant Messaging (CPIM) | the message operation, hop count and outcome
//spec:rfc-3923 partial | End-to-End Signing and Object Encryption for XMPP | objects are carried, never made or opened
//spec:rfc-8048 partial | SIP and XMPP: Presence | the mapping of presence documents
package cpim

import (
	"errors"
	"fmt"

	"trivium/bridges/cpim/address"
	"trivium/bridges/cpim/entity"
	"trivium/bridges/cpim/message"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// Options tune a Mapper. The zero value is the default. Functions have to be safe
// for concurrent use.
type Options struct {
	// Strict refuses objects that break RFC 3862 and RFC 3863 in ways that are
	// common and harmless.
	Strict bool
	// MaxHeaders and MaxHeaderBytes limit the message headers of an object;
	// 0: 64 and 65536.
	MaxHeaders, MaxHeaderBytes int
	// MaxBody limits the text of one message, in octets; 0: 262144.
	MaxBody int
	// MaxObject limits what the other side takes, in octets of the whole object;
	// 0: no limit.
	MaxObject int
	// MaxPresence and MaxTuples limit a presence document; 0: 65536 and 64.
	MaxPresence, MaxTuples int

	// Name returns the name that goes with an address, "" for none. nil: no names.
	Name func(jid.JID) string
	// Ours tells for which domains objects are taken whose recipient only their
	// To headers name. nil: all.
	Ours func(domain string) bool
	// Understood tells whether the gateway itself does what a Require header asks
	// for. nil: nothing.
	Understood func(space, local string) bool
	// Lost is told what a mapping leaves behind: the part, such as "thread", and
	// why. nil: nobody.
	Lost func(part, why string)

	// NoDateTime leaves the DateTime header out.
	NoDateTime bool
	// Delay passes a DateTime that is older than a minute on as XEP-0203 <delay/>.
	Delay bool
	// Nick passes the Formal-name of the sender on as XEP-0172 <nick/>.
	Nick bool
	// Copies makes cc headers of XEP-0033 addresses.
	Copies bool
	// Alternative sends all bodies of a message that has several languages.
	Alternative bool
	// EncryptedFallback sends the plain body that comes with an encrypted message,
	// which says that the message is encrypted. Otherwise such messages are refused.
	EncryptedFallback bool
	// CRLF says that end-to-end objects were recorded with lines that end in CR LF,
	// which XML has turned into LF: they are restored on the way out.
	CRLF bool
	// Receipts maps XEP-0184 receipts, XEP-0333 markers and XEP-0085 chat states to
	// the notifications of RFC 5438 and RFC 3994 and back, which RFC 3922 knows
	// nothing of.
	Receipts bool
	// RPID shows RPID activities as <show/> where nothing else tells.
	RPID bool
	// Type is the type of messages that come in: "" or "chat".
	Type string
}

// A Mapper maps between the two worlds. It is safe for concurrent use.
type Mapper struct{ o Options }

// New returns a Mapper.
func New(o Options) *Mapper {
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 18
	}
	return &Mapper{o}
}

// ErrNothing says that a stanza holds nothing the other side could be sent, and
// that its sender need not be told: errors, chat states, markers, receipts.
var ErrNothing = errors.New("cpim: nothing to send")

// An Envelope is what the transport says of an object. The zero value: nothing.
type Envelope struct {
	From, To jid.JID
	// Trusted says that the peer may assert other senders than From.
	Trusted bool
}

// A Failure is a reason why the other side did not take what it was sent.
type Failure uint8

// The reasons. RFC 3922 §6.1 and §6.4 fix the condition of the first three.
const (
	NotFound    Failure = iota + 1 // the target is no presentity and no inbox
	NotAllowed                     // access control says no
	Duplicate                      // the subscription exists or is in progress
	BadAddress                     // the address has no counterpart
	NoRoute                        // the next hop cannot be resolved
	Silence                        // the next hop does not answer
	BadContent                     // charset or media type
	TooLarge                       // a size limit
	Mandatory                      // a required feature is unknown
	Loop                           // the hop count has run out
	Malformed                      // the object breaks its format
	Unspecified                    // the other side did not say
)

// NS is the namespace of the element that goes with undefined-condition and names
// the status of the other side.
const NS = "urn:x-trivium:cpim"

// Error returns the stanza error that tells the XMPP side; text is for people and
// may be empty. With Unspecified it is the status that the other side gave.
func (f Failure) Error(text string) *stanza.Error {
	switch f {
	case NotFound:
		return stanza.Err(stanza.ItemNotFound, text)
	case NotAllowed:
		return stanza.Err(stanza.Forbidden, text)
	case Duplicate:
		return stanza.Err(stanza.Conflict, text)
	case BadAddress:
		return stanza.Err(stanza.JIDMalformed, text)
	case NoRoute:
		return stanza.Err(stanza.RemoteServerNotFound, text)
	case Silence:
		return stanza.Err(stanza.RemoteServerTimeout, text)
	case BadContent:
		return stanza.Err(stanza.NotAcceptable, text)
	case TooLarge:
		return stanza.Err(stanza.PolicyViolation, text)
	case Mandatory:
		return stanza.Err(stanza.FeatureNotImplemented, text)
	case Loop:
		return &stanza.Error{Type: stanza.Cancel, Condition: stanza.NotAcceptable, Text: text}
	case Malformed:
		return stanza.Err(stanza.BadRequest, text)
	}
	e := &stanza.Error{Type: stanza.Cancel, Condition: stanza.UndefinedCondition, Text: text}
	e.App = stanza.TextEl(NS, "status", text)
	return e
}

// failed turns an error of the codecs into the stanza error for it.
func failed(err error) error {
	if err == nil {
		return nil
	}
	f, text := Malformed, "the object is malformed"
	var ae *address.Error
	switch {
	case errors.As(err, &ae), errors.Is(err, address.ErrSecure):
		f, text = BadAddress, "the address cannot be translated"
	case errors.Is(err, entity.ErrTooLarge):
		f, text = TooLarge, "the object is too large"
	}
	e := f.Error(text)
	e.Cause = err
	return e
}

// lose reports what is left behind.
func (m *Mapper) lose(part, why string) {
	if m.o.Lost != nil {
		m.o.Lost(part, why)
	}
}

// headerURI returns the address of From, To and cc: RFC 3922 §4.1.1, §5.1.1.
func (m *Mapper) headerURI(j jid.JID) (message.Address, error) {
	uri, err := address.URI(address.IM, j)
	if err != nil {
		return message.Address{}, failed(err)
	}
	a := message.Address{URI: uri}
	if m.o.Name != nil {
		a.Name = m.o.Name(j.Bare())
	}
	return a, nil
}

// account reads the address of From and To: RFC 3922 §4.2.1. Resources, which only
// sip: addresses can have, are not passed on.
func account(uri string) (jid.JID, error) {
	j, err := address.Parse(uri)
	if err != nil {
		return jid.JID{}, failed(err)
	}
	return j.Bare(), nil
}

// quoted returns a stranger's word for an error text, cut to a sane length.
func quoted(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return fmt.Sprintf("%q", s)
}
