-- +goose Up

-- What requests with an Idempotency-Key were answered. It only grows at its end, so
-- that a commit of many rows writes few pages.
CREATE TABLE idempotency (
    seq INTEGER PRIMARY KEY,     -- microseconds since 1970 or a little more, when the answer was stored
    key BLOB NOT NULL,           -- of the token's id and the key: 16 octets
    fingerprint BLOB NOT NULL,   -- of the request: 16 octets
    status INTEGER NOT NULL,
    media TEXT NOT NULL,         -- Content-Type of the answer
    body BLOB NOT NULL,
    sender TEXT NOT NULL         -- whom the request spoke for
);

-- Where keys are: package keyindex.
CREATE TABLE idempotency_key_a (key BLOB NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (key, row)) WITHOUT ROWID;
CREATE TABLE idempotency_key_b (key BLOB NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (key, row)) WITHOUT ROWID;
CREATE TABLE idempotency_key_state (current INTEGER NOT NULL, since INTEGER NOT NULL, indexed INTEGER NOT NULL);
INSERT INTO idempotency_key_state VALUES (0, 0, 0);

-- The secret that keys and ids of stanzas are made with.
CREATE TABLE idempotency_secret (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    secret BLOB NOT NULL
);
