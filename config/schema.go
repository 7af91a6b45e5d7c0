package config

import "time"

// The comments of the fields below are the text of example.yaml: run
// `go generate ./config` after a change. Tags: yaml is the key; range bounds a
// number, a size or a duration, and zero says what 0 means where it lies outside
// the range; oneof lists the words allowed; live marks what a running server
// takes over on SIGHUP.

// Config is one configuration of the server, as read from a file.
type Config struct {
	// The virtual hosts, the default one first. At least one.
	Hosts []Host `yaml:"hosts"`
	// Folder of everything the server writes. Relative paths elsewhere in this
	// file are taken from here; this one from the server's working directory.
	DataDir string `yaml:"data_dir"`
	// The embedded database.
	Store Store `yaml:"store"`
	// Who administers the server, and how.
	Admin Admin `yaml:"admin"`
	// What is logged, to standard error.
	Log Log `yaml:"log"`
	// Where clients connect: any number of each kind, on any address.
	Listeners []Listener `yaml:"listeners"`
	// What one client, address or account may use.
	Limits Limits `yaml:"limits"`
	// BOSH (XEP-0124), served by listeners with the endpoint bosh.
	BOSH BOSH `yaml:"bosh"`
	// WebSocket (RFC 7395), served by listeners with the endpoint websocket.
	WebSocket WebSocket `yaml:"websocket"`
	// How clients log in (RFC 6120 section 6).
	SASL SASL `yaml:"sasl"`
	// Sessions that survive the loss of their connection (XEP-0198).
	StreamManagement StreamManagement `yaml:"stream_management"`
	// What accounts have sent and received, kept for them (XEP-0313).
	Archive Archive `yaml:"archive"`
	// Files that accounts upload and share (XEP-0363), served by listeners with the
	// endpoint upload. The service is upload.<host>.
	Upload Upload `yaml:"upload"`
	// The REST interface, served by listeners with the endpoint rest.
	REST REST `yaml:"rest"`
	// Domains that lead to other networks by way of programs of yours
	// (docs/gateways.md). Those of webhooks need not be repeated here.
	Gateways []Gateway `yaml:"gateways"`
	// How long the program of a gateway may be away before users see the gateway and
	// its contacts leave.
	GatewayGrace time.Duration `yaml:"gateway_grace" range:"1s..10m"`
	// Where events are posted: those of gateway domains, and the messages of
	// watched addresses.
	Webhooks []Webhook `yaml:"webhooks"`
	// Measurements, served by listeners with the endpoint metrics.
	Metrics Metrics `yaml:"metrics"`
	// Where traces of requests go.
	Tracing Tracing `yaml:"tracing"`
	// How the server stops on SIGTERM or SIGINT.
	Shutdown Shutdown `yaml:"shutdown"`
	// Development mode: demo accounts, a demo token, and the endpoint demo. Never
	// switch it on where strangers can connect.
	Development bool `yaml:"development"`
}

// A Host is a virtual host.
type Host struct {
	// The domain of its addresses, as in user@example.org.
	Domain string `yaml:"domain"`
	// PEM file with the certificate chain. Without one the server makes a
	// certificate for development, signed by a CA of its own.
	Certificate string `yaml:"certificate" live:"true"`
	// PEM file with the private key; empty if it stands in the certificate file.
	Key string `yaml:"key" live:"true"`
	// Anybody may create an account (XEP-0077).
	Registration bool `yaml:"registration"`
	// Anybody may log in without an account, under a random name (SASL ANONYMOUS).
	Anonymous bool `yaml:"anonymous"`
	// Who may log in besides, and who says so: docs/authentication.md.
	Auth Auth `yaml:"auth"`
}

