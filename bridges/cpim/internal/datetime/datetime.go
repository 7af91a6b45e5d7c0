// Package datetime reads and writes the date-time of RFC 3339 §5.6 that
// Message/CPIM and PIDF share.
package datetime

import (
	"strings"
	"time"
)

// Parse reads a date-time. The result is in UTC, never zero, and has a year that
// Append can write. A leap second counts as the first second of the next minute.
func Parse(s string) (time.Time, bool) {
	const seconds = len("2001-02-03T04:05:")
	leap := len(s) > seconds+2 && s[seconds:seconds+2] == "60"
	if leap {
		s = s[:seconds] + "59" + s[seconds+2:]
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(s)) // §5.6: 't' and 'z' may be lower case
	if err != nil {
		return time.Time{}, false
	}
	if leap {
		t = t.Truncate(time.Second).Add(time.Second)
	}
	t = t.UTC()
	return t, !t.IsZero() && valid(t)
}

// Append appends t in UTC with the capital letters that PIDF asks for (RFC 3863
// §4.1.7), or reports that its year has not four digits.
func Append(dst []byte, t time.Time) ([]byte, bool) {
	t = t.UTC()
	if !valid(t) {
		return dst, false
	}
	return t.AppendFormat(dst, time.RFC3339Nano), true
}

func valid(t time.Time) bool { return t.Year() >= 0 && t.Year() <= 9999 }
