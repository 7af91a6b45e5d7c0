// Package harness runs a whole server inside a test and talks to it as clients
// do, over each of its framings.
//
// The clients are small and our own, but share nothing with the server: they read
// with encoding/xml, log in with another SCRAM implementation and know the
// framings from the standards only. A transcript (Script) is a conversation
// between such clients; it does not know over which framing it runs.
package harness

// Namespaces that clients need.
const (
	NSClient   = "jabber:client"
	NSStream   = "http://etherx.jabber.org/streams"
	NSStreams  = "urn:ietf:params:xml:ns:xmpp-streams"
	NSStanzas  = "urn:ietf:params:xml:ns:xmpp-stanzas"
	NSSASL     = "urn:ietf:params:xml:ns:xmpp-sasl"
	NSTLS      = "urn:ietf:params:xml:ns:xmpp-tls"
	NSBind     = "urn:ietf:params:xml:ns:xmpp-bind"
	NSSASL2    = "urn:xmpp:sasl:2"
	NSBind2    = "urn:xmpp:bind:0"
	NSFAST     = "urn:xmpp:fast:0"
	NSSM       = "urn:xmpp:sm:3"
	NSRoster   = "jabber:iq:roster"
	NSStanzaID = "urn:xmpp:sid:0"
	NSPing     = "urn:xmpp:ping"
	NSFraming  = "urn:ietf:params:xml:ns:xmpp-framing"
	NSBOSH     = "http://jabber.org/protocol/httpbind"
	NSXBOSH    = "urn:xmpp:xbosh"
)

// Password is that of every account the harness makes.
const Password = "secret"