// Auth says where the accounts of a host come from. A login succeeds where one of
// the sources admits it.
type Auth struct {
	// Accounts with passwords of our own: trivium user, registration. Switched off,
	// passwords are set elsewhere, and those that we have admit nobody.
	Internal bool `yaml:"internal"`
	// Who is admitted by jwt or http for the first time gets an account. Switched
	// off, they need one already.
	Provision bool `yaml:"provision"`
	// JSON Web Tokens (RFC 7519). Without keys, none are taken.
	JWT JWT `yaml:"jwt"`
	// A program of yours that is asked by HTTP. Without a url, none is.
	HTTP Callout `yaml:"http"`
}

// JWT says which JSON Web Tokens admit to a host. The keys come from one of
// secret_file, keys_file and jwks_url.
type JWT struct {
	// File with a secret of 32 octets or more (64 for HS512) that is shared with the
	// issuer: who reads it can log in as anybody.
	SecretFile string `yaml:"secret_file"`
	// PEM file with public keys or certificates of the issuer.
	KeysFile string `yaml:"keys_file"`
	// Address of the issuer's JWK Set (RFC 7517), https or on this machine. It is
	// fetched when a token needs it, and again as keys change.
	JWKSURL string `yaml:"jwks_url"`
	// What may sign tokens; all that the keys are for if empty.
	Algorithms []string `yaml:"algorithms" oneof:"HS256,HS384,HS512,RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA"`
	// What the claim iss has to be; empty: anything. Needed with jwks_url.
	Issuer string `yaml:"issuer"`
	// Our names: a token has to be for one of them (aud). Empty: for the domain, or
	// for nobody in particular. Needed with jwks_url.
	Audience []string `yaml:"audience"`
	// The claim that names the account: its localpart, or user@domain.
	Claim string `yaml:"claim"`
	// What the header typ has to be, such as at+jwt (RFC 9068); empty: anything.
	Type string `yaml:"type"`
	// A word that the claim scope has to have; empty: none.
	Scope string `yaml:"scope"`
	// How much the issuer's clock may differ from ours.
	Leeway time.Duration `yaml:"leeway" range:"0s..10m"`
	// Address of the issuer's OpenID configuration, told to clients that come
	// without a token that will do (RFC 7628).
	OpenIDConfiguration string `yaml:"openid_configuration"`
	// A token may also be sent in place of the password, by PLAIN: for clients that
	// do not know OAUTHBEARER.
	AsPassword bool `yaml:"as_password"`
}

// Callout tunes the questions to a program of the operator's.
type Callout struct {
	// Where to ask, https or http on this machine.
	URL string `yaml:"url"`
	// File with the secret that tells the program who asks (Authorization: Bearer).
	SecretFile string `yaml:"secret_file"`
	// How long one answer may take. Questions about existence get 2s at most: whoever
	// writes to an unknown address waits for them.
	Timeout time.Duration `yaml:"timeout" range:"100ms..1m"`
	// Questions at a time; more wait.
	Concurrency int `yaml:"concurrency" range:"1..1000"`
	// Ask whether passwords are right. Needs PLAIN.
	Passwords bool `yaml:"passwords"`
	// Ask whom the tokens of OAUTHBEARER admit. Not together with jwt.
	Tokens bool `yaml:"tokens"`
	// Ask whether accounts exist that have never logged in here: messages to them are
	// kept. Otherwise nobody can write to them before they do.
	Directory bool `yaml:"directory"`
	// How long a password that was right is not asked about again, even if it is
	// changed meanwhile.
	RememberPasswords time.Duration `yaml:"remember_passwords" range:"1s..1h" zero:"not at all"`
	// How long an answer about an account's existence is remembered.
	RememberExists time.Duration `yaml:"remember_exists" range:"1s..24h" zero:"not at all"`
}

// Store is the embedded database.
type Store struct {
	// The SQLite file.
	Path string `yaml:"path"`
}

// Admin says who administers the server.
type Admin struct {
	// A unix socket that only the server's user can open, for the subcommands
	// (trivium user, trivium token, ...).
	Socket string `yaml:"socket"`
	// Accounts that may do the same with ad-hoc commands (XEP-0050), as in
	// admin@example.org.
	Accounts []string `yaml:"accounts"`
	// The log of who has changed what (trivium audit).
	Audit Audit `yaml:"audit"`
}

