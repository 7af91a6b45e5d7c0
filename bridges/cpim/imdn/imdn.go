// Package imdn reads and writes what systems of the CPIM family tell each other
// about a conversation: message disposition notifications (RFC 5438), the
// counterpart of receipts and markers, and composing indications (RFC 3994), the
// counterpart of chat states.
//
//spec:rfc-5438 partial | Instant Message Disposition Notification (IMDN) | delivery and display notifications and how they are asked for; no intermediaries, no processing notifications
//spec:rfc-3994 complete | Indication of Message Composition for Instant Messaging | the document; timers are the user's
package imdn

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"trivium/bridges/cpim/internal/datetime"
	"trivium/core/stanza"
	"trivium/core/wire"
)

// Names of the two formats.
const (
	ContentType = "message/imdn+xml"
	NS          = "urn:ietf:params:xml:ns:imdn"
	// HeaderNS is the namespace of the Message/CPIM headers.
	HeaderNS = "urn:ietf:params:imdn"

	ComposingType = "application/im-iscomposing+xml"
	ComposingNS   = "urn:ietf:params:xml:ns:im-iscomposing"
)

// maxBytes bounds a document of either kind.
const maxBytes = 1 << 14

// ErrMalformed says that text is not the document it should be.
var ErrMalformed = errors.New("malformed notification document")

// A Kind says what a notification is about.
type Kind string

// The kinds, named as their elements are.
const (
	Delivery   Kind = "delivery-notification"
	Display    Kind = "display-notification"
	Processing Kind = "processing-notification"
)

// A Notification tells the fate of a message.
type Notification struct {
	MessageID string    // imdn.Message-ID of the message
	DateTime  time.Time // when the message was sent
	Recipient string    // URI of who received it
	Original  string    // URI it was sent to
	Kind      Kind
	Status    string // delivered, displayed, failed, forbidden, error and others
}

// AppendTo appends the document. The error says which part is missing.
func (n *Notification) AppendTo(dst []byte) ([]byte, error) {
	switch {
	case n.MessageID == "" || n.Recipient == "" || n.Original == "":
		return dst, errors.New("imdn: notification without message or recipient")
	case n.Kind != Delivery && n.Kind != Display && n.Kind != Processing, !isName(n.Status):
		return dst, errors.New("imdn: notification of no known kind or status")
	}
	dst = append(dst, "<?xml version='1.0' encoding='UTF-8'?><imdn xmlns='"+NS+"'>"...)
	dst = text(dst, "message-id", n.MessageID)
	dst = append(dst, "<datetime>"...)
	dst, ok := datetime.Append(dst, n.DateTime)
	if !ok || n.DateTime.IsZero() {
		return dst, errors.New("imdn: notification without a time")
	}
	dst = append(dst, "</datetime>"...)
	dst = text(dst, "recipient-uri", n.Recipient)
	dst = text(dst, "original-recipient-uri", n.Original)
	return append(dst, "<"+string(n.Kind)+"><status><"+n.Status+"/></status></"+string(n.Kind)+"></imdn>"...), nil
}

// Parse reads a notification. The error is ErrMalformed.
func Parse(doc string) (Notification, error) {
	root, err := parse(doc)
	if err != nil || !root.Is(NS, "imdn") {
		return Notification{}, ErrMalformed
	}
	n := Notification{
		MessageID: strings.TrimSpace(root.ChildText(NS, "message-id")),
		Recipient: strings.TrimSpace(root.ChildText(NS, "recipient-uri")),
		Original:  strings.TrimSpace(root.ChildText(NS, "original-recipient-uri")),
	}
	n.DateTime, _ = datetime.Parse(strings.TrimSpace(root.ChildText(NS, "datetime")))
	for _, k := range []Kind{Delivery, Display, Processing} {
		if status := root.Child(NS, string(k)).Child(NS, "status").Child(NS, ""); status != nil {
			n.Kind, n.Status = k, status.Local
			break
		}
	}
	if n.MessageID == "" || n.Kind == "" {
		return Notification{}, ErrMalformed
	}
	return n, nil
}

// Composing tells whether someone is composing a message.
type Composing struct {
	Active  bool
	Refresh time.Duration // how long Active holds without another word; 0: two minutes
}

// AppendTo appends the document.
func (c Composing) AppendTo(dst []byte) []byte {
	dst = append(dst, "<?xml version='1.0' encoding='UTF-8'?><isComposing xmlns='"+ComposingNS+"'>"...)
	if !c.Active {
		return append(dst, "<state>idle</state></isComposing>"...)
	}
	dst = append(dst, "<state>active</state>"...)
	if s := int64(c.Refresh / time.Second); s > 0 {
		dst = append(strconv.AppendInt(append(dst, "<refresh>"...), s, 10), "</refresh>"...)
	}
	return append(dst, "</isComposing>"...)
}

// ParseComposing reads a composing indication. A state that is not known counts as
// idle (RFC 3994). The error is ErrMalformed.
func ParseComposing(doc string) (Composing, error) {
	root, err := parse(doc)
	if err != nil || !root.Is(ComposingNS, "isComposing") || root.Child(ComposingNS, "state") == nil {
		return Composing{}, ErrMalformed
	}
	c := Composing{Active: strings.TrimSpace(root.ChildText(ComposingNS, "state")) == "active"}
	if s, err := strconv.ParseUint(strings.TrimSpace(root.ChildText(ComposingNS, "refresh")), 10, 31); err == nil && c.Active {
		c.Refresh = time.Duration(s) * time.Second
	}
	return c, nil
}

func parse(doc string) (*stanza.Element, error) {
	if len(doc) > maxBytes {
		return nil, ErrMalformed
	}
	doc = strings.TrimSpace(strings.TrimPrefix(doc, "\uFEFF"))
	if strings.HasPrefix(doc, "<?xml ") {
		_, doc, _ = strings.Cut(doc, "?>")
	}
	return stanza.ParseElement(strings.TrimSpace(doc))
}

func text(dst []byte, name, s string) []byte {
	dst = append(append(append(dst, '<'), name...), '>')
	if !wire.ValidText(s) {
		s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
			if !wire.ValidText(string(r)) {
				return '\uFFFD'
			}
			return r
		}, s), "\uFFFD")
	}
	dst = wire.AppendText(dst, s)
	return append(append(append(dst, "</"...), name...), '>')
}

// isName tells whether s is a word that can name an element here.
func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}
