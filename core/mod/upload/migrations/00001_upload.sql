-- +goose Up

-- The files that can be fetched. Times are in Unix milliseconds. What is in a file
-- lies elsewhere, under its id.
CREATE TABLE upload_file (
    id      TEXT    PRIMARY KEY, -- random: who knows it may read the file
    owner   TEXT    NOT NULL,    -- bare address
    name    TEXT    NOT NULL,
    type    TEXT    NOT NULL,
    size    INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL DEFAULT 0 -- not to be had any more from then on; 0: see retention
) WITHOUT ROWID;
CREATE INDEX upload_file_owner ON upload_file (owner, created, id);
CREATE INDEX upload_file_created ON upload_file (created, id);
CREATE INDEX upload_file_expires ON upload_file (expires) WHERE expires > 0;

-- Files that are to be deleted, and for a while those that have been: slots for
-- them may still be about.
CREATE TABLE upload_gone (
    id       TEXT    PRIMARY KEY,
    since    INTEGER NOT NULL,
    unlinked INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX upload_gone_left ON upload_gone (since) WHERE unlinked = 0;

-- What each owner has: kept by whoever changes upload_file.
CREATE TABLE upload_owner (
    owner  TEXT    PRIMARY KEY,
    files  INTEGER NOT NULL,
    octets INTEGER NOT NULL
) WITHOUT ROWID;

-- What each owner has uploaded in which hour since 1970, deleted files included.
CREATE TABLE upload_usage (
    owner  TEXT    NOT NULL,
    hour   INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    PRIMARY KEY (owner, hour)
) WITHOUT ROWID;
CREATE INDEX upload_usage_hour ON upload_usage (hour);

-- The key that slots are signed with.
CREATE TABLE upload_key (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    key BLOB    NOT NULL
);
