package kit

import (
	"slices"
	"strconv"
	"strings"

	"trivium/core/xdata"
)

// NSCapabilities is the FORM_TYPE of the form by which a gateway and its contacts
// tell in service discovery what the network can carry (XEP-0128). Its fields:
//
//	max_length    text-single  characters of one message; absent: no limit known
//	edits         boolean      corrections arrive (XEP-0308)
//	retractions   boolean      retractions arrive (XEP-0424)
//	reactions     boolean      reactions arrive (XEP-0444)
//	replies       boolean      references to the message replied to arrive (XEP-0461)
//	typing        boolean      chat states arrive (XEP-0085)
//	receipts      boolean      delivery receipts come back (XEP-0184)
//	markers       boolean      displayed markers come back (XEP-0333)
//	media         text-multi   media types that may be attached, "image/*" among them
//	max_media     text-single  octets of one attachment; absent: no limit known
const NSCapabilities = "urn:x-trivium:gateway#capabilities"

// nsRestrictions is the FORM_TYPE of XEP-0444 §2.2: which reactions are taken.
const nsRestrictions = "urn:xmpp:reactions:0:restrictions"

// Capabilities are what a conversation through a gateway can have.
type Capabilities struct {
	MaxLength   int      `json:"max_length,omitempty" minimum:"0" doc:"Characters of one message; 0: no limit known."`
	Edits       bool     `json:"edits,omitempty" doc:"Corrections arrive (XEP-0308)."`
	Retractions bool     `json:"retractions,omitempty" doc:"Retractions arrive (XEP-0424)."`
	Reactions   bool     `json:"reactions,omitempty" doc:"Reactions arrive (XEP-0444)."`
	Emoji       []string `json:"emoji,omitempty" maxItems:"256" doc:"The only reactions that arrive; empty: any."`
	Replies     bool     `json:"replies,omitempty" doc:"References to the message replied to arrive (XEP-0461)."`
	Typing      bool     `json:"typing,omitempty" doc:"Chat states arrive (XEP-0085)."`
	Receipts    bool     `json:"receipts,omitempty" doc:"Delivery receipts come back (XEP-0184)."`
	Markers     bool     `json:"markers,omitempty" doc:"Displayed markers come back (XEP-0333)."`
	Media       []string `json:"media,omitempty" maxItems:"64" doc:"Media types that may be attached." example:"[\"image/*\",\"audio/ogg\"]"`
	MaxMedia    int64    `json:"max_media,omitempty" minimum:"0" doc:"Octets of one attachment; 0: no limit known."`
}

// IsZero tells whether nothing is said.
func (c Capabilities) IsZero() bool {
	return c.MaxLength == 0 && c.MaxMedia == 0 && len(c.Media) == 0 && len(c.Emoji) == 0 &&
		!c.Edits && !c.Retractions && !c.Reactions && !c.Replies && !c.Typing && !c.Receipts && !c.Markers
}

func (c *Capabilities) check() error {
	switch {
	case c.MaxLength < 0:
		return &DefinitionError{"capabilities.max_length", "is less than 0"}
	case c.MaxMedia < 0:
		return &DefinitionError{"capabilities.max_media", "is less than 0"}
	case len(c.Media) > 64:
		return &DefinitionError{"capabilities.media", "has more than 64 items"}
	case len(c.Emoji) > 256:
		return &DefinitionError{"capabilities.emoji", "has more than 256 items"}
	}
	for i, m := range c.Media {
		major, minor, ok := strings.Cut(m, "/")
		if !ok || major == "" || minor == "" || len(m) > 127 || strings.ContainsAny(m, " \t\r\n;,") {
			return &DefinitionError{"capabilities.media[" + strconv.Itoa(i) + "]", "is not a media type"}
		}
	}
	return nil
}

// flags are the capabilities that are there or not: the name in the form and in JSON, and
// the feature of service discovery that says the same to clients.
func (c *Capabilities) flags() []struct {
	name    string
	on      bool
	feature string
} {
	return []struct {
		name    string
		on      bool
		feature string
	}{
		{"edits", c.Edits, "urn:xmpp:message-correct:0"},
		{"retractions", c.Retractions, "urn:xmpp:message-retract:1"},
		{"reactions", c.Reactions, "urn:xmpp:reactions:0"},
		{"replies", c.Replies, "urn:xmpp:reply:0"},
		{"typing", c.Typing, "http://jabber.org/protocol/chatstates"},
		{"receipts", c.Receipts, "urn:xmpp:receipts"},
		{"markers", c.Markers, "urn:xmpp:chat-markers:0"},
	}
}

// features are what disco#info of a contact lists.
func (c *Capabilities) features() []string {
	var out []string
	for _, f := range c.flags() {
		if f.on {
			out = append(out, f.feature)
		}
	}
	if len(c.Media) > 0 {
		out = append(out, "jabber:x:oob") // XEP-0066 §3: how files are sent by address
	}
	return out
}

// forms are the XEP-0128 extensions of disco#info.
func (c *Capabilities) forms() []*xdata.Form {
	if c.IsZero() {
		return nil
	}
	f := xdata.New(xdata.Result, NSCapabilities)
	number := func(name string, n int64) {
		if n > 0 {
			f.Fields = append(f.Fields, xdata.Field{Var: name, Type: xdata.TextSingle, Values: []string{strconv.FormatInt(n, 10)}})
		}
	}
	number("max_length", int64(c.MaxLength))
	for _, flag := range c.flags() {
		v := "0"
		if flag.on {
			v = "1"
		}
		f.Fields = append(f.Fields, xdata.Field{Var: flag.name, Type: xdata.Boolean, Values: []string{v}})
	}
	if len(c.Media) > 0 {
		f.Fields = append(f.Fields, xdata.Field{Var: "media", Type: xdata.TextMulti, Values: slices.Clone(c.Media)})
	}
	number("max_media", c.MaxMedia)
	forms := []*xdata.Form{f}
	if c.Reactions && len(c.Emoji) > 0 {
		forms = append(forms, xdata.New(xdata.Result, nsRestrictions,
			xdata.Field{Var: "allowlist", Type: xdata.TextMulti, Values: slices.Clone(c.Emoji)}))
	}
	return forms
}
