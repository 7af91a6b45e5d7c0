-- +goose Up
-- What a token may do, as "send:PATTERN read:PATTERN admin:HOST". A token made before
-- has none: it may send as the addresses of send_as, and read what is theirs.
ALTER TABLE api_tokens ADD COLUMN scopes TEXT;
ALTER TABLE api_tokens ADD COLUMN expires BIGINT; -- microseconds since 1970
ALTER TABLE api_tokens ADD COLUMN rate INTEGER NOT NULL DEFAULT 0;
