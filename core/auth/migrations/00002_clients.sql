-- +goose Up
-- The installations of software that users log in from (XEP-0388, <user-agent/>).
CREATE TABLE clients (
	host       TEXT    NOT NULL,
	localpart  TEXT    NOT NULL,
	id         TEXT    NOT NULL, -- the installation's own; nobody else learns it
	ref        TEXT    NOT NULL, -- what it is called in lists (XEP-0494)
	software   TEXT    NOT NULL,
	device     TEXT    NOT NULL,
	mechanism  TEXT    NOT NULL, -- of its last login
	password   INTEGER NOT NULL, -- 1: it has shown the password that is valid now
	first_seen BIGINT  NOT NULL, -- microseconds since 1970
	last_seen  BIGINT  NOT NULL, -- microseconds since 1970, not exact
	PRIMARY KEY (host, localpart, id),
	FOREIGN KEY (host, localpart) REFERENCES accounts (host, localpart) ON DELETE CASCADE
);

-- Tokens of FAST (XEP-0484). slot: 0 the token in use, 1 one that was not used yet.
CREATE TABLE fast_tokens (
	host      TEXT    NOT NULL,
	localpart TEXT    NOT NULL,
	client    TEXT    NOT NULL,
	slot      INTEGER NOT NULL,
	secret    BYTEA   NOT NULL, -- the key of its HMAC
	mechanism TEXT    NOT NULL,
	issued    BIGINT  NOT NULL, -- microseconds since 1970
	expiry    BIGINT  NOT NULL, -- microseconds since 1970
	uses      BIGINT  NOT NULL, -- the largest count that the client has sent
	PRIMARY KEY (host, localpart, client, slot),
	FOREIGN KEY (host, localpart, client) REFERENCES clients (host, localpart, id) ON DELETE CASCADE
);
