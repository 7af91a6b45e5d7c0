// Package message is the form that a message stanza has on the HTTP road: flat
// JSON with the fields that programs want, and XML for everything else. REST
// requests, webhook posts and the answers to them share it.
//
//spec:xep-0461 0.2.1 complete | Message Replies | as JSON, both ways
//spec:xep-0444 0.2.1 complete | Message Reactions | as JSON, both ways
//spec:xep-0308 1.2.1 complete | Last Message Correction | as JSON, both ways
//spec:xep-0424 - partial | | as JSON, both ways
//spec:xep-0184 - partial | | requests and receipts as JSON, both ways
//spec:xep-0333 - partial | | markers as JSON, both ways
//spec:xep-0085 2.1 partial | Chat State Notifications | as JSON, both ways; whether the other side wants them is the program's to know
//spec:xep-0334 - partial | | hints as JSON, both ways
//spec:xep-0359 - partial | | ids as JSON, both ways
//spec:xep-0203 - partial | | delays as JSON, both ways
//spec:xep-0066 1.5 partial | Out of Band Data | links in messages as JSON, both ways
//spec:xep-0428 0.2.1 complete | Fallback Indication | as JSON, both ways
//spec:xep-0385 0.2.1 partial | Stateless Inline Media Sharing (SIMS) | files with an address as JSON, both ways
package message

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"trivium/core/jid"
	"trivium/core/stanza"
	"trivium/core/wire"
)

// MaxID is the most octets of an id, a thread or a subject's language; longer
// ones are refused.
const MaxID = 1023

// Draft is a message that a program wants to send. Fields that are empty are as
// good as absent, but for To.
type Draft struct {
	From       string `json:"from,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Who sends: an address that the token may use. It may be left out when the token is bound to one address." example:"bot@example.org"`
	To         string `json:"to" format:"xmpp-jid" minLength:"1" maxLength:"3071" doc:"Who gets the message: a bare or a full address." example:"juliet@example.org"`
	Type       string `json:"type,omitempty" enum:"chat,normal,headline,groupchat" default:"chat" doc:"The type of RFC 6121 section 5.2.2."`
	Body       string `json:"body,omitempty" doc:"The text. It is needed where no other field says something." example:"Art thou not Romeo?"`
	Subject    string `json:"subject,omitempty" doc:"The subject (RFC 6121 section 5.2.4)."`
	Thread     string `json:"thread,omitempty" maxLength:"1023" doc:"The thread that the message belongs to (RFC 6121 section 5.2.5)."`
	ID         string `json:"id,omitempty" maxLength:"1023" doc:"The stanza's id; the server makes one if there is none. A retried request that repeats it can be recognised by its recipient."`
	Lang       string `json:"lang,omitempty" maxLength:"35" pattern:"^[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*$" doc:"The language of body and subject, a tag of RFC 5646." example:"en"`
	Extensions string `json:"extensions,omitempty" doc:"Further child elements of the message, as XML: any number of complete elements, each declaring its namespace." example:"<request xmlns='urn:xmpp:receipts'/>"`
	*Extras
}

// FieldError says which field of a Draft cannot be sent, and why. It repeats
// nothing of the field.
type FieldError struct {
	Field  string
	Reason string // completes a sentence that begins with the field
	Err    error  // may be nil
}

func (e *FieldError) Error() string { return e.Field + " " + e.Reason }

func (e *FieldError) Unwrap() error { return e.Err }

// NewID returns an id with 128 random bits.
func NewID() string { return rand.Text() }

var types = []string{stanza.Chat, stanza.Normal, stanza.Headline, stanza.GroupChat}

// Address parses an address of a field.
func Address(field, value string) (jid.JID, error) {
	if value == "" {
		return jid.JID{}, &FieldError{Field: field, Reason: "is needed"}
	}
	j, err := jid.Parse(value)
	if err != nil {
		return j, &FieldError{Field: field, Reason: "is not an address", Err: err}
	}
	return j, nil
}

