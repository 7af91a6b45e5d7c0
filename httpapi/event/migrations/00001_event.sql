-- +goose Up
-- What programs are told about. Rows are committed in the order of seq.
CREATE TABLE event_log (
	seq       INTEGER NOT NULL PRIMARY KEY, -- microseconds since 1970 or a little more
	type      TEXT    NOT NULL,
	host      TEXT    NOT NULL, -- the domain of ours that it is about
	sender    TEXT    NOT NULL, -- JID; empty where there is none, as below
	recipient TEXT    NOT NULL, -- JID
	stanza    BYTEA,            -- the stanza as a document
	data      BYTEA,            -- a JSON object
	trace     TEXT    NOT NULL, -- traceparent
	order_key TEXT    NOT NULL,
	created   BIGINT  NOT NULL  -- microseconds since 1970
);

-- One row: what the log knows of itself.
CREATE TABLE event_state (
	id      INTEGER NOT NULL PRIMARY KEY,
	trimmed BIGINT  NOT NULL, -- events up to here may be gone
	counted BIGINT  NOT NULL, -- events up to here are in
	events  BIGINT  NOT NULL  -- how many there are
);

-- How far consumers that acknowledge have come.
CREATE TABLE event_cursor (
	consumer TEXT   NOT NULL PRIMARY KEY,
	seq      BIGINT NOT NULL
);
