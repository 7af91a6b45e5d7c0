package archive_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"trivium/core/mod/archive"
	"trivium/core/mod/modtest"
)

// rows is how many rows there are of everything.
func rows(t testing.TB, s *modtest.Server) (messages, entries, texts int) {
	t.Helper()
	settle(t, s)
	err := s.Store.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM archive_message), (SELECT count(*) FROM archive_entry),
		(SELECT count(*) FROM archive_text)`).Scan(&messages, &entries, &texts)
	if err != nil {
		t.Fatal(err)
	}
	return messages, entries, texts
}

func sweep(t testing.TB, m *archive.Module) {
	t.Helper()
	if err := m.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// XEP-0313 §3.2: what is deleted is the oldest, and its ids are unknown then.
func TestMaxAge(t *testing.T) {
	s, m := start(t, archive.Options{MaxAge: 24 * time.Hour, FullText: true})
	juliet := s.Connect(chamber)
	search := field("{urn:xmpp:fulltext:0}fulltext", "m7")
	for i := range 450 { // several operations
		send(juliet, orchard, fmt.Sprintf("m%d", i))
	}
	old := ask(t, juliet, search, set(`<max>3</max>`))
	old.want(t, false, "m7", "m70", "m71")
	s.Advance(23 * time.Hour)
	send(juliet, orchard, "new")
	sweep(t, m)
	ask(t, juliet, "", set(`<max>1</max>`)).want(t, false, "m0")
	s.Advance(2 * time.Hour)
	sweep(t, m)
	ask(t, juliet, "", "").want(t, true, "new")
	ask(t, juliet, search, "").want(t, true)
	for _, a := range []answer{ask(t, juliet, "", set(`<after>`+old.ids[0]+`</after>`)), ask(t, juliet, field("ids", old.ids[0]), "")} {
		if a.err != "item-not-found" {
			t.Errorf("an id that is gone: %q", a.err)
		}
	}
	if a, b, c := rows(t, s); a != 2 || b != 2 || c != 1 { // in both archives; searched for in one
		t.Errorf("%d messages, %d entries, %d texts are left", a, b, c)
	}
	if n := m.Stats.Expired.Load(); n != 900 {
		t.Errorf("%d expired", n)
	}
}

// Accounts are looked at one by one; what has been counted is not counted again.
func TestMaxBytes(t *testing.T) {
	const max = 50_000
	s, m := start(t, archive.Options{MaxBytes: max})
	juliet, romeo := s.Connect(chamber), online(s, orchard)
	romeo.Send(`<iq type='set' id='p'>` + prefs("never", "", "") + `</iq>`)
	n := 0
	fill := func(times int) {
		for range times {
			juliet.Send(fmt.Sprintf(`<message to='%s' type='chat' id='m%d'><body>%s</body></message>`, orchard, n, strings.Repeat("x", 900)))
			n++
		}
	}
	size := func() (sum, counted int) {
		settle(t, s)
		err := s.Store.QueryRow(t.Context(), `SELECT (SELECT sum(length(stanza)) FROM archive_message WHERE account = num), bytes
			FROM archive_account WHERE jid = 'juliet@example.com'`).Scan(&sum, &counted)
		if err != nil {
			t.Fatal(err)
		}
		return sum, counted
	}
	fill(20)
	sweep(t, m)
	if sum, counted := size(); sum != counted || m.Stats.Expired.Load() != 0 {
		t.Errorf("%d octets, %d counted, %d expired", sum, counted, m.Stats.Expired.Load())
	}
	for _, more := range []int{300, 10, 0} {
		fill(more)
		sweep(t, m)
		sum, counted := size()
		if sum != counted || sum > max || sum < max-1100 {
			t.Errorf("%d octets, %d counted, want nearly %d", sum, counted, max)
		}
		a := ask(t, juliet, "", set(`<before/><max>1</max>`))
		a.want(t, false, fmt.Sprintf("m%d", n-1))
	}
	// The oldest went, without holes.
	kept := ask(t, juliet, "", set(`<max>250</max>`))
	for i, name := range kept.names {
		if name != fmt.Sprintf("m%d", n-len(kept.names)+i) {
			t.Fatalf("%s is at %d", name, i)
		}
	}
	// A tombstone takes less room.
	juliet.Send(fmt.Sprintf(`<message to='%s' type='chat' id='r'><retract xmlns='urn:xmpp:message-retract:1' id='m%d'/></message>`, orchard, n-1))
	for m.Stats.Tombstones.Load() == 0 {
		settle(t, s)
	}
	sweep(t, m)
	if sum, counted := size(); sum != counted {
		t.Errorf("%d octets, %d counted", sum, counted)
	}
}

// Nothing is left of a removed account, and who registers its name again gets an
// empty archive.
func TestRemoved(t *testing.T) {
	s, m := start(t, archive.Options{FullText: true})
	juliet := s.Connect(chamber)
	for i := range 300 {
		send(juliet, orchard, fmt.Sprintf("m%d", i))
	}
	setPrefs(juliet, prefs("roster", "<jid>romeo@example.net</jid>", ""))
	ask(t, juliet, field("{urn:xmpp:fulltext:0}fulltext", "m1"), set(`<max>0</max>`)).want(t, false)
	juliet.Close()
	s.Remove("juliet@example.com")
	juliet = s.Connect(chamber)
	ask(t, juliet, "", "").want(t, true)
	for { // in the background, soon
		if a, b, c := rows(t, s); a == 300 && b == 300 && c == 0 { // romeo's
			break
		}
	}
	send(juliet, orchard, "again")
	ask(t, juliet, "", "").want(t, true, "again")
	ask(t, juliet, field("{urn:xmpp:fulltext:0}fulltext", "m1"), "").want(t, true)
	ask(t, s.Connect(orchard), "", set(`<max>1</max>`)).want(t, false, "m0")
	var gone int
	s.Advance(48 * time.Hour)
	sweep(t, m)
	if err := s.Store.QueryRow(t.Context(), `SELECT count(*) FROM archive_gone`).Scan(&gone); err != nil || gone != 0 {
		t.Errorf("%d removed accounts are remembered, %v", gone, err)
	}
}
