package main

import (
	"encoding/json"
	"fmt"
	"time"

	"trivium/core/admin"
)

type sessionCmd struct {
	List sessionListCmd `cmd:"" help:"List the sessions of an account."`
	Kick sessionKickCmd `cmd:"" help:"End one session, or all of an account."`
}

type sessionListCmd struct {
	JID  string `arg:"" help:"Address of the account."`
	JSON bool   `help:"Print JSON."`
}

func (cmd *sessionListCmd) Run(c *cli) error {
	const head = "JID\tSINCE\tIDLE\tFROM\tPRESENCE\tSOFTWARE\tSTREAM"
	return c.operate("session list", admin.Args{"jid": cmd.JID}, table(cmd.JSON, head, func(s admin.Session) string {
		from := s.Framing
		if s.Address != "" {
			from += " " + s.Address
		}
		presence := s.Presence
		if presence != "unavailable" {
			presence = fmt.Sprintf("%s (%d)", s.Presence, s.Priority)
		}
		stream := s.Connection
		if s.Management {
			stream = fmt.Sprintf("%s, %d unacknowledged", s.Connection, s.Unacknowledged)
		}
		if s.Inactive {
			stream += ", inactive"
		}
		software := s.Software
		if s.Device != "" {
			software += " on " + s.Device
		}
		idle := time.Duration(s.Idle) * time.Second
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", s.JID, s.Since.Format(time.RFC3339), idle, from, presence, software, stream)
	}))
}

type sessionKickCmd struct {
	JID string `arg:"" help:"Address of the session, or of the account for all its sessions."`
}

func (cmd *sessionKickCmd) Run(c *cli) error {
	return c.operate("session kick", admin.Args{"jid": cmd.JID}, ended)
}

type clientCmd struct {
	List   clientListCmd   `cmd:"" help:"List the clients that an account logs in from."`
	Revoke clientRevokeCmd `cmd:"" help:"Forget a client, its tokens and its sessions."`
}

type clientListCmd struct {
	JID  string `arg:"" help:"Address of the account."`
	JSON bool   `help:"Print JSON."`
}

func (cmd *clientListCmd) Run(c *cli) error {
	const head = "ID\tSOFTWARE\tDEVICE\tMECHANISM\tTOKEN\tFIRST SEEN\tLAST SEEN\tSESSIONS"
	return c.operate("client list", admin.Args{"jid": cmd.JID}, table(cmd.JSON, head, func(v admin.Client) string {
		token := "no"
		if v.Token {
			token = "yes"
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d", v.ID, v.Software, v.Device, v.Mechanism, token,
			v.FirstSeen.Format(time.RFC3339), v.LastSeen.Format(time.RFC3339), v.Sessions)
	}))
}

type clientRevokeCmd struct {
	JID string `arg:"" help:"Address of the account."`
	ID  string `arg:"" help:"The client's id, from client list."`
}

func (cmd *clientRevokeCmd) Run(c *cli) error {
	return c.operate("client revoke", admin.Args{"jid": cmd.JID, "id": cmd.ID}, ended)
}

// ended prints the sessions that were ended.
func ended(out json.RawMessage) error {
	var list []string
	if err := json.Unmarshal(out, &list); err != nil {
		return err
	}
	for _, s := range list {
		fmt.Println("ended", s)
	}
	return nil
}
