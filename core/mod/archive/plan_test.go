package archive

import (
	"strings"
	"testing"

	"trivium/core/jid"
	"trivium/core/mod/modtest"
	"trivium/core/store"
)

// A page is read along one index, from one end of its range: nothing is sorted and
// no table is gone through.
func TestPlans(t *testing.T) {
	m := New(Options{FullText: true})
	s := modtest.New(t, m)
	peer := newWith(jid.Must("romeo@example.net"), jid.Must("juliet@example.com"))
	for _, q := range []*query{
		{}, {backwards: true}, {with: peer}, {with: peer, backwards: true}, {words: []string{"a"}}, {words: []string{"a"}, backwards: true},
	} {
		f := finder{m: m, num: 1, q: q, hi: 1 << 62}
		statement, args := f.statement()
		explain(t, s.Store, statement, append(args, 51)...)
	}
	for _, statement := range []string{
		`SELECT 1 FROM archive_entry WHERE account = 1 AND id = 1`,
		`SELECT count(*) FROM archive_entry WHERE account = 1 AND id > 1 AND id < 9 AND peer = 1`,
		`SELECT stanza FROM archive_message WHERE id = 1 AND account = 1`,
		`SELECT account, id, length(stanza) FROM archive_message WHERE id < 1 ORDER BY id LIMIT 1`,
		`SELECT account, id, size FROM archive_entry WHERE account = 1 ORDER BY id LIMIT 1`,
		`SELECT num FROM archive_account a WHERE num > 1 AND EXISTS (SELECT 1 FROM archive_entry e WHERE e.account = a.num AND e.id > a.counted) ORDER BY num LIMIT 1`,
		`SELECT (SELECT coalesce(min(id), 0) FROM archive_entry WHERE account = 1), (SELECT coalesce(max(id), 0) FROM archive_entry WHERE account = 1)`,
	} {
		explain(t, s.Store, statement)
	}
}

func explain(t *testing.T, db *store.DB, statement string, args ...any) {
	t.Helper()
	rows, err := db.Query(t.Context(), `EXPLAIN QUERY PLAN `+statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		virtual := strings.HasPrefix(step, "SCAN t VIRTUAL TABLE INDEX") || step == "SCAN CONSTANT ROW"
		if strings.Contains(step, "TEMP B-TREE") || strings.HasPrefix(step, "SCAN") && !virtual {
			t.Errorf("%s\n%s", step, statement)
		}
	}
	if n == 0 {
		t.Errorf("no plan for %s", statement)
	}
}
