package cpim

import (
	"crypto/rand"
	"strings"
	"time"

	"trivium/bridges/cpim/entity"
	"trivium/bridges/cpim/imdn"
	"trivium/bridges/cpim/message"
	"trivium/core/jid"
	"trivium/core/stanza"
)

// The XMPP side of receipts.
const (
	nsReceipts = "urn:xmpp:receipts"                     // XEP-0184
	nsMarkers  = "urn:xmpp:chat-markers:0"               // XEP-0333
	nsStates   = "http://jabber.org/protocol/chatstates" // XEP-0085
)

// composingRefresh is how long "active" holds: the default of RFC 3994.
const composingRefresh = 120 * time.Second

func imdnHeader(local, value string) message.Header {
	return message.Header{Name: message.Name{Space: imdn.HeaderNS, Local: local, Prefix: "imdn"}, Value: message.Escape(value)}
}

// askReceipts asks for the notifications that answer the receipts and markers the
// stanza asks for. They come back with the stanza's own id.
func (m *Mapper) askReceipts(msg *message.Message, st *stanza.Stanza, meta Meta) {
	receipt, markable := st.Has(nsReceipts, "request"), st.Has(nsMarkers, "markable")
	if !receipt && !markable {
		return
	}
	if msg.DateTime.IsZero() { // RFC 5438 §7.1.1: mandatory then
		msg.DateTime = meta.Received
	}
	if strings.Trim(st.ID, " ") != st.ID || st.ID == "" || msg.DateTime.IsZero() {
		m.lose("receipt", "needs an id and a time")
		return
	}
	want := "positive-delivery, negative-delivery"
	if markable {
		want += ", display"
	}
	msg.Headers = append(msg.Headers, imdnHeader("Message-ID", st.ID), imdnHeader("Disposition-Notification", want))
}

// notice makes the content of a stanza without body: a receipt, a marker or a chat
// state. The error is ErrNothing or a *stanza.Error.
func (m *Mapper) notice(msg *message.Message, st *stanza.Stanza, meta Meta) error {
	var content []byte
	err := ErrNothing
	st.Each(func(c stanza.Child) bool {
		switch {
		case c.Is(nsReceipts, "received"), c.Is(nsMarkers, "received"):
			content, err = m.disposition(imdn.Delivery, "delivered", c.Element().Attr("id"), st, meta)
		case c.Is(nsMarkers, "displayed"), c.Is(nsMarkers, "acknowledged"):
			content, err = m.disposition(imdn.Display, "displayed", c.Element().Attr("id"), st, meta)
		case c.Space == nsStates && c.Local != "gone": // RFC 7573: there is no word for gone
			state := imdn.Composing{Active: c.Local == "composing", Refresh: composingRefresh}
			content, err = state.AppendTo(nil), nil
			msg.Content = *entity.New(imdn.ComposingType, string(content))
			return true // a receipt beside it counts more
		default:
			return true
		}
		if err == nil {
			msg.Content = *entity.New(imdn.ContentType, string(content)).Add("Content-Disposition", "notification")
			id := meta.StanzaID
			if id == "" {
				id = rand.Text()
			}
			msg.Headers = []message.Header{imdnHeader("Message-ID", id)}
		}
		return false
	})
	return err
}

func (m *Mapper) disposition(kind imdn.Kind, status, id string, st *stanza.Stanza, meta Meta) ([]byte, error) {
	who, err := m.headerURI(st.From)
	if err != nil {
		return nil, err
	}
	n := imdn.Notification{
		MessageID: id, DateTime: meta.Original, Recipient: who.URI, Original: who.URI, Kind: kind, Status: status,
	}
	if n.DateTime.IsZero() {
		n.DateTime = meta.Received
	}
	b, err := n.AppendTo(nil)
	if err != nil {
		m.lose(status, "needs an id and a time")
		return nil, ErrNothing
	}
	return b, nil
}

// readAsked gives a message the id by which its sender knows it, and asks the
// recipient's client for the receipts that the sender wants.
func readAsked(msg *message.Message, id string, b []byte) (string, []byte) {
	h, ok := msg.Header(imdn.HeaderNS, "Message-ID")
	if !ok || h.Value == "" || len(h.Value) > 1024 {
		return id, b
	}
	for _, asked := range msg.Headers {
		if !asked.Is(imdn.HeaderNS, "Disposition-Notification") {
			continue
		}
		for _, word := range strings.Split(asked.Text(), ",") {
			switch strings.TrimSpace(word) {
			case "positive-delivery":
				b = append(b, "<request xmlns='"+nsReceipts+"'/>"...)
			case "display":
				b = append(b, "<markable xmlns='"+nsMarkers+"'/>"...)
			}
		}
		break
	}
	return carriable(h.Text()), b
}

// readNotice maps a content that is a notification or a composing indication; ok
// says whether it is one. The error is a *stanza.Error, or ErrNothing.
func (m *Mapper) readNotice(msg *message.Message, from, to jid.JID) (st *stanza.Stanza, ok bool, err error) {
	name := msg.Content.ContentType().Name
	if name != imdn.ContentType && name != imdn.ComposingType {
		return nil, false, nil
	}
	text, err := msg.Content.Decode(m.o.MaxBody)
	if err != nil {
		return nil, true, failed(err)
	}
	if name == imdn.ComposingType {
		c, err := imdn.ParseComposing(text)
		if err != nil {
			return nil, true, failed(err)
		}
		state := "active"
		if c.Active {
			state = "composing"
		}
		return stanza.New(stanza.Message, m.o.Type, from, to, "", stanza.El(nsStates, state)), true, nil
	}
	n, err := imdn.Parse(text)
	if err != nil {
		return nil, true, failed(err)
	}
	id := carriable(n.MessageID)
	switch {
	case n.Kind == imdn.Delivery && n.Status == "delivered":
		return stanza.New(stanza.Message, m.o.Type, from, to, "", stanza.El(nsReceipts, "received").Set("id", id)), true, nil
	case n.Kind == imdn.Display && n.Status == "displayed":
		return stanza.New(stanza.Message, m.o.Type, from, to, "", stanza.El(nsMarkers, "displayed").Set("id", id)), true, nil
	case n.Kind == imdn.Delivery && n.Status == "forbidden":
		return stanza.New(stanza.Message, stanza.TypeError, from, to, id, NotAllowed.Error("")), true, nil
	case n.Kind == imdn.Delivery && (n.Status == "failed" || n.Status == "error"):
		return stanza.New(stanza.Message, stanza.TypeError, from, to, id, Unspecified.Error(n.Status)), true, nil
	}
	return nil, true, ErrNothing
}