// Audit bounds the log of who has changed what.
type Audit struct {
	// How long an entry is kept.
	Keep time.Duration `yaml:"keep" range:"24h..87600h"`
	// Entries kept; the oldest go first. What users do on their own accounts has a
	// quarter of them.
	Entries int `yaml:"entries" range:"1000..10000000"`
}

// Log says what is logged.
type Log struct {
	// The least level that is logged: debug, info, warn or error.
	Level string `yaml:"level" oneof:"debug,info,warn,error" live:"true"`
	// Either text or json.
	Format string `yaml:"format" oneof:"text,json"`
}

// Kinds of listener.
const (
	XMPPStartTLS = "xmpp-starttls"
	XMPPTLS      = "xmpp-tls"
	HTTP         = "http"
	HTTPS        = "https"
)

// A Listener is one socket that clients connect to.
type Listener struct {
	// xmpp-starttls (RFC 6120), xmpp-tls (XEP-0368), http or https.
	Kind string `yaml:"kind" oneof:"xmpp-starttls,xmpp-tls,http,https"`
	// HOST:PORT, :PORT for every address, or unix:PATH.
	Address string `yaml:"address"`
	// Every connection begins with a PROXY protocol header (version 1 or 2) that
	// tells the client's address. Only behind a proxy: clients could lie.
	ProxyProtocol bool `yaml:"proxy_protocol"`
	// For xmpp-starttls: nobody logs in before the connection is encrypted.
	RequireTLS bool `yaml:"require_tls"`
	// For http: a proxy in front speaks TLS with the clients, so that passwords
	// and web addresses count as protected. The proxy must set X-Forwarded-For.
	BehindTLS bool `yaml:"behind_tls"`
	// For http and https: what is served. websocket (/xmpp-websocket), bosh
	// (/http-bind), rest (/api/v1), upload (/upload), host-meta
	// (/.well-known/host-meta), health (/healthz, /readyz), metrics (/metrics), demo
	// (/, in development mode).
	// Left out: the first five for https, all but demo for http.
	Endpoints []string `yaml:"endpoints" oneof:"websocket,bosh,rest,upload,host-meta,health,metrics,demo"`
	// For http and https: the address under which clients reach this listener,
	// as in https://chat.example.org. It is announced by host-meta (XEP-0156).
	// Empty: scheme, virtual host and port of the listener.
	PublicURL string `yaml:"public_url"`
}

