-- +goose Up

-- What became of messages that were sent by REST. It only grows at its end. Times are
-- microseconds since 1970.
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

-- Where ids are: package keyindex. The keys are the first 16 octets of SHA-256.
CREATE TABLE delivery_id_a (key BLOB NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (key, row)) WITHOUT ROWID;
CREATE TABLE delivery_id_b (key BLOB NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (key, row)) WITHOUT ROWID;
CREATE TABLE delivery_id_state (current INTEGER NOT NULL, since INTEGER NOT NULL, indexed INTEGER NOT NULL);
INSERT INTO delivery_id_state VALUES (0, 0, 0);
