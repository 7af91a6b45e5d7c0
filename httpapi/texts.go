package httpapi

import "github.com/danielgtaylor/huma/v2"

// Texts of a form that the document names. As members of lists they are checked one
// by one.
type (
	// Scope is a scope of a token.
	Scope string
	// Domain is a domain.
	Domain string
	// Address is a JID.
	Address string
	// Pattern covers addresses: see jid.ParsePattern.
	Pattern string
	// Key is a key that signs, or the id of one.
	Key string
	// EventID is the id of an event.
	EventID string
)

func textSchema(format, pattern string, example any) *huma.Schema {
	one := 1
	s := &huma.Schema{Type: huma.TypeString, Format: format, Pattern: pattern, MinLength: &one}
	if example != nil {
		s.Examples = []any{example}
	}
	s.PrecomputeMessages()
	return s
}

// Schema implements huma.SchemaProvider.
func (Scope) Schema(huma.Registry) *huma.Schema {
	return textSchema("xmpp-scope", "", "read:example.org")
}

// Schema implements huma.SchemaProvider.
func (Domain) Schema(huma.Registry) *huma.Schema {
	return textSchema("xmpp-domain", "", "sms.example.org")
}

// Schema implements huma.SchemaProvider.
func (Address) Schema(huma.Registry) *huma.Schema {
	return textSchema("xmpp-jid", "", "juliet@example.org")
}

// Schema implements huma.SchemaProvider.
func (Pattern) Schema(huma.Registry) *huma.Schema {
	return textSchema("xmpp-pattern", "", "juliet@example.org")
}

// Schema implements huma.SchemaProvider.
func (Key) Schema(huma.Registry) *huma.Schema { return textSchema("webhook-key", "", nil) }

// Schema implements huma.SchemaProvider.
func (EventID) Schema(huma.Registry) *huma.Schema {
	return textSchema("event-id", `^evt_[0-9a-z]{1,12}$`, "evt_hx2p3kd8m0")
}

// plain returns the texts as they are.
func plain[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}
