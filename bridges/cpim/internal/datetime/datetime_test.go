package datetime

import (
	"testing"
	"time"
)

func TestBothWays(t *testing.T) {
	for _, tt := range []struct{ in, want string }{ // RFC 3339 §5.8
		{"1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.52Z"},
		{"1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57Z"},
		{"1990-12-31T23:59:60Z", "1991-01-01T00:00:00Z"},
		{"1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00Z"},
		{"1937-01-01T12:00:27.87+00:20", "1937-01-01T11:40:27.87Z"},
		{"1985-04-12t23:20:50z", "1985-04-12T23:20:50Z"},
		{"0001-01-01T00:00:00Z", ""}, // what Go calls no time
		{"0000-01-01T00:00:00+01:00", ""},
		{"1985-04-12 23:20:50Z", ""},
		{"1985-04-12T23:20:50", ""},
		{"1985-04-12T25:20:50Z", ""},
		{"", ""},
	} {
		got, ok := Parse(tt.in)
		if ok != (tt.want != "") {
			t.Errorf("Parse(%q) = %v, %v", tt.in, got, ok)
		}
		if !ok {
			continue
		}
		if b, ok := Append(nil, got); !ok || string(b) != tt.want {
			t.Errorf("%q is written %q, want %q", tt.in, b, tt.want)
		}
	}
	if b, ok := Append(nil, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)); ok {
		t.Errorf("the year 10000 is written %q", b)
	}
}
