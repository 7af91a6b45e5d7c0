-- +goose Up
-- The presence that programs have set for accounts, until they take it back.
CREATE TABLE agent_presence (
	address TEXT  NOT NULL PRIMARY KEY, -- full JID
	account TEXT  NOT NULL,             -- its bare JID
	stanza  BYTEA NOT NULL              -- the presence as a document
);

CREATE INDEX agent_presence_by_account ON agent_presence (account);
