package archive_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"trivium/core/jid"
	"trivium/core/mod/archive"
	"trivium/core/mod/modtest"
	"trivium/core/stanza"
)

// entry is a message as the model has it.
type entry struct {
	id       string
	at       time.Time
	name     string
	from, to jid.JID
	body     string
}

// model is an archive as the XEPs describe one: a list in the order of arrival.
type model struct {
	owner   jid.JID
	entries []entry
}

// wish is one query.
type wish struct {
	with               string
	start, end         time.Time
	afterID, beforeID  string
	ids                []string
	words              []string
	max                int // -1: not said
	after              string
	before             string
	backwards, flipped bool
}

func (w wish) String() string {
	return fmt.Sprintf("with %q, start %v, end %v, after-id %q, before-id %q, ids %q, words %q, max %d, after %q, before %q, backwards %v, flipped %v",
		w.with, w.start, w.end, w.afterID, w.beforeID, w.ids, w.words, w.max, w.after, w.before, w.backwards, w.flipped)
}

// matches is XEP-0313 §4.1.1: a bare address means all its resources, and the
// account's own bare address only what it sent to itself.
func (m *model) matches(e entry, with string) bool {
	if with == "" {
		return true
	}
	j := jid.Must(with)
	is := func(a jid.JID) bool { return a == j || j.IsBare() && a.Bare() == j }
	if j == m.owner {
		return is(e.from) && is(e.to)
	}
	return is(e.from) || is(e.to)
}

func (m *model) place(id string) int {
	return slices.IndexFunc(m.entries, func(e entry) bool { return e.id == id })
}

// answer is what the query should get; found is false for item-not-found.
func (m *model) answer(w wish, limit int) (page []entry, complete, found bool) {
	for _, id := range append([]string{w.afterID, w.beforeID, w.after, w.before}, w.ids...) {
		if id != "" && m.place(id) < 0 {
			return nil, false, false
		}
	}
	var all []entry
	for i, e := range m.entries {
		switch {
		case !m.matches(e, w.with),
			!w.start.IsZero() && e.at.Before(w.start), !w.end.IsZero() && e.at.After(w.end),
			w.afterID != "" && i <= m.place(w.afterID), w.beforeID != "" && i >= m.place(w.beforeID),
			w.after != "" && i <= m.place(w.after), w.before != "" && i >= m.place(w.before),
			w.ids != nil && !slices.Contains(w.ids, e.id),
			slices.ContainsFunc(w.words, func(x string) bool { return !slices.Contains(strings.Fields(e.body), x) }):
			continue
		}
		all = append(all, e)
	}
	if w.max >= 0 {
		limit = w.max
	}
	complete = len(all) <= limit
	switch {
	case complete:
	case w.backwards:
		all = all[len(all)-limit:]
	default:
		all = all[:limit]
	}
	return all, complete, true
}

// ask puts the query to the server.
func (w wish) ask(t testing.TB, c *modtest.Client) answer {
	fields := ""
	add := func(name, value string) {
		if value != "" {
			fields += field(name, value)
		}
	}
	add("with", w.with)
	if !w.start.IsZero() {
		add("start", w.start.Format(time.RFC3339Nano))
	}
	if !w.end.IsZero() {
		add("end", w.end.Format(time.RFC3339Nano))
	}
	add("after-id", w.afterID)
	add("before-id", w.beforeID)
	if w.ids != nil {
		fields += field("ids", w.ids...)
	}
	add("{urn:xmpp:fulltext:0}fulltext", strings.Join(w.words, " "))
	rsm := ""
	if w.max >= 0 {
		rsm += fmt.Sprintf("<max>%d</max>", w.max)
	}
	if w.after != "" {
		rsm += "<after>" + w.after + "</after>"
	}
	if w.backwards {
		rsm += "<before>" + w.before + "</before>"
	}
	rest := set(rsm)
	if w.flipped {
		rest += "<flip-page/>"
	}
	return ask(t, c, fields, rest)
}

var vocabulary = []string{"alpha", "beta", "gamma", "delta"}