// Limits bound what clients may use. Reaching one gives the standard's error.
type Limits struct {
	// Octets of one stanza. RFC 6120 section 13.12 asks for at least 10000.
	StanzaSize Size `yaml:"stanza_size" range:"10000..16MiB" live:"true"`
	// Octets of one element before the client has logged in.
	StanzaSizeBeforeAuth Size `yaml:"stanza_size_before_auth" range:"10000..1MiB" live:"true"`
	// Nesting of elements in one stanza.
	Depth int `yaml:"depth" range:"8..1000" live:"true"`
	// Attributes of one element.
	Attributes int `yaml:"attributes" range:"8..1000" live:"true"`
	// Direct children of one stanza.
	Children int `yaml:"children" range:"16..100000" live:"true"`
	// Connections from one address at a time, logged in or not.
	ConnectionsPerAddress int `yaml:"connections_per_address" range:"1..1000000" zero:"no limit"`
	// Connections from one address that have not logged in yet.
	UnauthenticatedPerAddress int `yaml:"unauthenticated_per_address" range:"1..1000000" zero:"no limit" live:"true"`
	// Sessions of one account at a time.
	ResourcesPerAccount int `yaml:"resources_per_account" range:"1..10000" live:"true"`
	// Octets that may wait to be sent to one client; one that reads too slowly is
	// disconnected.
	OutboxSize Size `yaml:"outbox_size" range:"64KiB..1GiB" live:"true"`
	// Contacts in one roster.
	RosterItems int `yaml:"roster_items" range:"1..1000000"`
	// Messages kept for one account that is offline; more are refused.
	OfflineMessages int `yaml:"offline_messages" range:"0..1000000"`
	// Octets of one account's private XML storage and of its vCard, each.
	PrivateSize Size `yaml:"private_size" range:"0..16MiB"`
	// Octets a second that one session may send in the long run.
	RateBytes Size `yaml:"rate_bytes" range:"1KiB..1GiB" zero:"no limit" live:"true"`
	// Octets that it may send at once, before rate_bytes slows it down.
	BurstBytes Size `yaml:"burst_bytes" range:"10000..1GiB" live:"true"`
	// Stanzas a second that one session may send in the long run.
	RateStanzas int `yaml:"rate_stanzas" range:"1..1000000" zero:"no limit" live:"true"`
	// Stanzas that it may send at once, before rate_stanzas slows it down.
	BurstStanzas int `yaml:"burst_stanzas" range:"1..1000000" live:"true"`
	// Failed logins on one connection (RFC 6120 section 6.4.5).
	AuthAttempts int `yaml:"auth_attempts" range:"2..5" live:"true"`
	// Failed logins from one address that are free; one more is forgiven every few
	// seconds. Beyond them logins from there are refused for a while.
	FailedLoginsPerAddress int `yaml:"failed_logins_per_address" range:"5..1000000" zero:"no limit"`
	// New accounts from one address in an hour.
	RegistrationsPerHour int `yaml:"registrations_per_hour" range:"1..1000000" zero:"none"`
	// From connect to the end of the TLS handshake.
	HandshakeTimeout time.Duration `yaml:"handshake_timeout" range:"1s..5m"`
	// From connect to a bound session, whatever trickles in.
	LoginTimeout time.Duration `yaml:"login_timeout" range:"1s..10m" live:"true"`
	// Silence after which the server pings a client (XEP-0199).
	PingInterval time.Duration `yaml:"ping_interval" range:"5s..24h" zero:"never" live:"true"`
	// How long the answer to a ping may take before the client is disconnected.
	PingTimeout time.Duration `yaml:"ping_timeout" range:"1s..1h" live:"true"`
	// How long an idle HTTP connection is kept.
	HTTPIdleTimeout time.Duration `yaml:"http_idle_timeout" range:"1s..1h"`
}

// BOSH tunes XEP-0124.
type BOSH struct {
	// The longest time that a request is held without data ('wait').
	MaxWait time.Duration `yaml:"max_wait" range:"1s..10m"`
	// Requests that are held at a time ('hold'). A client may have one more open
	// ('requests'), so that it can always send.
	MaxHold int `yaml:"max_hold" range:"1..10"`
	// Silence after which a session ends ('inactivity').
	Inactivity time.Duration `yaml:"inactivity" range:"5s..1h"`
	// The shortest time between two empty requests of a polling client ('polling').
	Polling time.Duration `yaml:"polling" range:"1s..1m"`
	// The longest pause that a client may ask for ('maxpause').
	MaxPause time.Duration `yaml:"max_pause" range:"1s..1h" zero:"none"`
	// Web origins whose pages may connect: https://chat.example.org, or
	// https://*.example.org for every host below, or "*" for any.
	Origins []string `yaml:"origins" live:"true"`
}

// WebSocket tunes RFC 7395.
type WebSocket struct {
	// Web origins whose pages may connect, besides the listener's own:
	// https://chat.example.org, or https://*.example.org for every host below, or
	// "*" for any.
	Origins []string `yaml:"origins" live:"true"`
	// Silence after which the server sends a ping frame.
	PingInterval time.Duration `yaml:"ping_interval" range:"5s..24h" zero:"never"`
}

