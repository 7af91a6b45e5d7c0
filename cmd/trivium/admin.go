package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"trivium/core/admin"
)

type userCmd struct {
	Add    userAddCmd    `cmd:"" help:"Create an account."`
	Passwd userPasswdCmd `cmd:"" help:"Set an account's password."`
	Remove userRemoveCmd `cmd:"" help:"Remove an account with all it has stored."`
	List   userListCmd   `cmd:"" help:"List accounts."`
	Show   userShowCmd   `cmd:"" help:"Show an account."`
}

type userAddCmd struct {
	JID      string `arg:"" help:"Address of the account, user@domain."`
	Password string `env:"TRIVIUM_PASSWORD" help:"The password; read from standard input if absent."`
}

func (cmd *userAddCmd) Run(c *cli) error {
	return c.password(cmd.Password, func(p string) error {
		return c.operate("user add", admin.Args{"jid": cmd.JID, "password": p}, func(json.RawMessage) error {
			fmt.Println("created", cmd.JID)
			return nil
		})
	})
}

type userPasswdCmd userAddCmd

func (cmd *userPasswdCmd) Run(c *cli) error {
	return c.password(cmd.Password, func(p string) error {
		return c.operate("user passwd", admin.Args{"jid": cmd.JID, "password": p}, nil)
	})
}

type userRemoveCmd struct {
	JID string `arg:"" help:"Address of the account."`
}

func (cmd *userRemoveCmd) Run(c *cli) error {
	return c.operate("user remove", admin.Args{"jid": cmd.JID}, nil)
}

type userListCmd struct {
	Host string `arg:"" optional:"" help:"Virtual host; all if absent."`
	JSON bool   `help:"Print JSON."`
}

func (cmd *userListCmd) Run(c *cli) error {
	args := admin.Args{}
	if cmd.Host != "" {
		args["host"] = cmd.Host
	}
	return c.operate("user list", args, table(cmd.JSON, "JID\tCREATED\tSESSIONS", func(u admin.User) string {
		return fmt.Sprintf("%s\t%s\t%d", u.JID, u.Created.Format(time.RFC3339), u.Sessions)
	}))
}

type userShowCmd struct {
	JID  string `arg:"" help:"Address of the account."`
	JSON bool   `help:"Print JSON."`
}

func (cmd *userShowCmd) Run(c *cli) error {
	return c.operate("user show", admin.Args{"jid": cmd.JID}, func(out json.RawMessage) error {
		if cmd.JSON {
			fmt.Println(strings.TrimSpace(string(out)))
			return nil
		}
		var u admin.UserDetails
		if err := json.Unmarshal(out, &u); err != nil {
			return err
		}
		fmt.Printf("jid           %s\ncreated       %s\npassword set  %s\nlast seen     %s\nclients       %d\nsessions      %d\n",
			u.JID, u.Created.Format(time.RFC3339), moment(u.PasswordSet), moment(u.LastSeen), u.Clients, u.Sessions)
		return nil
	})
}

// password gives f the password of the flag, or the first line of standard input.
func (c *cli) password(given string, f func(string) error) error {
	if given == "" {
		if st, err := os.Stdin.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprint(os.Stderr, "password: ")
		}
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if given = strings.TrimRight(line, "\r\n"); given == "" {
			return fmt.Errorf("a password is needed: --password, TRIVIUM_PASSWORD or standard input (%w)", err)
		}
	}
	return f(given)
}

// operate runs an operation in the running server, or on the store when none
// runs.
func (c *cli) operate(name string, args admin.Args, show func(json.RawMessage) error) error {
	ctx := context.Background()
	cfg, err := c.load()
	if err != nil {
		return err
	}
	out, err := admin.Call(ctx, cfg.Path(cfg.Admin.Socket), name, args)
	if errors.Is(err, admin.ErrNotRunning) {
		out, err = operateLocally(ctx, c, name, args)
	}
	if err != nil || show == nil {
		return err
	}
	return show(out)
}

// operateLocally opens the store and runs the operation here.
func operateLocally(ctx context.Context, c *cli, name string, args admin.Args) (json.RawMessage, error) {
	cfg, err := c.load()
	if err != nil {
		return nil, err
	}
	e, err := newEngine(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer e.close()
	out, err := e.admin.Run(ctx, admin.Caller{Who: admin.CommandLine}, name, args)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// table shows a JSON list as columns.
func table[T any](asJSON bool, head string, row func(T) string) func(json.RawMessage) error {
	return func(out json.RawMessage) error {
		if asJSON {
			fmt.Println(strings.TrimSpace(string(out)))
			return nil
		}
		var list []T
		if err := json.Unmarshal(out, &list); err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, head)
		for _, v := range list {
			fmt.Fprintln(w, row(v))
		}
		return w.Flush()
	}
}