// build sends and receives messages and reads the ids and stamps that they got.
func build(rt *rapid.T, t *testing.T, s *modtest.Server, limit int) (*model, *modtest.Client) {
	me, here := jid.Must("juliet@example.com"), s.Connect(chamber)
	m := &model{owner: me}
	peers := []string{"romeo@example.net/orchard", "romeo@example.net/garden", "nurse@example.com/x", "romeo@example.network/x"}
	clients := map[string]*modtest.Client{}
	for _, p := range peers {
		clients[p] = s.Connect(p)
		clients[p].Discard()
	}
	here.Send(`<presence/>`)
	n := rapid.IntRange(0, 60).Draw(rt, "messages")
	for i := range n {
		e := entry{name: fmt.Sprintf("m%d", i), body: strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(vocabulary), 1, 3, rapid.ID[string]).Draw(rt, "body"), " ")}
		peer := rapid.SampledFrom(peers).Draw(rt, "peer")
		say := func(c *modtest.Client, to string) {
			e.from, e.to = c.JID, jid.Must(to)
			c.Send(`<message to='` + to + `' type='chat' id='` + e.name + `'><body>` + e.body + `</body></message>`)
		}
		switch rapid.IntRange(0, 9).Draw(rt, "way") {
		case 0:
			say(here, me.String())
		case 1, 2, 3:
			say(here, rapid.SampledFrom([]string{peer, jid.Must(peer).Bare().String()}).Draw(rt, "to"))
		default:
			say(clients[peer], rapid.SampledFrom([]string{chamber, me.String()}).Draw(rt, "to"))
		}
		m.entries = append(m.entries, e)
		if rapid.IntRange(0, 3).Draw(rt, "pause") == 0 {
			s.Advance(time.Duration(rapid.IntRange(1, 100000).Draw(rt, "time")) * time.Millisecond)
		}
	}
	here.Take()
	last := ""
	for i := 0; i < n; {
		here.Send(`<iq type='set' id='q1'><query xmlns='urn:xmpp:mam:2'>` + set(fmt.Sprintf("<max>%d</max><after>%s</after>", limit, last)) + `</query></iq>`)
		for {
			el, err := stanza.ParseElement(here.Next())
			if err != nil {
				t.Fatal(err)
			}
			if el.Local == "iq" {
				break
			}
			r := el.Child("", "result")
			at, err := time.Parse(time.RFC3339, r.Child("", "forwarded").Child("", "delay").Attr("stamp"))
			if err != nil {
				t.Fatal(err)
			}
			if name := r.Child("", "forwarded").Child("", "message").Attr("id"); name != m.entries[i].name {
				rt.Fatalf("message %d is %s", i, name)
			}
			last = r.Attr("id")
			m.entries[i].id, m.entries[i].at = last, at
			i++
		}
	}
	return m, here
}

// draw makes up a query; most of its conditions are empty.
func draw(rt *rapid.T, m *model) wish {
	some := func(label string) bool { return rapid.IntRange(0, 3).Draw(rt, label) == 0 }
	id := func(label string) string {
		if len(m.entries) == 0 || rapid.IntRange(0, 30).Draw(rt, label+" unknown") == 0 {
			return rapid.SampledFrom([]string{"1", "3676554756299167198", "09af3-cc343-b409f"}).Draw(rt, label)
		}
		return m.entries[rapid.IntRange(0, len(m.entries)-1).Draw(rt, label)].id
	}
	at := func(label string) time.Time {
		if len(m.entries) == 0 {
			return time.Unix(1_000_000_000, 0).UTC()
		}
		shift := rapid.SampledFrom([]time.Duration{0, -1, 1, -time.Microsecond, time.Microsecond, time.Second}).Draw(rt, label+" shift")
		return m.entries[rapid.IntRange(0, len(m.entries)-1).Draw(rt, label)].at.Add(shift)
	}
	w := wish{max: -1}
	if some("with") {
		w.with = rapid.SampledFrom([]string{
			"romeo@example.net", "romeo@example.net/garden", "nurse@example.com", "stranger@example.com", "juliet@example.com", chamber, balcony,
		}).Draw(rt, "with whom")
	}
	if some("start") {
		w.start = at("from")
	}
	if some("end") {
		w.end = at("until")
	}
	if some("after-id") {
		w.afterID = id("behind")
	}
	if some("before-id") {
		w.beforeID = id("in front")
	}
	if some("ids") {
		for range rapid.IntRange(1, 6).Draw(rt, "how many") {
			w.ids = append(w.ids, id("one"))
		}
	}
	if some("words") {
		w.words = rapid.SliceOfNDistinct(rapid.SampledFrom(vocabulary), 1, 2, rapid.ID[string]).Draw(rt, "words")
	}
	if !some("default") {
		w.max = rapid.IntRange(0, 12).Draw(rt, "max")
	}
	switch rapid.IntRange(0, 3).Draw(rt, "where") {
	case 0:
		w.after = id("after")
	case 1:
		w.backwards, w.before = true, id("before")
	case 2:
		w.backwards = true
	}
	w.flipped = some("flip")
	return w
}

// Every query gets what the model says: the messages, their order, whether there
// are more, and the ends of the page.
func TestQueriesAgreeWithModel(t *testing.T) {
	const limit = 7
	rapid.Check(t, func(rt *rapid.T) {
		a := archive.New(archive.Options{Page: limit, PageMax: 20, FullText: true})
		s := modtest.New(t, modules(a)...)
		m, c := build(rt, t, s, 20)
		for range 12 {
			w := draw(rt, m)
			want, complete, found := m.answer(w, limit)
			got := w.ask(t, c)
			if !found {
				if got.err != "item-not-found" {
					rt.Fatalf("%v: %q, want item-not-found", w, got.err)
				}
				continue
			}
			if got.err != "" {
				rt.Fatalf("%v: %s", w, got.err)
			}
			var names []string
			for _, e := range want {
				names = append(names, e.name)
			}
			if len(want) > 0 && (got.first() != want[0].id || got.last() != want[len(want)-1].id) {
				rt.Fatalf("%v: the page goes from %s to %s, want %s to %s", w, got.first(), got.last(), want[0].id, want[len(want)-1].id)
			}
			if w.flipped {
				slices.Reverse(names)
			}
			if !slices.Equal(got.names, names) || got.complete != complete {
				rt.Fatalf("%v:\n got %q complete %v\nwant %q complete %v", w, got.names, got.complete, names, complete)
			}
		}
	})
}
