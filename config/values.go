package config

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Size is a number of octets. It is written as a number or with a unit: 256KiB.
type Size int64

var units = []struct {
	name string
	size Size
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"kB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"B", 1},
}

// ParseSize reads a size. Units are B, KiB, MiB, GiB, kB, MB and GB.
func ParseSize(text string) (Size, error) {
	number, factor := strings.TrimSpace(text), Size(1)
	for _, u := range units {
		if head, ok := strings.CutSuffix(number, u.name); ok {
			number, factor = strings.TrimSpace(head), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(factor) {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return Size(n) * factor, nil
}

// String writes the size with the largest binary unit that divides it.
func (s Size) String() string {
	for i := 2; i >= 0; i-- {
		if s > 0 && s%units[i].size == 0 {
			return strconv.FormatInt(int64(s/units[i].size), 10) + units[i].name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// formatDuration writes 3m, not 3m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// A Secret prints as stars wherever it is formatted, logged or encoded.
type Secret string

const redacted = "*****"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String, GoString, LogValue and MarshalText keep a secret out of logs.
func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
