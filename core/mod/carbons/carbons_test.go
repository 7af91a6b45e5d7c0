package carbons_test

import (
	"strings"
	"testing"

	"trivium/core/mod/archive"
	"trivium/core/mod/carbons"
	"trivium/core/mod/modtest"
	"trivium/core/module"
	"trivium/core/stanza"
)

// XEP-0386 §4.2: <enable/> inside of <bind/> switches carbons on, with no response;
// nothing else in that namespace does.
func TestInline(t *testing.T) {
	s := modtest.New(t, carbons.New())
	if got := s.Host.InlineFeatures(); len(got) != 1 || got[0] != carbons.NS {
		t.Fatalf("announced %q", got)
	}
	on, off := s.Connect("juliet@example.org/on"), s.Connect("juliet@example.org/off")
	balcony, romeo := s.Connect("juliet@example.org/balcony"), s.Connect("romeo@example.net/orchard")
	var turn module.Turn
	for c, local := range map[*modtest.Client]string{on: "enable", off: "disable"} {
		if p, err := s.Host.SwitchOn(t.Context(), c.Session, &turn, stanza.El(carbons.NS, local)); p != nil || err != nil {
			t.Errorf("%s: %v, %v", local, p, err)
		}
	}
	romeo.Send(`<message to='juliet@example.org/balcony' type='chat'><body>hist</body></message>`)
	balcony.Next()
	if got := on.Next(); !strings.Contains(got, "<received xmlns='urn:xmpp:carbons:2'>") {
		t.Errorf("got %s", got)
	}
	off.Quiet()
}

// XEP-0313 §3.5: a copy of what was sent has the id of the sender's archive, which
// the recipient does not learn.
func TestSentWithArchiveID(t *testing.T) {
	s := modtest.New(t, archive.New(archive.Options{}), carbons.New())
	garden, balcony := s.Connect("juliet@example.org/garden"), s.Connect("juliet@example.org/balcony")
	romeo := s.Connect("romeo@example.org/orchard")
	garden.Send(`<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>`).Take()
	balcony.Send(`<message to='romeo@example.org/orchard' type='chat'><body>hist</body></message>`)
	const own, other = "by='juliet@example.org'", "by='romeo@example.org'"
	if got := garden.Next(); !strings.Contains(got, "<sent ") || !strings.Contains(got, own) || strings.Contains(got, other) {
		t.Errorf("the copy is %s", got)
	}
	if got := romeo.Next(); strings.Contains(got, own) || !strings.Contains(got, other) {
		t.Errorf("the recipient got %s", got)
	}
}
