package stanza

import "trivium/core/wire"

// AppendDocument appends the stanza as a document of its own, which declares the
// content namespace: the form in which stanzas are kept. ParseDocument reads it.
func (st *Stanza) AppendDocument(dst []byte) []byte {
	start := len(dst)
	dst = st.AppendTo(dst)
	name := start + 1 + len(st.Kind.String())
	const declaration = " xmlns='" + NSClient + "'"
	dst = append(dst, declaration...)
	copy(dst[name+len(declaration):], dst[name:])
	copy(dst[name:], declaration)
	return dst
}

// ParseDocument reads one stanza that AppendDocument has written. The error is
// a *wire.Error or a *Error and says that the octets are something else.
func ParseDocument(raw []byte) (*Stanza, error) {
	var sc wire.Scanner
	sc.Reset(wire.Document, unlimited)
	kind, n, err := sc.Next(raw)
	if err != nil {
		return nil, err
	}
	el := sc.Index()
	if kind != wire.KindElement || n != len(raw) {
		return nil, &wire.Error{Condition: wire.NotWellFormed, Text: "want one element"}
	}
	raw = raw[n-el.Len:]
	k := KindOf(el.Local.Bytes(raw))
	if k == 0 || string(el.Space.Bytes(raw)) != NSClient {
		return nil, &wire.Error{Condition: wire.NotWellFormed, Text: "want a stanza"}
	}
	st, err := Parse(k, raw, el)
	sc.Reset(wire.Document, wire.Limits{}) // gives back what the scan needed
	return st, err
}
