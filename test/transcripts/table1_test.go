package transcripts

import (
	"fmt"
	"strings"
	"testing"

	"trivium/test/harness"
)

// Outcomes of RFC 6121 Table 1 (§8.5.4). Where the table leaves a choice, ours is
// in the comment of the row.
const (
	offline  = 'O' // stored, delivered to the next resource with a priority of 0 or more
	bounced  = 'E' // service-unavailable
	silent   = 'S' // ignored
	directed = 'D' // to the resource named in 'to', or the only one there is
	most     = 'M' // to the resources of the highest priority
	all      = 'A' // to all resources with a priority of 0 or more
)

// kinds are the columns of the table, with the type "error" of §8.5.2.1.1 and
// §8.5.3.2.1 and an unknown type, which is normal (§5.2.2).
var kinds = []string{"normal", "chat", "groupchat", "headline", "error", "unknown"}

// table is RFC 6121 Table 1, one letter for each of kinds.
var table = []struct{ condition, to, want string }{
	// Account does not exist. S/E S/E E S, then S/E S/E S/E S/E; ours are E.
	{"nobody", "nobody@example.org", "EEESSE"},
	{"nobody", "nobody@example.org/garden", "EEEESE"},
	// Account exists, but no active resources. O/E O/E E S: O; S/E O/E S/E S/E: E, O for chat.
	{"away", "away@example.org", "OOESSO"},
	{"away", "away@example.org/garden", "EOEESE"},
	// 1+ negative resources but zero non-negative ones. The same choices.
	{"negative", "negative@example.org", "OOESSO"},
	{"negative", "negative@example.org/n", "DDDDDD"},
	{"negative", "negative@example.org/garden", "EOEESE"},
	// 1 non-negative resource. D D E D, D D D D, then S/E D S/E S/E: E.
	{"single", "single@example.org", "DDEDSD"},
	{"single", "single@example.org/s", "DDDDDD"},
	{"single", "single@example.org/garden", "EDEESE"},
	// 1+ non-negative resources. M/A M/A E A: M; D D/A D D: D; S/E M/A S/E S/E: E, M for chat.
	{"several", "several@example.org", "MMEASM"},
	{"several", "several@example.org/low", "DDDDDD"},
	{"several", "several@example.org/garden", "EMEESE"},
}

const unavailable = "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"

// TestTable1 sends every kind of message under every condition to every form of
// address. Each client then finds what is due to it, in order, and nothing else.
func TestTable1(t *testing.T) {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("account away@example.org")
	say("romeo connects romeo@example.org/orchard")
	say("n     connects negative@example.org/n      priority -1")
	say("s     connects single@example.org/s        priority 1")
	say("high  connects several@example.org/high    priority 5")
	say("also  connects several@example.org/also    priority 5")
	say("low   connects several@example.org/low     priority 0")
	say("below connects several@example.org/below   priority -1")

	stored := map[string][]string{}
	for i, row := range table {
		if len(row.want) != len(kinds) {
			t.Fatalf("row %d has %d columns", i, len(row.want))
		}
		for k, kind := range kinds {
			id := fmt.Sprintf("m%d-%s", i, kind)
			typ, payload := " type='"+kind+"'", "<body>Wherefore art thou?</body>"
			switch kind {
			case "normal":
				typ = ""
			case "error":
				payload = unavailable
			}
			say("romeo > <message id='%s' to='%s'%s>%s</message>", id, row.to, typ, payload)
			// 'to' is never rewritten (§8.5.2.1.1).
			got := fmt.Sprintf("<message id='%s' from='romeo@example.org/orchard' to='%s'%s>%s</message>", id, row.to, typ, payload)
			var to []string
			switch row.want[k] {
			case bounced:
				say("romeo < <message id='%s' from='%s' to='romeo@example.org/orchard' type='error'>%s</message>", id, row.to, unavailable)
			case offline:
				// XEP-0160 §3 and XEP-0203: what was stored tells when.
				got = strings.Replace(got, "</message>", "<delay xmlns='urn:xmpp:delay' from='example.org' stamp='*'>*</delay></message>", 1)
				stored[row.condition] = append(stored[row.condition], got)
			case directed:
				to = map[string][]string{"negative": {"n"}, "single": {"s"}, "several": {"low"}}[row.condition]
			case most:
				to = []string{"high", "also"}
			case all:
				to = []string{"high", "also", "low"}
			case silent:
			default:
				t.Fatalf("row %d: %c", i, row.want[k])
			}
			for _, who := range to {
				say("%s < %s", who, got)
			}
		}
	}
	for _, who := range []string{"romeo", "n", "s", "high", "also", "low", "below"} {
		say("%s quiet", who)
	}
	// A negative resource gets stored messages when it is negative no more.
	say("away connects away@example.org/back")
	say("n > <presence/>")
	say("n < <presence from='negative@example.org/n' to='negative@example.org/n'/>")
	for who, condition := range map[string]string{"away": "away", "n": "negative"} {
		for _, got := range stored[condition] {
			say("%s < %s", who, got)
		}
		say("%s quiet", who)
	}
	script, err := harness.ParseScript("table 1", b.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, framing := range harness.Framings {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			script.Run(t, framing)
		})
	}
	t.Run("archived", func(t *testing.T) {
		t.Parallel()
		script.Archived().Run(t, "tcp")
	})
}
