package auth_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"trivium/core/auth"
	"trivium/core/jid"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// guess fails n times as fast as it is let and returns how often it was let.
func guess(th *auth.Throttle, from netip.Addr, account jid.JID, n int) (tried int) {
	for range n {
		if _, err := th.Allow(from, account); err == nil {
			tried++
			th.Failed(from, account)
		}
	}
	return tried
}

// tight are limits low enough to count up to.
var tight = auth.ThrottleOptions{
	AddressBurst: 20, AddressEvery: 6 * time.Second, PairBurst: 5, PairEvery: 30 * time.Second,
	AccountBurst: 20, AccountEvery: 10 * time.Second,
}

func TestThrottleOneAddressOneAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(tight)
		from := addr("192.0.2.1")
		if n := guess(th, from, juliet, 100); n != 5 {
			t.Errorf("%d guesses at once, want 5", n)
		}
		if _, err := th.Allow(from, juliet); !errors.Is(err, auth.ErrThrottled) {
			t.Errorf("Allow: %v", err)
		}
		if _, err := th.Allow(from, romeo); err != nil {
			t.Errorf("another account at that address: %v", err)
		}
		// Two a minute from then on.
		total := 0
		for range 600 {
			time.Sleep(time.Second)
			total += guess(th, from, juliet, 3)
		}
		if total != 20 {
			t.Errorf("%d guesses in ten minutes, want 20", total)
		}
	})
}

func TestThrottleOneAddressManyAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(tight)
		tried := 0
		for i := range 100 {
			account := jid.Must(fmt.Sprintf("user%d@example.org", i))
			// Any address of the same /64 is the same guesser.
			tried += guess(th, addr(fmt.Sprintf("2001:db8:1:2::%x", i+1)), account, 1)
		}
		if tried != 20 {
			t.Errorf("%d guesses, want 20", tried)
		}
		if _, err := th.Allow(addr("2001:db8:1:3::1"), juliet); err != nil {
			t.Errorf("the neighbour: %v", err)
		}
		time.Sleep(6 * time.Second)
		if _, err := th.Allow(addr("2001:db8:1:2::1"), juliet); err != nil {
			t.Errorf("after a while: %v", err)
		}
	})
}

func TestThrottleMappedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(tight)
		guess(th, addr("::ffff:192.0.2.1"), juliet, 5)
		if _, err := th.Allow(addr("192.0.2.1"), juliet); !errors.Is(err, auth.ErrThrottled) {
			t.Errorf("the same address spelt otherwise: %v", err)
		}
		if _, err := th.Allow(addr("::ffff:192.0.2.2"), juliet); err != nil {
			t.Errorf("another mapped address: %v", err)
		}
	})
}

// TestThrottleOwnerGetsIn: while many addresses guess at an account, its owner
// logs in from a known address at once and from a new one after a wait.
func TestThrottleOwnerGetsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(tight)
		homeAddr := addr("198.51.100.7")
		th.Succeeded(homeAddr, juliet)
		for i := range 200 {
			guess(th, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), juliet, 10)
		}
		if wait, err := th.Allow(homeAddr, jid.Must("juliet@example.org/balcony")); wait != 0 || err != nil {
			t.Errorf("from home: wait %v, %v", wait, err)
		}
		if wait, err := th.Allow(addr("198.51.100.8"), juliet); wait != 5*time.Second || err != nil {
			t.Errorf("from elsewhere: wait %v, %v", wait, err)
		}
		if wait, err := th.Allow(addr("198.51.100.8"), romeo); wait != 0 || err != nil {
			t.Errorf("another account: wait %v, %v", wait, err)
		}
		if got := th.Stats(); got.Delayed == 0 || got.Refused == 0 {
			t.Errorf("stats %+v", got)
		}
		time.Sleep(time.Hour)
		if wait, err := th.Allow(addr("198.51.100.8"), juliet); wait != 0 || err != nil {
			t.Errorf("an hour later: wait %v, %v", wait, err)
		}
	})
}

// TestThrottleParallel: attempts that were let in together are paid for later.
func TestThrottleParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(tight)
		from := addr("192.0.2.1")
		for range 10 { // all passed Allow before the first failed
			th.Failed(from, juliet)
		}
		time.Sleep(2 * time.Minute) // four leak, five were in debt
		if _, err := th.Allow(from, juliet); !errors.Is(err, auth.ErrThrottled) {
			t.Errorf("the debt is forgotten: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := th.Allow(from, juliet); err != nil {
			t.Errorf("the debt is paid: %v", err)
		}
	})
}

func TestThrottleNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(tight)
		for range 100 { // a unix socket, and a name that is no address
			th.Failed(netip.Addr{}, jid.JID{})
			th.Succeeded(netip.Addr{}, juliet)
		}
		if wait, err := th.Allow(netip.Addr{}, jid.JID{}); wait != 0 || err != nil {
			t.Errorf("wait %v, %v", wait, err)
		}
		if wait, err := th.Allow(addr("192.0.2.1"), juliet); wait != 0 || err != nil {
			t.Errorf("wait %v, %v", wait, err)
		}
	})
}

// TestThrottleBounded: a flood of addresses and names does not grow the tables,
// and what is in use survives it.
func TestThrottleBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(func() auth.ThrottleOptions { o := tight; o.Entries = 100; return o }())
		from := addr("192.0.2.1")
		guess(th, from, juliet, 5)
		for i := range 10000 {
			th.Failed(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), jid.Must(fmt.Sprintf("user%d@example.org", i)))
			th.Succeeded(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), jid.Must(fmt.Sprintf("user%d@example.org", i)))
			if _, err := th.Allow(from, juliet); err == nil {
				t.Fatalf("forgotten after %d others", i)
			}
		}
		if n := auth.ThrottleEntries(th); n > 4*100 {
			t.Errorf("%d entries", n)
		}
	})
}

func BenchmarkThrottleAllow(b *testing.B) {
	th := auth.NewThrottle(tight)
	from := addr("192.0.2.1")
	th.Failed(from, juliet)
	th.Succeeded(from, juliet)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := th.Allow(from, juliet); err != nil {
			b.Fatal(err)
		}
	}
}
