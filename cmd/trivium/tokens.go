package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"trivium/core/admin"
)

type tokenCmd struct {
	Add    tokenAddCmd    `cmd:"" help:"Make an API token and print its secret, once."`
	List   tokenListCmd   `cmd:"" help:"List API tokens."`
	Show   tokenShowCmd   `cmd:"" help:"Show an API token."`
	Rotate tokenRotateCmd `cmd:"" help:"Give an API token a new secret and print it, once."`
	Revoke tokenRevokeCmd `cmd:"" help:"Make an API token worthless."`
}

type tokenAddCmd struct {
	SendAs  []string `arg:"" optional:"" name:"send-as" help:"Whom the token may speak for and read: addresses, patterns such as +49*@sms.example.org, or a domain for all at it."`
	Name    string   `help:"A name for people."`
	Send    []string `sep:"none" placeholder:"PATTERN" help:"Whom it may speak for, without reading."`
	Read    []string `sep:"none" placeholder:"PATTERN" help:"Whose traffic and data it may read."`
	Admin   []string `sep:"none" placeholder:"HOST" help:"A virtual host that it may administer; * for the server."`
	Scope   []string `sep:"none" placeholder:"SCOPE" help:"Scopes, as in 'send:shop@example.org read:example.org admin:example.org'."`
	Expires string   `placeholder:"WHEN" help:"When it ends: 2030-01-31T12:00:00Z, or how long it lasts: 720h, 30d."`
	Rate    int      `help:"Requests a second; rest.rate of the configuration if absent."`
}

func (cmd *tokenAddCmd) Run(c *cli) error {
	args := admin.Args{}
	for name, list := range map[string][]string{
		"send-as": cmd.SendAs, "send": cmd.Send, "read": cmd.Read, "admin": cmd.Admin, "scope": cmd.Scope,
		"name": {cmd.Name}, "expires": {cmd.Expires},
	} {
		if v := strings.Join(list, "\n"); v != "" {
			args[name] = v
		}
	}
	if cmd.Rate != 0 {
		args["rate"] = fmt.Sprint(cmd.Rate)
	}
	return c.operate("token add", args, showSecret)
}

// showSecret prints the secret alone, for scripts, and about it to people.
func showSecret(out json.RawMessage) error {
	var t admin.Token
	if err := json.Unmarshal(out, &t); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "token %s for %s", t.ID, strings.Join(t.Scopes, " "))
	if t.Expires != nil {
		fmt.Fprintf(os.Stderr, ", until %s", t.Expires.Format(time.RFC3339))
	}
	fmt.Fprintln(os.Stderr, "; this is the only time its secret is shown:")
	fmt.Println(t.Secret)
	return nil
}

type tokenListCmd struct {
	JSON bool `help:"Print JSON."`
}

func (cmd *tokenListCmd) Run(c *cli) error {
	const head = "ID\tNAME\tSCOPES\tEXPIRES\tRATE\tLAST USED"
	return c.operate("token list", admin.Args{}, table(cmd.JSON, head, func(t admin.Token) string {
		rate := "-"
		if t.Rate > 0 {
			rate = fmt.Sprint(t.Rate)
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", t.ID, t.Name, strings.Join(t.Scopes, " "), moment(t.Expires), rate, moment(t.LastUsed))
	}))
}

// moment shows a time that may not come.
func moment(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Format(time.RFC3339)
}

type tokenShowCmd struct {
	ID   string `arg:"" help:"The token's id."`
	JSON bool   `help:"Print JSON."`
}

func (cmd *tokenShowCmd) Run(c *cli) error {
	return c.operate("token show", admin.Args{"id": cmd.ID}, func(out json.RawMessage) error {
		if cmd.JSON {
			fmt.Println(strings.TrimSpace(string(out)))
			return nil
		}
		var t admin.Token
		if err := json.Unmarshal(out, &t); err != nil {
			return err
		}
		fmt.Printf("id         %s\nname       %s\nscopes     %s\n", t.ID, t.Name, strings.Join(t.Scopes, "\n           "))
		if t.Rate > 0 {
			fmt.Printf("rate       %d a second\n", t.Rate)
		}
		fmt.Printf("created    %s\nexpires    %s\nlast used  %s\n", t.Created.Format(time.RFC3339), moment(t.Expires), moment(t.LastUsed))
		if t.Revoked != nil {
			fmt.Printf("revoked    %s\n", moment(t.Revoked))
		}
		return nil
	})
}

type tokenRotateCmd struct {
	ID string `arg:"" help:"The token's id."`
}

func (cmd *tokenRotateCmd) Run(c *cli) error {
	return c.operate("token rotate", admin.Args{"id": cmd.ID}, showSecret)
}

type tokenRevokeCmd struct {
	ID string `arg:"" help:"The token's id."`
}

func (cmd *tokenRevokeCmd) Run(c *cli) error {
	return c.operate("token revoke", admin.Args{"id": cmd.ID}, nil)
}
