package sasl

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// The channel binding types, preferred first. tls-unique is not among them: TLS
// 1.3 has none, and before that it needs an extended master secret to be safe.
const (
	TLSExporter       = "tls-exporter"         // RFC 9266
	TLSServerEndPoint = "tls-server-end-point" // RFC 5929 §4
)

// TLS is the Binding of a TLS connection.
type TLS struct {
	State *tls.ConnectionState
	// Leaf is the certificate the server sent on this connection, which is not
	// in the server's State; nil if it is not known.
	Leaf *x509.Certificate
}

// ChannelBinding implements Binding.
func (t TLS) ChannelBinding(typ string) ([]byte, error) {
	switch typ {
	case TLSExporter:
		// RFC 9266 §2: a zero-length context. Package tls refuses TLS 1.2
		// without an extended master secret, as §4.2 asks.
		return t.State.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	case TLSServerEndPoint:
		if t.Leaf == nil {
			return nil, errors.New("sasl: the server's certificate is not known")
		}
		return EndPoint(t.Leaf)
	}
	return nil, errors.New("sasl: no such channel binding type")
}

// EndPoint returns the tls-server-end-point data of a server's certificate. It
// depends on nothing else, and may be kept with the certificate.
func EndPoint(leaf *x509.Certificate) ([]byte, error) {
	// RFC 5929 §4.1: the hash of the signature algorithm, but SHA-256 in place of
	// MD5 and SHA-1; undefined where the algorithm has no one hash (Ed25519).
	var h crypto.Hash
	switch leaf.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		h = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	default:
		return nil, errors.New("sasl: tls-server-end-point is undefined for " + leaf.SignatureAlgorithm.String())
	}
	d := h.New()
	d.Write(leaf.Raw)
	return d.Sum(nil), nil
}
