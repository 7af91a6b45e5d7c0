-- +goose Up
CREATE TABLE last_activity (
	account TEXT PRIMARY KEY, -- bare JID
	at      BIGINT NOT NULL,  -- Unix seconds of the last logout
	status  TEXT NOT NULL     -- of the last unavailable presence
);
