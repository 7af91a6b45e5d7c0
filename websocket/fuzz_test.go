package websocket

import (
	"bytes"
	"encoding/xml"
	"io"
	"testing"

	"trivium/core/stream"
	"trivium/core/wire"
)

// FuzzMessage: a message that is accepted is one XML document with one root
// element to another parser too, begins with '<', and its event holds that
// element; a message that is refused gets a stream error.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		open, closing, " " + open, open + "\n", open + open, `<?xml version="1.0" encoding="UTF-8"?>` + open,
		`<message xmlns="jabber:client" xml:lang="en"><body>Every WebSocket message is parsable by itself.</body></message>`,
		`<stream:features xmlns:stream="http://etherx.jabber.org/streams"><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/></stream:features>`,
		`<x xmlns='&#97;'/>`, `<x/><!---->`, `<x/>text`, `<x>`, `<x></y>`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Conn
		c.scan.Reset(wire.Document, wire.Limits{})
		ev, err := c.element(data)
		if err != nil {
			if _, ok := err.(*stream.Error); !ok {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if data[0] != '<' || ev.Kind != stream.Element || ev.Index.Len != len(ev.Raw) {
			t.Fatalf("accepted %q as %q", data, ev.Raw)
		}
		want, err := roots(data)
		if err != nil || len(want) != 1 {
			t.Fatalf("encoding/xml finds %v in %q: %v", want, data, err)
		}
		got, err := roots(ev.Raw)
		if err != nil || len(got) != 1 || got[0] != want[0] || string(ev.Index.Local.Bytes(ev.Raw)) != got[0].Local {
			t.Fatalf("event holds %v, message %v: %v", got, want, err)
		}
	})
}

// roots returns the names of the top-level elements.
func roots(data []byte) (names []xml.Name, err error) {
	d := xml.NewDecoder(bytes.NewReader(data))
	for depth := 0; ; {
		switch tok, err := d.Token(); {
		case err == io.EOF:
			return names, nil
		case err != nil:
			return names, err
		default:
			switch tok := tok.(type) {
			case xml.StartElement:
				if depth == 0 {
					names = append(names, tok.Name)
				}
				depth++
			case xml.EndElement:
				depth--
			}
		}
	}
}
