package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"hash/maphash"
	"net/http"
	"strings"
	"sync"
)

// gzipTag ends the tag of an answer that was compressed.
const gzipTag = "-gzip"

// etagOf returns the strong validator of a representation (RFC 9110 §8.8.3).
func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// tagged tells whether the tag is in the list of an If-Match or If-None-Match
// header. What is not a tag matches nothing. Weak ones are equal to nothing when
// strong is asked for (RFC 9110 §8.8.3.2).
func tagged(lines []string, tag string, strong bool) bool {
	for member := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		member = strings.TrimSpace(member)
		if member == "*" {
			return true
		}
		if opaque, weak := strings.CutPrefix(member, "W/"); weak {
			if strong {
				continue
			}
			member = opaque
		}
		if plain, ok := strings.CutSuffix(member, gzipTag+`"`); ok {
			member = plain + `"`
		}
		if member == tag {
			return true
		}
	}
	return false
}

// precondition checks If-Match and If-None-Match of a request that changes what
// current is the representation of now; nil: it does not exist. RFC 9110 §13.2.2.
func precondition[T any](r *http.Request, current *T) error {
	match, none := r.Header["If-Match"], r.Header["If-None-Match"]
	if len(match) == 0 && len(none) == 0 {
		return nil
	}
	tag := ""
	if current != nil {
		body, err := encodeJSON(current)
		if err != nil {
			return err
		}
		tag = etagOf(body)
	}
	if len(match) > 0 && (tag == "" || !tagged(match, tag, true)) {
		return problem(http.StatusPreconditionFailed, "The resource is not, or no longer, what If-Match says.")
	}
	if len(match) == 0 && tag != "" && tagged(none, tag, false) {
		return problem(http.StatusPreconditionFailed, "The resource exists.")
	}
	return nil
}

// stripes are locks by name; different names may share one.
type stripes struct {
	seed  maphash.Seed
	locks [64]sync.Mutex
}

// lock takes the lock of a name and returns what gives it back.
func (s *stripes) lock(name string) (unlock func()) {
	m := &s.locks[maphash.String(s.seed, name)%uint64(len(s.locks))]
	m.Lock()
	return m.Unlock
}
