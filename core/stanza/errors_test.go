package stanza

import (
	"errors"
	"io"
	"testing"

	"trivium/core/jid"
)

// The conditions of RFC 6120 §8.3.3.1 to §8.3.3.22 with the type that each clause
// recommends: "the associated error type SHOULD be ...". Where it names two the
// first is meant; where it names none it is cancel.
func TestDefaultErrorTypes(t *testing.T) {
	for condition, want := range map[string]string{
		"bad-request":             "modify",
		"conflict":                "cancel",
		"feature-not-implemented": "cancel",
		"forbidden":               "auth",
		"gone":                    "cancel",
		"internal-server-error":   "cancel",
		"item-not-found":          "cancel",
		"jid-malformed":           "modify",
		"not-acceptable":          "modify",
		"not-allowed":             "cancel",
		"not-authorized":          "auth",
		"policy-violation":        "modify",
		"recipient-unavailable":   "wait",
		"redirect":                "modify",
		"registration-required":   "auth",
		"remote-server-not-found": "cancel",
		"remote-server-timeout":   "wait",
		"resource-constraint":     "wait",
		"service-unavailable":     "cancel",
		"subscription-required":   "auth",
		"undefined-condition":     "cancel",
		"unexpected-request":      "wait",
	} {
		e := &Error{Condition: Condition(condition)}
		if got := string(e.ErrType()); got != want {
			t.Errorf("%s: %s, want %s", condition, got, want)
		}
		e.Type = Continue
		if e.ErrType() != Continue {
			t.Errorf("%s: the type given does not count", condition)
		}
	}
}

func TestErrorXML(t *testing.T) {
	const ns = " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'"
	for _, tt := range []struct {
		e    Error
		want string
	}{
		// RFC 6120 §8.3.2: 'by', and the text behind the condition.
		{
			Error{Condition: NotAllowed, By: jid.Must("example.com"), Text: "<no>"},
			"<error type='cancel' by='example.com'><not-allowed" + ns + "/><text" + ns + ">&lt;no&gt;</text></error>",
		},
		// §8.3.3.5, §8.3.3.14: the new address is the condition's text.
		{
			Error{Condition: Gone, Alternate: "xmpp:romeo@afterlife.example.net"},
			"<error type='cancel'><gone" + ns + ">xmpp:romeo@afterlife.example.net</gone></error>",
		},
		{
			Error{Condition: Redirect, Alternate: "xmpp:a?b&c"},
			"<error type='modify'><redirect" + ns + ">xmpp:a?b&amp;c</redirect></error>",
		},
		// §8.3.4: an application's own condition comes last.
		{
			Error{Type: Modify, Condition: FeatureNotImplemented, App: El("urn:x", "too-much")},
			"<error type='modify'><feature-not-implemented" + ns + "/><too-much xmlns='urn:x'/></error>",
		},
	} {
		if got := string(tt.e.AppendXML(nil)); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	e := &Error{Condition: Gone, Text: "away", Cause: io.EOF}
	if !errors.Is(e, io.EOF) || e.Error() != "gone: away (EOF)" {
		t.Errorf("as an error: %v", e)
	}
}

func TestErrorReplyKeepsIDAndTurnsAddresses(t *testing.T) {
	romeo, juliet := jid.Must("romeo@example.net/orchard"), jid.Must("juliet@example.com")
	for _, tt := range []struct {
		kind Kind
		typ  string
		want bool
	}{
		{Message, "", true},
		{Message, Chat, true},
		{Message, TypeError, false},
		{Presence, "", true},
		{Presence, Subscribe, true},
		{Presence, TypeError, false},
		{IQ, Get, true},
		{IQ, Set, true},
		{IQ, Result, false},
		{IQ, TypeError, false},  // §8.3.1
		{Message, Result, true}, // which means nothing there
	} {
		got := New(tt.kind, tt.typ, romeo, juliet, "1", El("urn:x", "x")).ErrorReply(Internal())
		if (got != nil) != tt.want {
			t.Errorf("%s of type %q: %v", tt.kind, tt.typ, got)
			continue
		}
		if got != nil && (got.Kind != tt.kind || got.Type != TypeError || got.ID != "1" || got.From != juliet || got.To != romeo || got.Len() != 1) {
			t.Errorf("%s of type %q: %s", tt.kind, tt.typ, got)
		}
	}
}

func TestReadError(t *testing.T) {
	const ns = "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'"
	for _, tt := range []struct {
		error string
		want  Error
	}{
		// RFC 6120 §8.3.2
		{`<error type='cancel'><item-not-found ` + ns + `/><text xml:lang='en' ` + ns + `>Nobody</text></error>`, Error{Type: Cancel, Condition: ItemNotFound, Text: "Nobody"}},
		// §8.3.3.5: the new address is not its name.
		{`<error type='cancel' by='example.net'><gone ` + ns + `>xmpp:romeo@afterlife.example.net</gone></error>`, Error{Type: Cancel, Condition: Gone}},
		// §8.3.4: a condition of an application comes on top.
		{`<error type='auth'><too-many xmlns='urn:x'/><forbidden ` + ns + `/></error>`, Error{Type: Auth, Condition: Forbidden}},
		// What the RFC does not have.
		{`<error type='fatal'><no-such-thing ` + ns + `/></error>`, Error{Condition: UndefinedCondition}},
		{`<error/>`, Error{Condition: UndefinedCondition}},
		{``, Error{Condition: UndefinedCondition}},
	} {
		st, err := ParseDocument([]byte(`<message xmlns='jabber:client' type='error'>` + tt.error + `</message>`))
		if err != nil {
			t.Fatalf("%s: %v", tt.error, err)
		}
		if got := st.ReadError(); *got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.error, *got, tt.want)
		}
	}
}
