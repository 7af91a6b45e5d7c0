package webhook

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// metadataV6 holds the metadata service of EC2, fd00:ec2::254, in the midst of
// the addresses that are private. In IPv4 it is link-local.
var metadataV6 = netip.MustParsePrefix("fd00:ec2::/32")

// guard returns a net.Dialer.Control that lets connections to public addresses
// through, on any port. With private it lets those to this machine and to private
// networks through too, but never those to link-local addresses: a cloud's
// metadata service, which hands out credentials, is at one of them.
func guard(private bool) func(network, address string, c syscall.RawConn) error {
	if !private {
		return ssrf.New(ssrf.WithAnyPort()).Safe
	}
	safe := ssrf.New(ssrf.WithAnyPort(),
		ssrf.WithAllowedV4Prefixes(
			netip.MustParsePrefix("127.0.0.0/8"), // RFC 1122 §3.2.1.3
			netip.MustParsePrefix("10.0.0.0/8"),  // RFC 1918 §3
			netip.MustParsePrefix("172.16.0.0/12"),
			netip.MustParsePrefix("192.168.0.0/16"),
			netip.MustParsePrefix("100.64.0.0/10"), // RFC 6598 §7
		),
		ssrf.WithAllowedV6Prefixes(
			netip.MustParsePrefix("::1/128"),  // RFC 4291 §2.5.3
			netip.MustParsePrefix("fc00::/7"), // RFC 4193 §3.1
		),
	).Safe
	return func(network, address string, c syscall.RawConn) error {
		// What ssrf is told to allow goes before what it is told to deny.
		if at, err := netip.ParseAddrPort(address); err == nil && metadataV6.Contains(at.Addr().WithZone("")) {
			return fmt.Errorf("%w: %s is a metadata service", ssrf.ErrProhibitedIP, at.Addr())
		}
		return safe(network, address, c)
	}
}

func systemResolver() Resolver { return net.DefaultResolver }

// reachable looks the host of a new endpoint up and refuses it in words when it leads
// where it may not. What it leads to later is checked when a post connects.
func (s *Service) reachable(ctx context.Context, address string, private bool) error {
	u, err := parseURL(address)
	if err != nil {
		return err
	}
	host := u.Hostname()
	var list []netip.Addr
	if addr, err := netip.ParseAddr(host); err == nil {
		list = []netip.Addr{addr}
	} else {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if list, err = s.opts.Resolver.LookupNetIP(ctx, "ip", host); err != nil || len(list) == 0 {
			return refused("url", "has a host that cannot be looked up")
		}
	}
	check := guard(private)
	for _, addr := range list {
		network := "tcp6"
		if addr = addr.Unmap(); addr.Is4() {
			network = "tcp4"
		}
		if check(network, netip.AddrPortFrom(addr, 443).String(), nil) != nil {
			if private {
				return refused("url", "leads to an address that webhooks may never be at: link-local, multicast or a metadata service")
			}
			return refused("url", "leads into a private network, to this machine or to a link-local address")
		}
	}
	return nil
}
