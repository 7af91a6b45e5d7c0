package archive_test

import (
	"strings"
	"testing"

	"trivium/core/mod/archive"
	"trivium/core/mod/modtest"
)

func retract(to, target string) string {
	return `<message type='chat' to='` + to + `' id='retraction'>` +
		`<retract id='` + target + `' xmlns='urn:xmpp:message-retract:1'/>` +
		`<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:message-retract:1'/>` +
		`<body>/me retracted a previous message, but it's unsupported by your client.</body><store xmlns='urn:xmpp:hints'/></message>`
}

// tombs waits until n messages have become tombstones.
func tombs(t testing.TB, s *modtest.Server, m *archive.Module, n int64) {
	t.Helper()
	for m.Stats.Tombstones.Load() < n {
		settle(t, s)
	}
}

// contents returns what an archive has.
func contents(t testing.TB, c *modtest.Client) string {
	t.Helper()
	c.Send(`<iq type='set' id='q1'><query xmlns='urn:xmpp:mam:2'/></iq>`)
	var b strings.Builder
	for {
		x := c.Next()
		if strings.HasPrefix(x, "<iq") {
			return b.String()
		}
		b.WriteString(x)
	}
}

// XEP-0424 §5: only who has sent a message can take it back, in the conversation
// where it was said.
func TestRetractionsOfOthers(t *testing.T) {
	s, m := start(t, archive.Options{})
	juliet, romeo := s.Connect(chamber), s.Connect(orchard)
	nurse := s.Connect("nurse@example.com/x")
	send(romeo, "juliet@example.com", "one")
	send(juliet, "romeo@example.net", "two")
	nurse.Send(retract("juliet@example.com", "one"))                                             // another's
	juliet.Send(retract("romeo@example.net", "one"))                                             // the other side's
	romeo.Send(retract("nurse@example.com", "one"))                                              // elsewhere
	romeo.Send(retract("juliet@example.com", "none"))                                            // not there
	juliet.Send(strings.Replace(retract("romeo@example.net", "two"), " id='retraction'", "", 1)) // nameless: a tombstone could not name it
	romeo.Send(retract("juliet@example.com", "retraction"))                                      // a retraction
	// One that counts, behind all those that do not.
	send(romeo, "juliet@example.com", "three")
	romeo.Send(retract("juliet@example.com", "three"))
	tombs(t, s, m, 2)
	for _, c := range []*modtest.Client{juliet, romeo} {
		c.Take()
		got := contents(t, c)
		for name, want := range map[string]bool{"one": true, "two": true, "three": false} {
			if strings.Contains(got, "<body>"+name+"</body>") != want {
				t.Errorf("%s: %s is there: %v", c.JID, name, !want)
			}
		}
		if n := strings.Count(got, "<retracted "); n != 1 {
			t.Errorf("%s: %d tombstones in %s", c.JID, n, got)
		}
	}
	if n := m.Stats.Tombstones.Load(); n != 2 {
		t.Errorf("%d tombstones", n)
	}
}

// Any resource of the sender may, for a message to any resource.
func TestRetractionByAnotherResource(t *testing.T) {
	s, m := start(t, archive.Options{})
	send(s.Connect(orchard), balcony, "m")
	s.Connect(garden).Send(retract("juliet@example.com", "m"))
	tombs(t, s, m, 1) // the message to a resource that is not there is an offline message
	if got := contents(t, s.Connect(chamber)); strings.Contains(got, "<body>m</body>") {
		t.Error(got)
	}
}

// What was retracted cannot be found any more.
func TestRetractionAndSearch(t *testing.T) {
	s, m := start(t, archive.Options{FullText: true})
	romeo := s.Connect(orchard)
	send(romeo, "juliet@example.com", "secret")
	find := field("{urn:xmpp:fulltext:0}fulltext", "secret")
	ask(t, romeo, find, "").want(t, true, "secret")
	romeo.Send(retract("juliet@example.com", "secret"))
	tombs(t, s, m, 2)
	ask(t, romeo, find, "").want(t, true)
	ask(t, s.Connect(chamber), find, "").want(t, true) // indexed only now
}
