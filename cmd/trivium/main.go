// Command trivium is the server and its operator's tool.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/alecthomas/kong"

	"trivium/config"
)

// version is set by the build.
var version = "unknown"

type cli struct {
	Config string `short:"c" env:"TRIVIUM_CONFIG" type:"path" help:"Configuration file. Without one the defaults hold."`
	Dev    bool   `help:"Development mode: everything on loopback, demo accounts, the demo page."`

	Serve       serveCmd       `cmd:"" help:"Run the server."`
	CheckConfig checkConfigCmd `cmd:"" help:"Check a configuration file, or print an annotated example."`
	User        userCmd        `cmd:"" help:"Manage accounts."`
	Token       tokenCmd       `cmd:"" help:"Manage API tokens."`
	Session     sessionCmd     `cmd:"" help:"Show and end the sessions of accounts."`
	Client      clientCmd      `cmd:"" help:"Show and revoke the clients of accounts."`
	Audit       auditCmd       `cmd:"" help:"Show who has changed what."`
	Stats       statsCmd       `cmd:"" help:"Show the figures of the running server."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// load reads the configuration that the flags name.
func (c *cli) load() (*config.Config, error) {
	base := config.Default()
	if c.Dev {
		base = config.Development()
	}
	return config.LoadOver(base, c.Config)
}

type versionCmd struct{}

func (versionCmd) Run() error {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok {
		v += " " + info.GoVersion
	}
	fmt.Println("trivium", v)
	return nil
}

type checkConfigCmd struct {
	File    string `arg:"" optional:"" type:"path" help:"File to check; --config otherwise."`
	Example bool   `help:"Print an example with every key, its meaning and its default."`
}

func (cmd *checkConfigCmd) Run(c *cli) error {
	if cmd.Example {
		fmt.Print(config.Example())
		return nil
	}
	if cmd.File != "" {
		c.Config = cmd.File
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	from, err := newSources(cfg, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		return err
	}
	from.close()
	for _, w := range cfg.Warnings() {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	fmt.Println("the configuration is valid")
	return nil
}

func main() {
	var c cli
	ctx := kong.Parse(&c,
		kong.Name("trivium"),
		kong.Description("An XMPP server where three roads meet: TCP, WebSocket and BOSH, with a REST and webhook bridge."),
		kong.UsageOnError(),
		kong.Bind(&c),
	)
	if err := ctx.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "trivium:", err)
		os.Exit(1)
	}
}
