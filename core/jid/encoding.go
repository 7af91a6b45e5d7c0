package jid

import (
	"database/sql/driver"
	"fmt"
)

// MarshalText returns the address in normal form, nothing for the zero JID.
func (j JID) MarshalText() ([]byte, error) { return []byte(j.s), nil }

// AppendText appends the address in normal form to b.
func (j JID) AppendText(b []byte) ([]byte, error) { return append(b, j.s...), nil }

// UnmarshalText prepares an address. No text is the zero JID.
func (j *JID) UnmarshalText(text []byte) error { return j.set(string(text)) }

// Value stores the address as a string, the zero JID as "".
func (j JID) Value() (driver.Value, error) { return j.s, nil }

// Scan reads what Value stored. NULL and "" are the zero JID.
func (j *JID) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		*j = JID{}
		return nil
	case string:
		return j.set(src)
	case []byte:
		return j.set(string(src))
	}
	return fmt.Errorf("jid: cannot scan %T", src)
}

func (j *JID) set(s string) error {
	if s == "" {
		*j = JID{}
		return nil
	}
	parsed, err := Parse(s)
	if err != nil {
		return err
	}
	*j = parsed
	return nil
}