// SASL says how clients log in.
type SASL struct {
	// What is offered, preferred first. Each SCRAM mechanism comes with its -PLUS
	// form where TLS provides channel binding; PLAIN only over TLS. SCRAM is left out
	// where a host has no internal accounts. OAUTHBEARER needs no mention: it is
	// offered over TLS where a host takes tokens (jwt, http). ANONYMOUS is a setting of
	// the virtual host.
	Mechanisms []string `yaml:"mechanisms" oneof:"SCRAM-SHA-512,SCRAM-SHA-256,SCRAM-SHA-1,PLAIN"`
	// Rounds of PBKDF2 for passwords set from now on. RFC 7677 asks for at least
	// 4096; clients do this work at each login.
	Iterations int `yaml:"iterations" range:"4096..10000000"`
	// How long a client that has logged in may do so again by a token of ours (FAST,
	// XEP-0484), whatever becomes of the password or token that it had. Using it renews
	// it, but not on hosts where jwt or http admit: there it ends.
	FastLifetime time.Duration `yaml:"fast_lifetime" range:"1m..8760h" zero:"FAST is off"`
}

// StreamManagement tunes XEP-0198.
type StreamManagement struct {
	// How long a session without a connection waits for its client to resume it.
	// What it has not acknowledged is then kept as if it had been offline.
	Resume time.Duration `yaml:"resume" range:"1s..24h" zero:"sessions cannot be resumed" live:"true"`
	// Stanzas that a client may leave unacknowledged; beyond them its session is
	// ended. Their octets are bounded by limits.outbox_size.
	Unacknowledged int `yaml:"unacknowledged" range:"10..1000000" live:"true"`
	// A message is acknowledged when it is safe: on the disk, or acknowledged by
	// its recipient. Switched off, when it has been handled: an acknowledged
	// message is then lost if the server dies with it.
	Promise bool `yaml:"promise" live:"true"`
}

// Archive tunes the archives of accounts.
type Archive struct {
	// Which messages are kept for accounts that have set no preference: always,
	// roster (those from and to contacts) or never.
	Default string `yaml:"default" oneof:"always,roster,never"`
	// How long a message is kept.
	MaxAge time.Duration `yaml:"max_age" range:"1h..876000h" zero:"for ever"`
	// Octets of messages kept for one account; the oldest go first.
	MaxSize Size `yaml:"max_size" range:"64KiB..1TiB" zero:"no limit"`
	// Messages in one page of an answer, if a client asks for more.
	PageLimit int `yaml:"page_limit" range:"10..1000"`
	// Clients may search the text of messages (XEP-0431). An account's archive is
	// indexed when it first searches.
	Search bool `yaml:"search"`
}

// Upload tunes the sharing of files.
type Upload struct {
	// Offer it.
	Enabled bool `yaml:"enabled"`
	// Octets of one file.
	MaxSize Size `yaml:"max_size" range:"1KiB..1TiB"`
	// Octets that one account may upload in a day; at least max_size.
	Quota Size `yaml:"quota" range:"1KiB..1TiB" zero:"no limit"`
	// Files that one account may have.
	MaxFiles int `yaml:"max_files" range:"1..10000000"`
	// How long a file is kept.
	MaxAge time.Duration `yaml:"max_age" range:"1h..876000h" zero:"for ever"`
	// Octets of all files; the oldest go first.
	MaxTotal Size `yaml:"max_total" range:"1MiB..1024TiB" zero:"no limit"`
	// Where files are uploaded and fetched, if it is not one of the listeners, as in
	// https://files.example.org; it must lead to a listener with the endpoint upload.
	// Empty: the public_url of that listener, or virtual host and port of an https one.
	PublicURL string `yaml:"public_url"`
}

// REST tunes the REST interface.
type REST struct {
	// Octets of one request body.
	MaxBody Size `yaml:"max_body" range:"1KiB..16MiB"`
	// Requests a second with one token in the long run, if the token has no rate of
	// its own.
	Rate int `yaml:"rate" range:"1..1000000" zero:"no limit"`
	// Web origins whose pages may use the interface (CORS): https://admin.example.org,
	// or "*". None by default: programs need no permission, pages do.
	Origins []string `yaml:"origins"`
	// Access tokens of OAuth 2.0 that are JSON Web Tokens (RFC 9068), taken besides
	// those of trivium token. Their claim scope says what they allow, as in
	// send:shop@example.org. Without keys, none are taken.
	JWT RESTJWT `yaml:"jwt"`
}

