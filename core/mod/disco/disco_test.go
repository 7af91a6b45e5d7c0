package disco

import (
	"testing"

	"trivium/core/module"
)

// XEP-0115 §5.2, the simple generation example.
func TestVerification(t *testing.T) {
	got := verification(
		[]module.Identity{{Category: "client", Type: "pc", Name: "Exodus 0.9.1"}},
		[]string{
			"http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items",
			"http://jabber.org/protocol/muc", "http://jabber.org/protocol/caps",
		})
	if want := "QgayPKawpkPSDYmwT/WM94uAlu0="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
