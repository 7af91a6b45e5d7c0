-- +goose Up
CREATE TABLE accounts (
	host         TEXT   NOT NULL,
	localpart    TEXT   NOT NULL,
	created      BIGINT NOT NULL, -- microseconds since 1970
	password_set BIGINT NOT NULL, -- microseconds since 1970
	PRIMARY KEY (host, localpart)
);

-- SCRAM keys (RFC 5802 section 3), never passwords. hash: 1 SHA-1, 2 SHA-256, 3 SHA-512.
CREATE TABLE credentials (
	host       TEXT    NOT NULL,
	localpart  TEXT    NOT NULL,
	hash       INTEGER NOT NULL,
	salt       BYTEA   NOT NULL,
	iterations INTEGER NOT NULL,
	stored_key BYTEA   NOT NULL,
	server_key BYTEA   NOT NULL,
	PRIMARY KEY (host, localpart, hash),
	FOREIGN KEY (host, localpart) REFERENCES accounts (host, localpart) ON DELETE CASCADE
);

CREATE TABLE auth_secrets (
	name  TEXT  PRIMARY KEY,
	value BYTEA NOT NULL
);

CREATE TABLE api_tokens (
	id        TEXT   PRIMARY KEY,
	name      TEXT   NOT NULL,
	hash      BYTEA  NOT NULL UNIQUE, -- SHA-256 of the secret
	send_as   TEXT   NOT NULL,        -- addresses, one a line
	created   BIGINT NOT NULL,        -- microseconds since 1970, as below
	last_used BIGINT,
	revoked   BIGINT
);
