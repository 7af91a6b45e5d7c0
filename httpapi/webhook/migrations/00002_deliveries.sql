-- +goose Up
-- Endpoints. Those of the configuration have a row for their number only.
CREATE TABLE webhook_endpoint (
	id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	name       TEXT    NOT NULL UNIQUE,
	version    BIGINT  NOT NULL, -- rises with each change
	definition TEXT,             -- JSON with its keys; NULL: it is in the configuration
	gone       TEXT              -- the URL that answered 410 Gone
);

-- Deliveries of events to endpoints, in the order of the log. It holds the events of
-- event_log that it refers to.
CREATE TABLE webhook_delivery (
	seq      BIGINT  NOT NULL, -- of the event
	endpoint INTEGER NOT NULL, -- its id
	lane     BIGINT  NOT NULL, -- a digest of the conversation
	state    INTEGER NOT NULL, -- 0 waits, 1 taken, 2 given up
	attempts INTEGER NOT NULL,
	next_try BIGINT  NOT NULL, -- microseconds since 1970, as at
	at       BIGINT  NOT NULL, -- since when it waits, or when it was taken or given up
	status   INTEGER NOT NULL, -- HTTP status of the last answer; 0: there was none
	latency  BIGINT  NOT NULL, -- of the last attempt, microseconds
	reason   TEXT    NOT NULL, -- why the last attempt failed
	PRIMARY KEY (seq, endpoint)
) WITHOUT ROWID;

CREATE INDEX webhook_delivery_dead ON webhook_delivery (endpoint, seq) WHERE state = 2;
