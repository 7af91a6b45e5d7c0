package kit

import (
	"errors"
	"fmt"
	"strings"

	"trivium/core/jid"
)

var errNoName = errors.New("kit: the name is empty")

// Address returns the address of the contact that the network knows by this name:
// what a localpart cannot have is escaped (XEP-0106). Name undoes it. White space
// around the name does not count.
func (g *Gateway) Address(name string) (jid.JID, error) {
	name = strings.TrimSpace(name)
	if name == "" {
		return jid.JID{}, errNoName
	}
	return jid.New(jid.Escape(name), g.domain.Domain(), "")
}

// Name returns what the network knows a contact by.
func Name(contact jid.JID) string { return jid.Unescape(contact.Local()) }

func tooLong(n, most int) string {
	return fmt.Sprintf("the message has %d characters; this network carries at most %d", n, most)
}
