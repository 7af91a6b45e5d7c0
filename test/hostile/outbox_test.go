package hostile

import (
	"context"
	"strings"
	"testing"

	"trivium/core/c2s"
	"trivium/core/jid"
	"trivium/core/router"
	"trivium/core/stanza"
	"trivium/test/harness"
)

// A message larger than the outbox ended the session that it was for, was kept as
// an offline message for it, and ended the next session too, for ever.
func TestMessageLargerThanOutbox(t *testing.T) {
	s := start(t, harness.Options{Sessions: c2s.Options{Outbox: 64 << 10}})
	text := strings.Repeat("x", 200<<10)
	evil := login(t, s, "tcp", "mallory", "evil")
	must(t, evil.Send("<message to='juliet@example.org' type='chat'><body>"+text+"</body></message>"))
	alive(t, evil)
	for _, framing := range harness.Framings {
		juliet := login(t, s, framing, "juliet", "here")
		must(t, juliet.Send("<presence/>"))
		alive(t, juliet)
		if framing == "tcp" {
			wantMessage(t, juliet, text) // offline
		}
		// On its way by another road, which has another limit.
		to := jid.Must(juliet.JID)
		var turn router.Turn
		must(t, s.Core.Router.Send(context.Background(), &turn, stanza.New(stanza.Message, stanza.Chat, jid.Must("mallory@example.org"), to, "",
			stanza.TextEl(stanza.NSClient, "body", text)), nil))
		turn.Flush()
		wantMessage(t, juliet, text)
		alive(t, juliet)
	}
}

// wantMessage reads up to the next message, which must have this body.
func wantMessage(t *testing.T, c *harness.Client, body string) {
	t.Helper()
	for {
		n, err := c.Next()
		must(t, err)
		if n.Name.Local != "message" {
			continue
		}
		if b := n.Child(harness.NSClient, "body"); b == nil || b.Text != body {
			t.Fatalf("want %.40s, got %.200s", body, n)
		}
		return
	}
}
