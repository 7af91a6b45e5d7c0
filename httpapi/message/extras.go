package message

// Extras are what a message says beside its text, each field standing for an
// extension of XMPP. A Draft with them becomes a stanza, and Describe finds them
// again in one.
type Extras struct {
	Subjects       map[string]string `json:"subjects,omitempty" doc:"The subject in further languages, by language tag (RFC 6121 section 5.2.4)."`
	Bodies         map[string]string `json:"bodies,omitempty" doc:"The text in further languages, by language tag (RFC 6121 section 5.2.3)."`
	Reply          *InReplyTo        `json:"reply,omitempty" doc:"The message that this one replies to (XEP-0461)."`
	Reactions      *Reactions        `json:"reactions,omitempty" doc:"All reactions of the sender to a message (XEP-0444). They replace the ones before; none takes them back."`
	Replaces       string            `json:"replaces,omitempty" maxLength:"1023" doc:"The id of the sender's message that this one corrects, the first of several corrections (XEP-0308). It repeats everything that stays."`
	Retracts       string            `json:"retracts,omitempty" maxLength:"1023" doc:"The id of the sender's message to be retracted (XEP-0424)."`
	ReceiptRequest bool              `json:"receipt_request,omitempty" doc:"Asks for a receipt (XEP-0184)."`
	Receipt        string            `json:"receipt,omitempty" maxLength:"1023" doc:"The id of a message that has been received; the receipt is the whole message (XEP-0184)."`
	Marker         *Marker           `json:"marker,omitempty" doc:"A chat marker (XEP-0333)."`
	ChatState      string            `json:"chat_state,omitempty" enum:"active,inactive,gone,composing,paused" doc:"What the sender does in the conversation (XEP-0085). A message with text can only be active."`
	Hints          []string          `json:"hints,omitempty" maxItems:"4" enum:"store,no-store,no-permanent-store,no-copy" doc:"Hints to servers (XEP-0334)."`
	OriginID       string            `json:"origin_id,omitempty" maxLength:"1023" doc:"The id that the sender's program gave (XEP-0359)."`
	StanzaIDs      []StanzaID        `json:"stanza_ids,omitempty" maxItems:"16" doc:"Ids that accounts and rooms gave (XEP-0359)."`
	Delay          *Delay            `json:"delay,omitempty" doc:"The message is older than its delivery (XEP-0203)."`
	OOB            *OOB              `json:"oob,omitempty" doc:"A link (XEP-0066). Clients show it as a file where the text is the same URL."`
	Media          []Media           `json:"media,omitempty" maxItems:"16" doc:"Files to be fetched, with what is known of them (XEP-0385)."`
	Fallback       []Fallback        `json:"fallback,omitempty" maxItems:"16" doc:"Which text is only there for programs that do not know an extension (XEP-0428)."`
}

// InReplyTo names the message that is replied to.
type InReplyTo struct {
	ID string `json:"id" minLength:"1" maxLength:"1023" doc:"Its id; in a room the one that the room gave."`
	To string `json:"to,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Its author."`
}

// Reactions are those of one sender to one message.
type Reactions struct {
	ID     string   `json:"id" minLength:"1" maxLength:"1023" doc:"The id of the message that is reacted to; in a room the one that the room gave."`
	Emojis []string `json:"emojis" maxItems:"64" nullable:"false" doc:"Each at most once." example:"[\"👋\"]"`
}

// Marker is a chat marker.
type Marker struct {
	Type string `json:"type" enum:"markable,received,displayed,acknowledged" doc:"markable asks for markers."`
	ID   string `json:"id,omitempty" maxLength:"1023" doc:"The id of the message that is marked, for all but markable."`
}

// StanzaID is an id that an account or a room gave a message.
type StanzaID struct {
	ID string `json:"id" minLength:"1" maxLength:"1023"`
	By string `json:"by,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Who gave it. What is sent can only be by the sender's bare address, which is the default."`
}