// Stanza builds the message. An empty ID gets a new one. From and To must have
// been prepared by the caller. The error is a *FieldError.
func (d *Draft) Stanza(from, to jid.JID, limits wire.Limits) (*stanza.Stanza, error) {
	typ := d.Type
	if typ == "" {
		typ = stanza.Chat
	}
	if !slices.Contains(types, typ) {
		return nil, &FieldError{Field: "type", Reason: "is not chat, normal, headline or groupchat"}
	}
	if d.Body == "" && d.Subject == "" && d.Extensions == "" && d.Extras.bare() {
		return nil, &FieldError{Field: "body", Reason: "is needed where there is nothing else that says something"}
	}
	if d.Lang != "" && !ValidLang(d.Lang) {
		return nil, &FieldError{Field: "lang", Reason: "is not a language tag"}
	}
	for _, f := range [...]struct {
		name, text string
		max        int
	}{{"id", d.ID, MaxID}, {"thread", d.Thread, MaxID}, {"subject", d.Subject, 0}, {"body", d.Body, 0}} {
		switch {
		case !wire.ValidText(f.text):
			return nil, &FieldError{Field: f.name, Reason: "has a character that XML cannot carry"}
		case f.max > 0 && len(f.text) > f.max:
			return nil, &FieldError{Field: f.name, Reason: "is too long"}
		}
	}
	if d.Extras != nil {
		if err := d.check(typ, from, to); err != nil {
			return nil, err
		}
	}
	raw := make([]byte, 0, 128+len(d.Body)+len(d.Subject)+len(d.Thread)+len(d.Extensions))
	raw = append(raw, open...)
	raw = element(raw, "subject", d.Subject)
	if d.Extras != nil {
		raw = texts(raw, "subject", d.Subjects)
	}
	raw = element(raw, "body", d.Body)
	if d.Extras != nil {
		raw = texts(raw, "body", d.Bodies)
	}
	raw = element(raw, "thread", d.Thread)
	if d.Extras != nil {
		raw = d.Extras.append(raw, d, from)
	}
	raw = append(raw, d.Extensions...)
	raw = append(raw, "</message>"...)
	st, err := scan(raw, stanza.Message, limits)
	if err != nil {
		// What stands before the extensions is well-formed.
		return nil, &FieldError{Field: "extensions", Reason: reason(err), Err: err}
	}
	st.Type, st.From, st.To, st.Lang = typ, from, to, d.Lang
	if st.ID = d.ID; st.ID == "" {
		st.ID = NewID()
	}
	return st, nil
}

const open = "<message xmlns='" + stanza.NSClient + "'>"

func element(dst []byte, name, text string) []byte {
	if text == "" {
		return dst
	}
	dst = append(dst, '<')
	dst = append(dst, name...)
	dst = append(dst, '>')
	dst = wire.AppendText(dst, text)
	dst = append(dst, "</"...)
	dst = append(dst, name...)
	return append(dst, '>')
}

// Parse reads one <message/> as XML, in the namespace jabber:client or in none.
// Its addresses are prepared; an absent one is zero, and an absent id empty. The
// error is a *FieldError whose Field is an attribute's name, or empty for the
// document as a whole.
func Parse(raw []byte, limits wire.Limits) (*stanza.Stanza, error) {
	st, err := parse(raw, stanza.Message, limits)
	switch {
	case err != nil:
		return nil, err
	case st.Type == stanza.TypeError:
		return nil, &FieldError{Field: "type", Reason: "is not chat, normal, headline or groupchat"}
	}
	return st, checkKind(st)
}

// ParseStanza is Parse for stanzas of several kinds, errors among them.
func ParseStanza(raw []byte, kinds stanza.Kind, limits wire.Limits) (*stanza.Stanza, error) {
	st, err := parse(raw, kinds, limits)
	if err != nil {
		return nil, err
	}
	return st, checkKind(st)
}

func parse(raw []byte, kinds stanza.Kind, limits wire.Limits) (*stanza.Stanza, error) {
	st, err := scan(raw, kinds, limits)
	var none *noNamespace
	if errors.As(err, &none) {
		i := strings.Index(string(raw), "<"+none.name) + 1 + len(none.name)
		full := append([]byte(nil), raw[:i]...)
		full = append(full, " xmlns='"+stanza.NSClient+"'"...)
		st, err = scan(append(full, raw[i:]...), kinds, limits)
	}
	var malformed *stanza.Error
	switch {
	case errors.As(err, &malformed): // of both addresses, the zero one was it
		field := "to"
		if st != nil && !st.To.IsZero() {
			field = "from"
		}
		return nil, &FieldError{Field: field, Reason: "is not an address", Err: err}
	case err != nil:
		return nil, &FieldError{Reason: reason(err), Err: err}
	case len(st.ID) > MaxID:
		return nil, &FieldError{Field: "id", Reason: "is too long"}
	}
	return st, nil
}

