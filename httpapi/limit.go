package httpapi

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"trivium/core/auth"
)

const (
	// limitedTokens is how many tokens are counted at once. One that has been quiet
	// for limiterIdle has its whole allowance again and need not be remembered.
	limitedTokens = 16384
	limiterIdle   = time.Minute
)

const (
	maxOpen = 1000 // streams of events that one token may have open
	maxAsks = 500  // requests of one token that may wait for their answers
)

// held counts what tokens hold open. It is safe for concurrent use; the zero value is
// ready.
type held struct {
	mu sync.Mutex
	n  map[string]int
}

// begin counts one more, unless the token holds most already. end is called once.
func (h *held) begin(token string, most int) (end func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n[token] >= most {
		return nil, false
	}
	if h.n == nil {
		h.n = map[string]int{}
	}
	h.n[token]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.n[token]--; h.n[token] == 0 {
			delete(h.n, token)
		}
	}, true
}

// limiters count the requests of tokens. They are safe for concurrent use.
type limiters struct {
	rate  int // of tokens that have none of their own; 0: no limit
	cache *otter.Cache[string, *limiter]
}

// limiter is the bucket of one token.
type limiter struct {
	*rate.Limiter
	rate   int
	policy []string // the header
}

func newLimiters(perSecond int) (*limiters, error) {
	cache, err := otter.New(&otter.Options[string, *limiter]{
		MaximumSize: limitedTokens, ExpiryCalculator: otter.ExpiryAccessing[string, *limiter](limiterIdle),
	})
	if err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	return &limiters{perSecond, cache}, nil
}

// allow counts a request and tells whether it may go on. A token with a limit is
// told of it in the headers of draft-ietf-httpapi-ratelimit-headers-10: q requests
// in each window of w seconds; r of them are left, and all again in t seconds.
func (l *limiters) allow(h http.Header, t *auth.Token) bool {
	perSecond := t.Rate
	if perSecond <= 0 {
		perSecond = l.rate
	}
	if perSecond <= 0 {
		return true
	}
	b, ok := l.cache.GetIfPresent(t.ID)
	if !ok || b.rate != perSecond {
		b = &limiter{rate.NewLimiter(rate.Limit(perSecond), perSecond), perSecond, []string{`"token";q=` + strconv.Itoa(perSecond) + `;w=1`}}
		if ok { // the token has another rate than before
			l.cache.Set(t.ID, b)
		} else if held, ours := l.cache.SetIfAbsent(t.ID, b); !ours {
			b = held
		}
	}
	allowed := b.Allow()
	left := max(0, b.Tokens())
	full := int(math.Ceil((float64(b.Burst()) - left) / float64(perSecond)))
	var buf [48]byte
	text := strconv.AppendInt(append(buf[:0], `"token";r=`...), int64(left), 10)
	text = strconv.AppendInt(append(text, ";t="...), int64(full), 10)
	h["Ratelimit-Policy"], h["Ratelimit"] = b.policy, []string{string(text)}
	if !allowed {
		h["Retry-After"] = []string{"1"} // RFC 6585 §4
	}
	return allowed
}
