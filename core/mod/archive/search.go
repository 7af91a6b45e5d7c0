package archive

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"unicode"

	"trivium/core/stanza"
	"trivium/core/store"
)

// Full-text search, XEP-0431. A message matches when its bodies hold every word
// that is asked for, in any order; a word also matches longer ones that begin with
// it, and case and accents do not count. Words in double quotes must follow each
// other and be whole.
//
// Words are indexed as <number of the account>x<word>. So a search reads the
// entries of its own account and none else, however many accounts search.

// Bounds on one search.
const (
	maxWords    = 16  // that are asked for; a phrase counts as one
	maxWordSize = 128 // octets of a word; what is behind is cut off
)

// indexBatch is how many messages one operation of the store indexes. It keeps
// others waiting for some milliseconds.
const indexBatch = 200

// searchWords splits what is asked for into words and phrases, each a sequence of
// words with spaces between. The result is not nil.
func searchWords(query string) ([]string, error) {
	out := []string{}
	for i, part := range strings.Split(query, `"`) {
		if i%2 == 1 {
			if words := split(part); len(words) > 0 {
				out = append(out, strings.Join(words, " "))
			}
			continue
		}
		for _, chunk := range strings.Fields(part) { // of several words: "e-mail", or in a script without spaces
			if words := split(chunk); len(words) > 0 {
				out = append(out, strings.Join(words, " ")+"*")
			}
		}
	}
	if len(out) > maxWords {
		return nil, stanza.Err(stanza.PolicyViolation, "too many words in one search")
	}
	return out, nil
}

// split returns the words of a text: letters, digits and what combines with them.
// Scripts that are written without spaces give one word for each character.
func split(s string) []string {
	var words []string
	start := -1
	end := func(at int) {
		if start >= 0 {
			words = append(words, cut(s[start:at]))
			start = -1
		}
	}
	for i, r := range s {
		switch {
		case unspaced(r):
			end(i)
			words = append(words, string(r))
		case unicode.IsLetter(r) || unicode.IsNumber(r) || start >= 0 && unicode.IsMark(r):
			if start < 0 {
				start = i
			}
		default:
			end(i)
		}
	}
	end(len(s))
	return words
}

func unspaced(r rune) bool {
	return r >= 0x0E00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) &&
		!unicode.IsMark(r)
}

// cut bounds a word, between characters.
func cut(w string) string {
	if len(w) <= maxWordSize {
		return w
	}
	at := 0
	for i := range w {
		if i > maxWordSize {
			break
		}
		at = i
	}
	return w[:at]
}

// match writes the search for one account in the language of FTS5. Everything is
// in quotes and holds none.
func match(num int64, words []string) string {
	prefix := strconv.FormatInt(num, 10) + "x"
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(" AND ")
		}
		w, longer := strings.CutSuffix(w, "*")
		b.WriteByte('"')
		for j, one := range strings.Fields(w) {
			if j > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(prefix)
			b.WriteString(one)
		}
		b.WriteByte('"')
		if longer {
			b.WriteByte('*')
		}
	}
	return b.String()
}

// indexable is a body as it is indexed for an account.
func indexable(num int64, bodies string) string {
	prefix := strconv.FormatInt(num, 10) + "x"
	var b strings.Builder
	for i, w := range split(bodies) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(prefix)
		b.WriteString(w)
	}
	return b.String()
}

// index brings the index of an account up to date: all of its messages when it
// searches for the first time, those that have come since at later times. One
// account is indexed at a time, in turns, so that the store is for others as well.
func (m *Module) index(ctx context.Context, num int64) error {
	var behind bool
	err := m.host.Store.QueryRow(ctx, `SELECT indexed < coalesce((SELECT max(id) FROM archive_entry WHERE account = num), 0)
		FROM archive_account WHERE num = ?`, num).Scan(&behind)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // no messages
	}
	for n := indexBatch; behind && n == indexBatch && err == nil; {
		select {
		case m.indexing <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		err = m.host.Store.Write(ctx, func(tx *store.Tx) (err error) {
			n, err = indexSome(tx, num)
			return err
		})
		<-m.indexing
	}
	return err
}

// indexSome indexes the next messages of an account and returns how many there
// were. That it reads them in the same transaction keeps retracted messages out.
func indexSome(tx *store.Tx, num int64) (n int, err error) {
	var upTo int64
	err = tx.QueryRow(`SELECT indexed FROM archive_account WHERE num = ?`, num).Scan(&upTo)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil // removed
	}
	if err != nil {
		return 0, err
	}
	rows, err := tx.Query(selectRow+upwards, num, upTo, int64(1<<63-1), indexBatch)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var raw []byte
		if err := rows.Scan(&upTo, &raw); err != nil {
			return 0, err
		}
		words := indexable(num, bodies(raw))
		if words == "" {
			continue
		}
		if _, err := tx.Exec(`INSERT INTO archive_text (rowid, body) VALUES (?, ?)`, upTo, words); err != nil {
			return 0, err
		}
	}
	if err := rows.Err(); err != nil || n == 0 {
		return 0, err
	}
	_, err = tx.Exec(`UPDATE archive_account SET indexed = ? WHERE num = ?`, upTo, num)
	return n, err
}

// bodies returns the text of a message in all its languages (RFC 6121 §5.2.3).
func bodies(raw []byte) string {
	st, err := stanza.ParseDocument(raw)
	if err != nil {
		return ""
	}
	var b strings.Builder
	st.Each(func(c stanza.Child) bool {
		if c.Is(stanza.NSClient, "body") {
			b.WriteString(c.Element().Text())
			b.WriteByte('\n')
		}
		return true
	})
	return b.String()
}