// checkKind checks what depends on the kind of a stanza.
func checkKind(st *stanza.Stanza) error {
	fail := func(field, reason string) error { return &FieldError{Field: field, Reason: reason} }
	switch st.Kind {
	case stanza.Message:
		if st.Type != "" && st.Type != stanza.TypeError && !slices.Contains(types, st.Type) {
			return fail("type", "is not chat, normal, headline or groupchat")
		}
	case stanza.Presence:
		if st.Type != "" && st.Type != stanza.TypeError && !slices.Contains(presences, st.Type) {
			return fail("type", "is not one of RFC 6121 section 4.7.1")
		}
	case stanza.IQ: // RFC 6120 §8.2.3
		switch {
		case st.ID == "":
			return fail("id", "is needed")
		case st.Type == stanza.Get || st.Type == stanza.Set:
			if st.Len() != 1 {
				return fail("", "does not have exactly one child element")
			}
		case st.Type == stanza.Result:
			if st.Len() > 1 {
				return fail("", "has more than one child element")
			}
		case st.Type != stanza.TypeError:
			return fail("type", "is not get, set, result or error")
		}
	}
	if st.Type == stanza.TypeError && !st.Has(stanza.NSClient, "error") {
		return fail("", "is of type error and has no error") // RFC 6120 §8.3.1
	}
	return nil
}

var presences = []string{
	stanza.Unavailable, stanza.Subscribe, stanza.Subscribed, stanza.Unsubscribe, stanza.Unsubscribed, stanza.Probe,
}

var (
	errKind = errors.New("message: want one stanza in the namespace jabber:client")
	errText = errors.New("message: text between the elements")
)

// noNamespace says that a stanza declares none.
type noNamespace struct{ name string }

func (e *noNamespace) Error() string { return "message: no namespace" }

// scan reads raw as a document of one stanza.
func scan(raw []byte, kinds stanza.Kind, limits wire.Limits) (*stanza.Stanza, error) {
	if limits.Bytes < len(raw)+1 {
		limits.Bytes = len(raw) + 1 // the caller has bounded it
	}
	var sc wire.Scanner
	sc.Reset(wire.Document, limits)
	defer sc.Reset(wire.Document, wire.Limits{}) // gives memory back
	kind, n, err := sc.Next(raw)
	if err != nil {
		return nil, err
	}
	if kind != wire.KindElement || strings.Trim(string(raw[n:]), " \t\r\n") != "" {
		return nil, errKind
	}
	el := sc.Index()
	raw = raw[n-el.Len : n]
	k := stanza.KindOf(el.Local.Bytes(raw))
	switch {
	case k&kinds == 0, !el.Prefix.Empty(): // unprefixed children are in its namespace
		return nil, errKind
	case el.Text:
		return nil, errText
	case el.Foreign:
		own, err := sc.Canonical(nil, raw)
		if err != nil {
			return nil, err
		}
		return scan(own, kinds, limits)
	}
	switch string(el.Space.Bytes(raw)) {
	case stanza.NSClient:
	case "":
		return nil, &noNamespace{k.String()}
	default:
		return nil, errKind
	}
	return stanza.Parse(k, raw, el)
}

// reason tells what is wrong with XML in words that hold nothing of it.
func reason(err error) string {
	var e *wire.Error
	switch {
	case err == errText:
		return "has text outside of elements"
	case !errors.As(err, &e):
		return "is not one whole element of the right name and namespace"
	}
	switch e.Condition {
	case wire.RestrictedXML:
		return "has XML that XMPP does not allow: " + e.Text
	case wire.PolicyViolation:
		return "goes beyond a limit: " + e.Text
	}
	return "is not well-formed: " + e.Text
}

// ValidLang checks the shape of RFC 5646 §2.1: subtags of one to eight letters
// and digits.
func ValidLang(s string) bool {
	if len(s) > 35 {
		return false
	}
	for tag := range strings.SplitSeq(s, "-") {
		if tag == "" || len(tag) > 8 {
			return false
		}
		for _, c := range []byte(tag) {
			if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	return true
}