// RESTJWT says which access tokens admit to the REST interface. The keys come from
// one of secret_file, keys_file and jwks_url.
type RESTJWT struct {
	// File with a secret of 32 octets or more (64 for HS512) that is shared with the
	// issuer: who reads it can do everything.
	SecretFile string `yaml:"secret_file"`
	// PEM file with public keys or certificates of the issuer.
	KeysFile string `yaml:"keys_file"`
	// Address of the issuer's JWK Set (RFC 7517), https or on this machine. It is
	// fetched when a token needs it, and again as keys change.
	JWKSURL string `yaml:"jwks_url"`
	// What may sign tokens; all that the keys are for if empty.
	Algorithms []string `yaml:"algorithms" oneof:"HS256,HS384,HS512,RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA"`
	// What the claim iss has to be. Needed.
	Issuer string `yaml:"issuer"`
	// Our names: a token has to be for one of them (aud). Needed.
	Audience []string `yaml:"audience"`
	// Take tokens whose header typ is not at+jwt, too: for issuers that do not write
	// it. Then any of the issuer's tokens for the audience will do.
	AnyType bool `yaml:"any_type"`
	// How much the issuer's clock may differ from ours.
	Leeway time.Duration `yaml:"leeway" range:"0s..10m"`
}

// A Gateway is a domain whose stanzas become events, for webhooks and event streams.
type Gateway struct {
	// The domain; it is no virtual host.
	Domain string `yaml:"domain"`
	// Which network it leads to, as service discovery has it: sms, sip, irc, smtp, ...
	Type string `yaml:"type"`
	// What people call it.
	Name string `yaml:"name"`
	// What kind of client its contacts say they are.
	Client string `yaml:"client" oneof:"bot,pc,phone,web,handheld,console"`
	// The ID of the API token that the gateway belongs to. Empty: whoever administers
	// the server.
	Owner string `yaml:"owner"`
	// What a contact is known by.
	Prompt string `yaml:"prompt"`
	// How people are asked for it.
	Description string `yaml:"description"`
	// What users fill in to register (XEP-0077). Without fields and instructions there
	// is no registration.
	Registration Registration `yaml:"registration"`
	// Only registered users may send anything.
	RegisteredOnly bool `yaml:"registered_only"`
	// Who may use it: domains, addresses, or patterns such as *@example.org. Empty:
	// everybody.
	Users []string `yaml:"users"`
	// What becomes of a request to see a contact's presence: ask leaves it to the
	// gateway, accept grants it.
	Subscriptions string `yaml:"subscriptions" oneof:"ask,accept"`
	// What contacts appear as whose presence was never set: unavailable (set), or
	// available while the gateway is (assumed).
	Presence string `yaml:"presence" oneof:"set,assumed"`
	// What the network can carry.
	Capabilities Capabilities `yaml:"capabilities"`
	// Refuse messages longer than capabilities.max_length, rather than pass them on.
	RefuseLong bool `yaml:"refuse_long"`
	// How long messages wait that no program takes, where there is no webhook.
	GiveUpAfter time.Duration `yaml:"give_up_after" range:"1m..720h"`
}

// Registration is a form that users of a gateway fill in.
type Registration struct {
	// What to do, for people.
	Instructions string `yaml:"instructions"`
	// What to fill in.
	Fields []Field `yaml:"fields"`
}

// A Field is one field of a Registration.
type Field struct {
	// The name. Those of XEP-0077 (username, password, phone, email, ...) also work in
	// clients without data forms.
	Name string `yaml:"name"`
	// What people see.
	Label string `yaml:"label"`
	// What it holds. A secret is never shown to the user again.
	Kind string `yaml:"kind" oneof:"text,secret,list,boolean,address"`
	// It cannot be left out.
	Required bool `yaml:"required"`
	// What there is to choose from, for lists.
	Options []string `yaml:"options"`
}

