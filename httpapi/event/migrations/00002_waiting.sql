-- +goose Up
-- Events of gateway domains that nobody has taken yet. They are not trimmed.
CREATE TABLE event_waiting (
	host TEXT   NOT NULL, -- as in event_log
	seq  BIGINT NOT NULL,
	PRIMARY KEY (host, seq)
) WITHOUT ROWID;

CREATE INDEX event_waiting_by_seq ON event_waiting (seq);
