package jid

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"testing"
)

var (
	_ sql.Scanner   = (*JID)(nil)
	_ driver.Valuer = JID{}
)

func TestJSON(t *testing.T) {
	type doc struct {
		To   JID            `json:"to"`
		None JID            `json:"none"`
		Map  map[JID]string `json:"map"`
	}
	in := doc{To: Must("a@b/c"), Map: map[JID]string{Must("d@e"): "x"}}
	text, err := json.Marshal(in)
	if err != nil || string(text) != `{"to":"a@b/c","none":"","map":{"d@e":"x"}}` {
		t.Fatalf("%s, %v", text, err)
	}
	var out doc
	if err := json.Unmarshal([]byte(`{"to":"A@B/c","none":"","map":{"D@e":"x"}}`), &out); err != nil {
		t.Fatal(err)
	}
	if out.To != in.To || !out.None.IsZero() || out.Map[Must("d@e")] != "x" {
		t.Errorf("got %+v", out)
	}
	if err := json.Unmarshal([]byte(`{"to":"@"}`), &out); !errors.Is(err, ErrMalformed) {
		t.Errorf("no address: %v", err)
	}
}

func TestScan(t *testing.T) {
	for _, tt := range []struct {
		src  any
		want string
		ok   bool
	}{
		{"A@b", "a@b", true},
		{[]byte("a@b/c"), "a@b/c", true},
		{"", "", true},
		{nil, "", true},
		{"@", "keep", false},
		{int64(1), "keep", false},
	} {
		j := Must("keep")
		err := j.Scan(tt.src)
		if (err == nil) != tt.ok || j.String() != tt.want {
			t.Errorf("Scan(%v) = %q, %v, want %q", tt.src, j, err, tt.want)
		}
		if v, err := j.Value(); v != tt.want || err != nil {
			t.Errorf("Value() = %v, %v", v, err)
		}
	}
	// A driver may reuse the bytes it passed.
	b := []byte("a@b")
	var j JID
	if err := j.Scan(b); err != nil {
		t.Fatal(err)
	}
	b[0] = 'x'
	if j != Must("a@b") {
		t.Errorf("the address changed with the driver's buffer: %q", j)
	}
}
