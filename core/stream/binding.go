package stream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"trivium/core/certs"
)

var errNoBinding = errors.New("stream: no such channel binding")

// TLSBinding returns the channel binding data of an established connection whose
// transport is a Socket (sasl.Binding).
func TLSBinding(c *tls.Conn, typ string) ([]byte, error) {
	switch typ {
	case "tls-exporter": // RFC 9266 §2
		// Below TLS 1.3 this needs the extended master secret (RFC 9266 §4.2); crypto/tls
		// refuses to export without it.
		cs := c.ConnectionState()
		return cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	case "tls-server-end-point": // RFC 5929 §4
		if s, ok := c.NetConn().(*Socket); ok {
			if b := certs.EndPointBinding(s.leaf); b != nil {
				return b, nil
			}
		}
	}
	return nil, errNoBinding
}

// RememberLeaf implements certs.Rememberer; the handshake calls it.
func (s *Socket) RememberLeaf(leaf *x509.Certificate) { s.leaf = leaf }
