package stream

import "testing"

func TestOrigins(t *testing.T) {
	for _, tt := range []struct {
		origin, host string
		patterns     []string
		want         bool
	}{
		{"https://example.org", "example.org", nil, true},
		{"https://EXAMPLE.org:5443", "example.org:5443", nil, true},
		{"https://example.org", "example.org:5443", nil, false},
		{"https://example.net", "example.org", nil, false},
		{"null", "example.org", nil, false},
		{"null", "example.org", []string{"*"}, true},
		{"https://a.example.org", "", []string{"https://*.example.org"}, true},
		{"https://a.b.example.org", "", []string{"https://*.example.org"}, true},
		{"https://example.org", "", []string{"https://*.example.org"}, false},
		{"https://.example.org", "", []string{"https://*.example.org"}, false},
		{"http://a.example.org", "", []string{"https://*.example.org"}, false},
		{"https://evilexample.org", "", []string{"https://*.example.org"}, false},
		{"https://a.example.org:8443", "", []string{"https://*.example.org"}, false},
		{"https://a.example.org:8443", "", []string{"https://*.example.org:8443"}, true},
		{"https://a.example.org.evil.net", "", []string{"https://*.example.org"}, false},
		{"https://evil.net/.example.org", "", []string{"https://*.example.org"}, false},
		{"https://evil.net:1.example.org", "", []string{"https://*.example.org"}, false},
	} {
		var o Origins
		o.Set(tt.patterns)
		if got := o.Allow(tt.origin, tt.host); got != tt.want {
			t.Errorf("Allow(%q, %q, %q) = %v", tt.origin, tt.host, tt.patterns, got)
		}
	}
}
