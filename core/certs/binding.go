package certs

import (
	"crypto"
	_ "crypto/sha256" // makes crypto.SHA256 available
	_ "crypto/sha512" // makes crypto.SHA384 and SHA512 available
	"crypto/x509"
)

// EndPointBinding returns the channel binding tls-server-end-point of a server
// certificate (RFC 5929 §4.1): the hash of the certificate, octet for octet as
// it was sent, with the hash function of its signature, or SHA-256 where that
// is MD5 or SHA-1. It returns nil where the RFC defines no binding: the signature
// uses no hash function of its own (Ed25519) or an unknown one.
func EndPointBinding(cert *x509.Certificate) []byte {
	if cert == nil {
		return nil
	}
	var hash crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(cert.Raw)
	return h.Sum(nil)
}
