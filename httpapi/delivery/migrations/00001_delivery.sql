-- +goose Up

-- What became of messages that were sent by REST. Times are microseconds since 1970.
CREATE TABLE delivery (
    seq INTEGER PRIMARY KEY,     -- when it was sent, or a little later
    id TEXT NOT NULL,            -- of the stanza
    account TEXT NOT NULL,       -- the sender's bare address
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    accepted INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    displayed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    condition TEXT NOT NULL DEFAULT '',
    error_type TEXT NOT NULL DEFAULT '',
    explanation TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX delivery_id ON delivery (id, account, recipient);
