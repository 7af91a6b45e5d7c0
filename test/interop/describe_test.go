package interop

import (
	"encoding/json"
	"net"
	"strings"
	"testing"
)

// description tells a client script where the server is and who may log in.
// All addresses are on loopback. It is the whole interface between the Go side
// and the scripts: they learn nothing else about the server.
type description struct {
	Name      string `json:"name"`       // "trivium" or the stand-in's name
	Domain    string `json:"domain"`     // the virtual host, also the name in the certificate
	TCP       string `json:"tcp"`        // host:port, STARTTLS required
	DirectTLS string `json:"direct_tls"` // host:port, TLS from the first byte (XEP-0368)
	WebSocket string `json:"websocket"`  // ws:// URL (RFC 7395)
	BOSH      string `json:"bosh"`       // http:// URL (XEP-0124)
	WSS       string `json:"wss"`        // wss:// URL
	BOSHS     string `json:"boshs"`      // https:// URL
	REST      string `json:"rest"`       // base URL; messages are POSTed to REST + "/messages"
	Token     string `json:"token"`      // bearer token for REST
	Sender    string `json:"sender"`     // bare JID that the token sends as
	Admin     string `json:"admin"`      // bearer token that may administer the server; empty with a stand-in
	CA        string `json:"ca"`         // file with the PEM certificate to trust
	OtherCA   string `json:"other_ca"`   // file with a CA that did not sign the server's certificate
	Origin    string `json:"origin"`     // the one web origin that the server admits
	Artifacts string `json:"artifacts"`  // folder for screenshots and logs

	// Accounts are the accounts of one client, by the role the script gives them.
	Accounts map[string]account `json:"accounts"`
}

// account is a user that exists when the scripts start.
type account struct {
	JID      string `json:"jid"`
	Local    string `json:"local"`
	Password string `json:"password"`
}

// roles are the accounts every client gets. Each client has its own, so that
// the clients can run at the same time without meeting in a roster.
var roles = []string{"romeo", "juliet"}

// newAccount names the account of a client's role. The password contains
// characters that SCRAM and the shells between must leave alone.
func newAccount(domain, client, role string) account {
	local := client + "-" + role
	return account{JID: local + "@" + domain, Local: local, Password: "pa,ss=" + local + "+é✓"}
}

// forClient returns the description with the accounts of one client filled in.
func (d description) forClient(client string) description {
	d.Accounts = make(map[string]account, len(roles))
	for _, role := range roles {
		d.Accounts[role] = newAccount(d.Domain, client, role)
	}
	return d
}

// JSON encodes the description for a script's environment.
func (d description) JSON(t testing.TB) string {
	t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// allAccounts lists the accounts of every client, by name, and the REST sender.
func allAccounts(domain string, clients []string) []account {
	accounts := []account{newAccount(domain, "rest", "sender")}
	for _, name := range clients {
		for _, role := range roles {
			accounts = append(accounts, newAccount(domain, name, role))
		}
	}
	return accounts
}

// freePort returns a loopback TCP address nobody listens on at the moment.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// port returns the port of a host:port.
func port(addr string) string {
	return addr[strings.LastIndexByte(addr, ':')+1:]
}