// Delay says when a message that comes late was sent.
type Delay struct {
	Stamp  string `json:"stamp" format:"date-time" doc:"When it was sent." example:"2002-09-10T23:08:25Z"`
	From   string `json:"from,omitempty" format:"xmpp-jid" maxLength:"3071" doc:"Who says so. What is sent can only be by the sender, which is the default."`
	Reason string `json:"reason,omitempty" doc:"Why it is late, for people."`
}

// OOB is a link.
type OOB struct {
	URL  string `json:"url" format:"uri" minLength:"1" maxLength:"8192"`
	Desc string `json:"desc,omitempty" doc:"What is there, for people."`
}

// Media is a file that can be fetched.
type Media struct {
	URL    string            `json:"url" format:"uri" minLength:"1" maxLength:"8192"`
	Name   string            `json:"name,omitempty" maxLength:"1023" doc:"The file's name."`
	Type   string            `json:"type,omitempty" maxLength:"255" doc:"Its media type." example:"image/jpeg"`
	Size   int64             `json:"size,omitempty" minimum:"0" doc:"In octets."`
	Desc   string            `json:"desc,omitempty" doc:"What is in it, for people."`
	Hashes map[string]string `json:"hashes,omitempty" doc:"Hashes in base64, by the names of XEP-0300." example:"{\"sha-256\":\"2XarmwTlNxDAMkvymloX3S5+VbylNrJt/l5QyPa+YoU=\"}"`
	Begin  *int              `json:"begin,omitempty" minimum:"0" doc:"Where in the text it is mentioned: the first character."`
	End    *int              `json:"end,omitempty" minimum:"0" doc:"The character after that."`
}

// Fallback says which text stands in for an extension. Without ranges all text does.
type Fallback struct {
	For     string  `json:"for" minLength:"1" maxLength:"1023" doc:"The namespace of the extension." example:"urn:xmpp:reply:0"`
	Body    []Range `json:"body,omitempty" maxItems:"64" doc:"Parts of the body."`
	Subject []Range `json:"subject,omitempty" maxItems:"64" doc:"Parts of the subject."`
}

// Range is a part of a text, counted in characters. The zero Range is the whole.
type Range struct {
	Start int `json:"start,omitempty" minimum:"0"`
	End   int `json:"end,omitempty" minimum:"0" doc:"The character after the last; 0: all."`
}

// Namespaces of what Extras stand for.
const (
	NSReply     = "urn:xmpp:reply:0"                      // XEP-0461
	NSReactions = "urn:xmpp:reactions:0"                  // XEP-0444
	NSCorrect   = "urn:xmpp:message-correct:0"            // XEP-0308
	NSRetract   = "urn:xmpp:message-retract:1"            // XEP-0424
	NSReceipts  = "urn:xmpp:receipts"                     // XEP-0184
	NSMarkers   = "urn:xmpp:chat-markers:0"               // XEP-0333
	NSStates    = "http://jabber.org/protocol/chatstates" // XEP-0085
	NSHints     = "urn:xmpp:hints"                        // XEP-0334
	NSIDs       = "urn:xmpp:sid:0"                        // XEP-0359
	NSDelay     = "urn:xmpp:delay"                        // XEP-0203
	NSOOB       = "jabber:x:oob"                          // XEP-0066
	NSFallback  = "urn:xmpp:fallback:0"                   // XEP-0428
	nsReference = "urn:xmpp:reference:0"                  // XEP-0372
	nsSIMS      = "urn:xmpp:sims:1"                       // XEP-0385
	nsFile      = "urn:xmpp:jingle:apps:file-transfer:5"  // XEP-0234
	nsHashes    = "urn:xmpp:hashes:2"                     // XEP-0300
)

var (
	markers = []string{"markable", "received", "displayed", "acknowledged"}
	states  = []string{"active", "inactive", "gone", "composing", "paused"}
	hints   = []string{"store", "no-store", "no-permanent-store", "no-copy"}
)
