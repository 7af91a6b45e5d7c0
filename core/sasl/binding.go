package sasl

// The channel binding types, preferred first. tls-unique is not among them: TLS
// 1.3 has none, and before that it needs an extended master secret to be safe.
const (
	TLSExporter       = "tls-exporter"         // RFC 9266
	TLSServerEndPoint = "tls-server-end-point" // RFC 5929 §4
)
