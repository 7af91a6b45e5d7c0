-- +goose Up
-- Messages to be posted, until an endpoint has taken them. Rows of one endpoint
-- are committed in the order of seq.
CREATE TABLE webhook_outbox (
	seq       BIGINT  NOT NULL PRIMARY KEY,
	endpoint  TEXT    NOT NULL, -- its name
	id        TEXT    NOT NULL, -- the webhook-id of Standard Webhooks
	sender    TEXT    NOT NULL, -- bare JID; sender and recipient are the conversation
	recipient TEXT    NOT NULL, -- bare JID
	stanza    BYTEA   NOT NULL, -- the message as a document
	created   BIGINT  NOT NULL, -- microseconds since 1970, as below
	attempts  INTEGER NOT NULL,
	next_try  BIGINT  NOT NULL
);

CREATE INDEX webhook_outbox_by_endpoint ON webhook_outbox (endpoint, seq);
CREATE INDEX webhook_outbox_by_conversation ON webhook_outbox (endpoint, sender, recipient, seq);

-- Messages that were given up.
CREATE TABLE webhook_dead (
	seq       BIGINT  NOT NULL PRIMARY KEY,
	endpoint  TEXT    NOT NULL,
	id        TEXT    NOT NULL,
	stanza    BYTEA   NOT NULL,
	created   BIGINT  NOT NULL,
	died      BIGINT  NOT NULL,
	attempts  INTEGER NOT NULL,
	reason    TEXT    NOT NULL
);

CREATE INDEX webhook_dead_by_endpoint ON webhook_dead (endpoint, seq);

-- Endpoints that answered 410 Gone, until they get another URL.
CREATE TABLE webhook_gone (
	endpoint TEXT   NOT NULL PRIMARY KEY,
	url      TEXT   NOT NULL,
	since    BIGINT NOT NULL
);
