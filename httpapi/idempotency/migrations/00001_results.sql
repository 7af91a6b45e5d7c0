-- +goose Up

-- What requests with an Idempotency-Key were answered.
CREATE TABLE idempotency (
    seq INTEGER PRIMARY KEY,     -- microseconds since 1970 or a little more, when the answer was stored
    key BLOB NOT NULL,           -- of the token's id and the key: 16 octets
    fingerprint BLOB NOT NULL,   -- of the request: 16 octets
    status INTEGER NOT NULL,
    media TEXT NOT NULL,         -- Content-Type of the answer
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX idempotency_key ON idempotency (key);

-- The secret that keys and ids of stanzas are made with.
CREATE TABLE idempotency_secret (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    secret BLOB NOT NULL
);
