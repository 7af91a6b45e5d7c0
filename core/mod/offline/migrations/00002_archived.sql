-- +goose Up

-- Whether the account's archive has the message, too: a session that reads there
-- what it has missed does not get it from here.
ALTER TABLE offline ADD COLUMN archived BOOLEAN NOT NULL DEFAULT FALSE;
