package upload

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"trivium/core/jid"
)

// Errors of Open.
var (
	ErrSlot    = errors.New("upload: there is no such slot")
	ErrExpired = errors.New("upload: the slot has expired")
)

// Slot is the permission to upload one file, once. It is the file as it will be.
type Slot struct {
	File
	Token string // what proves it
}

// Slot gives a slot for a file: of want, the fields Owner, Name, Type, Size and
// Expires count. The error is a *stanza.Error when the owner may not upload it, as
// with Begin.
func (m *Module) Slot(ctx context.Context, want File) (*Slot, error) {
	if m.opt.URL(want.Owner.Domain()) == "" {
		return nil, unavailable()
	}
	err := m.entitled(ctx, want.Owner)
	if err == nil {
		err = m.admit(ctx, want.Owner, want.Size, want.Size)
	}
	if err != nil {
		m.Stats.Refused.Add(1)
		return nil, err
	}
	s := &Slot{File: want}
	s.ID, s.Name = newID(), CleanName(want.Name)
	s.Token = m.sign(&s.File, m.host.Now().Add(m.opt.SlotLife))
	m.Stats.Slots.Add(1)
	return s, nil
}

// newID returns 26 characters of a to z and 2 to 7: 130 random bits (XEP-0363 §11.3).
func newID() string { return strings.ToLower(rand.Text()) }

// URLs returns the addresses for PUT and GET below base.
func (s *Slot) URLs(base string) (put, get string) {
	get = s.url(base)
	return get + "?slot=" + s.Token, get
}

// url returns the address of a file below base. RFC 3986 §2.1: what is not ASCII is
// percent-encoded.
func (f *File) url(base string) string { return base + "/" + f.ID + "/" + url.PathEscape(f.Name) }

// Tokens hold what a slot is for, in lines, and a MAC over that, the id and the name.
// None of the values can hold a newline.

func (m *Module) sign(f *File, until time.Time) string {
	body := fmt.Sprintf("%d\n%d\n%d\n%s\n%s", until.Unix(), f.Size, millis(f.Expires), f.Owner, f.Type)
	return encode([]byte(body)) + "." + encode(m.mac(f.ID, f.Name, body))
}

func (m *Module) mac(id, name, body string) []byte {
	h := hmac.New(sha256.New, m.key[:])
	fmt.Fprintf(h, "trivium upload slot 1\n%s\n%s\n%s", id, name, body)
	return h.Sum(nil)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Open returns the slot that a token proves for the file of this id and name. The
// error is ErrSlot or ErrExpired.
func (m *Module) Open(id, name, token string) (*Slot, error) {
	encoded, sum, _ := strings.Cut(token, ".")
	body, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, ErrSlot
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(sum)
	if err != nil || !ValidID(id) || !hmac.Equal(mac, m.mac(id, name, string(body))) {
		return nil, ErrSlot
	}
	// Signed by us: what follows cannot fail.
	parts := strings.SplitN(string(body), "\n", 5)
	if len(parts) != 5 {
		return nil, ErrSlot
	}
	var numbers [3]int64
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(parts[i], 10, 64); err != nil {
			return nil, ErrSlot
		}
	}
	owner, err := jid.Parse(parts[3])
	if err != nil {
		return nil, ErrSlot
	}
	if !m.host.Now().Before(time.Unix(numbers[0], 0)) {
		return nil, ErrExpired
	}
	return &Slot{Token: token, File: File{
		ID: id, Owner: owner, Name: name, Type: parts[4], Size: numbers[1], Expires: fromMillis(numbers[2]),
	}}, nil
}

// ValidID tells whether an id may be that of a file.
func ValidID(id string) bool {
	if len(id) != 26 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// millis and fromMillis turn times into numbers; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}