// Capabilities are what conversations through a gateway can have.
type Capabilities struct {
	// Characters of one message.
	MaxLength int `yaml:"max_length" range:"1..1000000" zero:"no limit known"`
	// Corrections arrive (XEP-0308).
	Edits bool `yaml:"edits"`
	// Retractions arrive (XEP-0424).
	Retractions bool `yaml:"retractions"`
	// Reactions arrive (XEP-0444).
	Reactions bool `yaml:"reactions"`
	// References to the message replied to arrive (XEP-0461).
	Replies bool `yaml:"replies"`
	// That somebody is typing arrives.
	Typing bool `yaml:"typing"`
	// That a message was delivered comes back (XEP-0184).
	Receipts bool `yaml:"receipts"`
	// That a message was displayed comes back (XEP-0333).
	Markers bool `yaml:"markers"`
	// Media types that may be attached, such as image/*.
	Media []string `yaml:"media"`
	// Octets of one attachment.
	MaxMedia Size `yaml:"max_media" range:"1KiB..1GiB" zero:"no limit known"`
}

// A Webhook is an address that events are posted to.
type Webhook struct {
	// Names it in logs and in the outbox, which survives restarts: unique, and
	// best never changed.
	Name string `yaml:"name"`
	// Where to post, http or https.
	URL string `yaml:"url"`
	// Keys that sign the posts (Standard Webhooks): whsec_ and base64, whsk_ and
	// base64 of an ed25519 key pair, or file:PATH for a file with one. All of
	// them sign, so keys can be changed without a gap: add the new one, then
	// remove the old one.
	Secrets []Secret `yaml:"secrets"`
	// Bare addresses whose messages are posted, domains for all of theirs, or
	// patterns such as support-*@example.org.
	Watch []string `yaml:"watch"`
	// Gateway domains: everything sent to an address there is posted.
	Domains []string `yaml:"domains"`
	// Only events of these types. Empty: all.
	Types []string `yaml:"types" oneof:"message,presence,subscription,iq,registration,delivery"`
	// Only events from or to these addresses, domains or patterns. Empty: all.
	JIDs []string `yaml:"jids"`
	// Only events of these rooms. Empty: all.
	Rooms []string `yaml:"rooms"`
	// How events are posted: as JSON, as the stanza's XML, or as Message/CPIM and
	// PIDF where they can be.
	Format string `yaml:"format" oneof:"json,xml,cpim"`
	// Requests (iq) to the gateway domains are posted at once and answered by
	// the response.
	Sync bool `yaml:"sync"`
	// Posts that may be under way at the same time.
	Concurrency int `yaml:"concurrency" range:"1..1000"`
	// The url may lead into private networks or to this machine; link-local and
	// metadata addresses stay out of reach.
	AllowPrivate bool `yaml:"allow_private"`
	// How long one attempt may take.
	Timeout time.Duration `yaml:"timeout" range:"1s..1m"`
	// How long a message is tried again before it is given up.
	GiveUpAfter time.Duration `yaml:"give_up_after" range:"1m..720h"`
}

// Tracing follows requests from the REST interface to the webhooks that they cause
// (OpenTelemetry, W3C Trace Context).
type Tracing struct {
	// Base address of a collector that takes OTLP over HTTP, such as
	// http://localhost:4318. Empty: traces go nowhere, and traceparent is passed on.
	Endpoint string `yaml:"endpoint"`
	// How many of a thousand requests are traced that come without a traceparent;
	// those with one follow it.
	SamplePerMille int `yaml:"sample_per_mille" range:"1..1000" zero:"none"`
}

// Metrics says what is measured.
type Metrics struct {
	// Measure, and answer at /metrics.
	Enabled bool `yaml:"enabled"`
}

// Shutdown says how the server stops.
type Shutdown struct {
	// How long sessions may take to end after they were told.
	Grace time.Duration `yaml:"grace" range:"0s..10m"`
}
