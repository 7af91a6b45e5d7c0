package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"trivium/config"
	"trivium/core/auth"
	"trivium/core/jid"
	"trivium/httpapi/demo"
	"trivium/websocket"
)

// demoSetup is what development mode makes once and prints at each start.
type demoSetup struct {
	Accounts []demo.Account `json:"accounts"`
	Token    string         `json:"token"`
}

// setUpDemo makes two accounts and a token that speaks for the host, or reads
// those made before.
func (s *server) setUpDemo(ctx context.Context) (*demoSetup, error) {
	file := s.cfg.Path("demo.json")
	d := &demoSetup{}
	data, err := os.ReadFile(file)
	switch {
	case err == nil:
		if err := json.Unmarshal(data, d); err != nil {
			return nil, fmt.Errorf("%s: %w (remove it to make new demo accounts)", file, err)
		}
		return d, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	host := s.core.Hosts()[0]
	for _, name := range []string{"romeo", "juliet"} {
		account, err := jid.New(name, host, "")
		if err != nil {
			return nil, err
		}
		password := make([]byte, 8)
		_, _ = rand.Read(password) // never fails
		a := demo.Account{JID: account.String(), Password: hex.EncodeToString(password)}
		err = s.users.CreateAccount(ctx, account, a.Password)
		if errors.Is(err, auth.ErrExists) {
			err = s.users.SetPassword(ctx, account, a.Password)
		}
		if err != nil {
			return nil, err
		}
		d.Accounts = append(d.Accounts, a)
	}
	domain, err := jid.New("", host, "")
	if err != nil {
		return nil, err
	}
	all := []jid.Pattern{jid.PatternOf(domain)}
	scopes := auth.Scopes{SendAs: all, Read: all, Admin: []string{host}}
	if d.Token, _, err = s.users.AddToken(ctx, auth.TokenSpec{Name: "demo", Scopes: scopes}); err != nil {
		return nil, err
	}
	if data, err = json.MarshalIndent(d, "", "  "); err != nil {
		return nil, err
	}
	return d, os.WriteFile(file, data, 0o600)
}

// page returns the demo page.
func (d *demoSetup) page(hosts []string) http.Handler {
	return demo.Handler(demo.Options{Accounts: d.Accounts, Token: d.Token, WebSocketPath: websocket.Path, Hosts: hosts})
}

// explain prints what to open and try next.
func (d *demoSetup) explain(w io.Writer, s *server, listeners []*listener) {
	var b strings.Builder
	b.WriteString("\nTrivium runs in development mode.\n\n")
	web := ""
	for _, l := range listeners {
		fmt.Fprintf(&b, "  %-14s %s\n", l.kind, l.addr)
		if l.kind == config.HTTP && web == "" {
			web = "http://" + l.addr
		}
	}
	fmt.Fprintf(&b, "\nThe certificates are signed by %s\n\nAccounts:\n", s.certs.CAPath())
	for _, a := range d.Accounts {
		fmt.Fprintf(&b, "  %s  password %s\n", a.JID, a.Password)
	}
	if web != "" {
		fmt.Fprintf(&b, `
Open %s/ in two tabs and chat. Then send into the chat from a shell:

  curl -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \
    -d '{"from":"%s","to":"%s","body":"Hello from curl"}' %s/api/v1/messages

Stop with Ctrl-C.

`, web, d.Token, d.Accounts[0].JID, d.Accounts[1].JID, web)
	}
	_, _ = io.WriteString(w, b.String())
}
