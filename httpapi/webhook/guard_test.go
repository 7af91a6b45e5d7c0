package webhook

import (
	"errors"
	"net"
	"strings"
	"testing"

	"code.dny.dev/ssrf"
)

// The check is made on the address alone: nothing is connected to.
func TestGuardedAddresses(t *testing.T) {
	const (
		never = iota
		privately
		always
	)
	for _, tt := range []struct {
		ip   string
		when int
	}{
		{"169.254.169.254", never},
		{"169.254.0.1", never},
		{"169.254.255.255", never},
		{"fe80::1", never},
		{"fe80::1%lo", never},
		{"febf::1", never},
		{"fd00:ec2::254", never},
		{"fd00:ec2::254%lo", never},
		{"::ffff:169.254.169.254", never},
		{"64:ff9b::a9fe:a9fe", never}, // 169.254.169.254 by NAT64
		{"2002:a9fe:a9fe::1", never},  // and by 6to4
		{"0.0.0.0", never},
		{"::", never},
		{"224.0.0.1", never},
		{"ff02::1", never},
		{"255.255.255.255", never},
		{"192.0.0.192", never},
		{"127.0.0.1", privately},
		{"127.255.255.254", privately},
		{"::1", privately},
		{"10.0.0.1", privately},
		{"172.16.0.1", privately},
		{"172.31.255.255", privately},
		{"192.168.1.1", privately},
		{"100.64.0.1", privately},
		{"100.127.255.255", privately},
		{"fc00::1", privately},
		{"fd00:ec1::254", privately},
		{"fd12:3456:789a::1", privately},
		{"172.32.0.1", always},
		{"100.128.0.1", always},
		{"9.9.9.9", always},
		{"2620:fe::fe", always},
	} {
		network := "tcp4"
		if strings.Contains(tt.ip, ":") {
			network = "tcp6"
		}
		for _, port := range []string{"80", "443", "8080", "5280"} {
			address := net.JoinHostPort(tt.ip, port)
			for private, allowed := range map[bool]bool{false: tt.when == always, true: tt.when >= privately} {
				err := guard(private)(network, address, nil)
				if (err == nil) != allowed || err != nil && !errors.Is(err, ssrf.ErrProhibitedIP) {
					t.Errorf("%s, private %v: %v", address, private, err)
				}
			}
		}
	}
}

// Every transport has the guard. The address is refused to both kinds of
// endpoint, and without a guard leads no farther than to this machine.
func TestGuardIsUsed(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, private := range []bool{false, true} {
		tr := newTransport(Endpoint{AllowPrivate: private, Concurrency: 1})
		c, err := tr.DialContext(t.Context(), "tcp", "0.0.0.0:"+port)
		if !errors.Is(err, ssrf.ErrProhibitedIP) {
			t.Errorf("private %v: %v", private, err)
		}
		if c != nil {
			c.Close()
		}
	}
}
