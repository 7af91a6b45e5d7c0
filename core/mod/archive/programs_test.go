package archive_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"trivium/core/jid"
	"trivium/core/mod/archive"
	"trivium/core/rsm"
	"trivium/core/stanza"
)

// XEP-0313 §4, §5: programs get the pages that clients get.
func TestPrograms(t *testing.T) {
	s, m := start(t, archive.Options{FullText: true, PageMax: 4})
	juliet := s.Connect(chamber)
	account := jid.Must("juliet@example.com")
	var times []time.Time
	for i := range 9 {
		to := orchard
		if i%3 == 0 {
			to = "nurse@example.com/x"
		}
		s.Advance(time.Second)
		times = append(times, s.Now())
		send(juliet, to, fmt.Sprintf("m%d", i))
	}
	ids := ask(t, juliet, "", "").ids
	ids = append(ids, ask(t, juliet, "", set("<after>"+ids[3]+"</after>")).ids...)
	ids = append(ids, ask(t, juliet, "", set("<after>"+ids[7]+"</after>")).ids...)
	if len(ids) != 9 {
		t.Fatal(ids)
	}
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	for _, tt := range []struct {
		name         string
		q            archive.Query
		fields, rest string
	}{
		{"all", archive.Query{}, "", ""},
		{"behind", archive.Query{Page: rsm.Request{After: ids[3]}}, "", set("<after>" + ids[3] + "</after>")},
		{"last", archive.Query{Page: rsm.Request{Backwards: true, Max: 2, HasMax: true}}, "", set("<max>2</max><before/>")},
		{
			"in front",
			archive.Query{Page: rsm.Request{Backwards: true, Before: ids[5], Max: 3, HasMax: true}},
			"",
			set("<max>3</max><before>" + ids[5] + "</before>"),
		},
		{"flipped", archive.Query{Flip: true}, "", "<flip-page/>"},
		{"with", archive.Query{With: jid.Must("nurse@example.com")}, field("with", "nurse@example.com"), ""},
		{"with a resource", archive.Query{With: jid.Must("nurse@example.com/y")}, field("with", "nurse@example.com/y"), ""},
		{
			"times",
			archive.Query{Start: times[2], End: times[4]},
			field("start", day(times[2])) + field("end", day(times[4])), "",
		},
		{"bounds", archive.Query{After: ids[1], Before: ids[4]}, field("after-id", ids[1]) + field("before-id", ids[4]), ""},
		{"single", archive.Query{IDs: []string{ids[6], ids[2]}}, field("ids", ids[6], ids[2]), ""},
		{"text", archive.Query{Text: "m4"}, field("{urn:xmpp:fulltext:0}fulltext", "m4"), ""},
		{"count", archive.Query{Page: rsm.Request{HasMax: true}}, "", set("<max>0</max>")},
		{"index", archive.Query{Page: rsm.Request{HasIndex: true}}, "", set("<index>1</index>")},
		{"unknown id", archive.Query{Page: rsm.Request{After: "1"}}, "", set("<after>1</after>")},
		{"malformed id", archive.Query{Before: "x"}, field("before-id", "x"), ""},
		{"too many ids", archive.Query{IDs: ids}, field("ids", ids...), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := ask(t, juliet, tt.fields, tt.rest)
			got, err := m.Query(t.Context(), account, tt.q)
			if want.err != "" {
				var e *stanza.Error
				if !errors.As(err, &e) || string(e.Condition) != want.err {
					t.Errorf("%v, want %s", err, want.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var is, names []string
			for _, it := range got.Items {
				is, names = append(is, it.ID), append(names, it.Stanza.ID)
				if i := slices.Index(ids, it.ID); !it.Sent || it.Time.Truncate(time.Second) != times[i].UTC().Truncate(time.Second) {
					t.Errorf("%+v, want a message sent at %v", it, times[i])
				}
			}
			if !slices.Equal(is, want.ids) || !slices.Equal(names, want.names) || got.Complete != want.complete {
				t.Errorf("got %v %v, want %v %v", names, got.Complete, want.names, want.complete)
			}
			set := want.fin.Child(rsm.NS, "set")
			if got.First != set.ChildText(rsm.NS, "first") || got.Last != set.ChildText(rsm.NS, "last") {
				t.Errorf("%+v, want %s", got.Page, set)
			}
			if count := set.ChildText(rsm.NS, "count"); got.HasCount != (count != "") || got.HasCount && fmt.Sprint(got.Count) != count {
				t.Errorf("%+v, want %s", got.Page, set)
			}
		})
	}

	other, err := m.Query(t.Context(), jid.Must("nobody@example.com"), archive.Query{})
	if err != nil || len(other.Items) != 0 || !other.Complete {
		t.Errorf("an account without an archive: %+v, %v", other, err)
	}
	got, err := m.Query(t.Context(), jid.Must("nurse@example.com"), archive.Query{})
	if err != nil || len(got.Items) != 3 || got.Items[0].Sent {
		t.Errorf("who has got messages: %+v, %v", got, err)
	}
}

// Without full-text search it is said so, rather than all be returned.
func TestProgramsWithoutSearch(t *testing.T) {
	_, m := start(t, archive.Options{})
	_, err := m.Query(t.Context(), jid.Must("juliet@example.com"), archive.Query{Text: "love"})
	var e *stanza.Error
	if !errors.As(err, &e) || e.Condition != stanza.FeatureNotImplemented {
		t.Error(err)
	}
}
