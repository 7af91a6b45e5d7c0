package auth

import (
	"errors"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"trivium/core/jid"
)

// ErrThrottled: too many failed logins from this address. The attempt is to be
// refused without looking at it (temporary-auth-failure, RFC 6120 §6.5.11).
var ErrThrottled = errors.New("auth: too many failed logins from this address")

// ThrottleOptions tune a Throttle. The zero value is the default.
type ThrottleOptions struct {
	// AddressBurst failures from one address are free; 100 if 0. One more is
	// forgiven every AddressEvery; 3 s if 0.
	AddressBurst int
	AddressEvery time.Duration
	// PairBurst and PairEvery are the same for failures of one account from one
	// address; 25 and 15 s if 0. A client that is given a wrong password may try it
	// with every mechanism, so one mistake can be five failures.
	PairBurst int
	PairEvery time.Duration
	// AccountBurst and AccountEvery are the same for failures of one account from
	// anywhere; 50 and 10 s if 0. Beyond them an attempt from an address where
	// the account has not logged in lately waits AccountDelay; 5 s if 0.
	AccountBurst int
	AccountEvery time.Duration
	AccountDelay time.Duration
	// Entries bounds each of the tables; 65536 if 0. An entry takes about 250
	// octets. Under a flood the longest unused are forgotten first.
	Entries int
}

// Throttle slows the guessing of passwords. It is for concurrent use, and knows
// nothing of which accounts exist, so that it cannot tell.
//
// The policy: only failures count. Each is charged to three buckets that leak
// with time: the address's, that of the account from that address, and the
// account's. An address (IPv6: the /64 it is in) with a full bucket of its own
// is refused until some of it has leaked. An account is never refused for what
// others do: when its bucket is full, an attempt from an address that it has not
// logged in from has to wait first, one from an address that it has does not.
// So the owner always gets in, at worst some seconds late from a new place,
// unless the guesser shares the owner's address, and one address tries four
// passwords of an account in a minute. Attempts that run at the same
// time put a bucket in debt, so nothing is gained by them.
type Throttle struct {
	o         ThrottleOptions
	seed      maphash.Seed
	addresses *cache[netip.Prefix, *rate.Limiter]
	pairs     *cache[pair, *rate.Limiter]
	accounts  *cache[uint64, *rate.Limiter]
	homes     *cache[uint64, *home]

	refused, delayed atomic.Int64
}

// pair is an account, hashed, at an address.
type pair struct {
	prefix  netip.Prefix
	account uint64
}

// home holds where an account logged in last, the latest first.
type home struct {
	mu       sync.Mutex
	prefixes []netip.Prefix
}

const homesKept = 8

// NewThrottle returns a Throttle that has seen nothing yet.
func NewThrottle(o ThrottleOptions) *Throttle {
	number := func(p *int, standard int) {
		if *p <= 0 {
			*p = standard
		}
	}
	duration := func(p *time.Duration, standard time.Duration) {
		if *p <= 0 {
			*p = standard
		}
	}
	number(&o.AddressBurst, 100)
	duration(&o.AddressEvery, 3*time.Second)
	number(&o.PairBurst, 25)
	duration(&o.PairEvery, 15*time.Second)
	number(&o.AccountBurst, 50)
	duration(&o.AccountEvery, 10*time.Second)
	duration(&o.AccountDelay, 5*time.Second)
	number(&o.Entries, 65536)
	return &Throttle{
		o:         o,
		seed:      maphash.MakeSeed(),
		addresses: newCache[netip.Prefix, *rate.Limiter](o.Entries),
		pairs:     newCache[pair, *rate.Limiter](o.Entries),
		accounts:  newCache[uint64, *rate.Limiter](o.Entries),
		homes:     newCache[uint64, *home](o.Entries),
	}
}

// network is what counts as one address: IPv6 gives a customer a /64 or more.
// The zero Prefix stands for peers without an address (unix sockets).
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func (t *Throttle) hash(account jid.JID) uint64 {
	return maphash.String(t.seed, account.Bare().String())
}

// spent reports whether a bucket has no failure left to give.
func spent(l *rate.Limiter, known bool, now time.Time) bool {
	return known && l.TokensAt(now) < 1
}

// Allow is asked before each attempt, once its account is known. An error is
// ErrThrottled: refuse. Otherwise wait that long, usually 0, then go on. A zero
// account (ANONYMOUS, or a name that is none) and a zero remote are not counted.
func (t *Throttle) Allow(remote netip.Addr, account jid.JID) (wait time.Duration, err error) {
	now := time.Now()
	from, who := network(remote), t.hash(account)
	if from.IsValid() {
		l, known := t.addresses.get(from)
		full := spent(l, known, now)
		if !full && !account.IsZero() {
			l, known = t.pairs.get(pair{from, who})
			full = spent(l, known, now)
		}
		if full {
			t.refused.Add(1)
			return 0, ErrThrottled
		}
	}
	if account.IsZero() {
		return 0, nil
	}
	if l, known := t.accounts.get(who); spent(l, known, now) && !t.home(from, who) {
		t.delayed.Add(1)
		return t.o.AccountDelay, nil
	}
	return 0, nil
}

func (t *Throttle) home(from netip.Prefix, who uint64) bool {
	h, ok := t.homes.get(who)
	if !ok || !from.IsValid() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.prefixes, from)
}

// Failed notes that an attempt failed at its proof: a wrong password or an
// unknown account, and not a stream that broke before.
func (t *Throttle) Failed(remote netip.Addr, account jid.JID) {
	now := time.Now()
	from, who := network(remote), t.hash(account)
	if from.IsValid() {
		charge(t.addresses.getOrPut(from, bucket(t.o.AddressEvery, t.o.AddressBurst)), now)
		if !account.IsZero() {
			charge(t.pairs.getOrPut(pair{from, who}, bucket(t.o.PairEvery, t.o.PairBurst)), now)
		}
	}
	if !account.IsZero() {
		charge(t.accounts.getOrPut(who, bucket(t.o.AccountEvery, t.o.AccountBurst)), now)
	}
}

func bucket(every time.Duration, burst int) func() *rate.Limiter {
	return func() *rate.Limiter { return rate.NewLimiter(rate.Every(every), burst) }
}

// charge takes one from the bucket, into debt down to its size.
func charge(l *rate.Limiter, now time.Time) {
	if l.TokensAt(now) > -float64(l.Burst()) {
		l.ReserveN(now, 1)
	}
}

// Succeeded notes a login: from now on this address is one of the account's.
func (t *Throttle) Succeeded(remote netip.Addr, account jid.JID) {
	from := network(remote)
	if !from.IsValid() || account.IsZero() {
		return
	}
	h := t.homes.getOrPut(t.hash(account), func() *home { return new(home) })
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.prefixes, from); i >= 0 {
		h.prefixes = slices.Delete(h.prefixes, i, i+1)
	} else if len(h.prefixes) == homesKept {
		h.prefixes = h.prefixes[:homesKept-1]
	}
	h.prefixes = slices.Insert(h.prefixes, 0, from)
}

// ThrottleStats counts what the throttle did.
type ThrottleStats struct {
	Refused int64 // attempts answered with ErrThrottled
	Delayed int64 // attempts that had to wait
}

// Stats returns the counters.
func (t *Throttle) Stats() ThrottleStats {
	return ThrottleStats{Refused: t.refused.Load(), Delayed: t.delayed.Load()}
}
