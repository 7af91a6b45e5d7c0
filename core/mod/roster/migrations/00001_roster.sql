-- +goose Up

-- One row per account whose roster was ever changed. version counts its
-- modifications; changes since before floor can no longer be told.
CREATE TABLE roster (
    account TEXT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    floor   BIGINT NOT NULL
);

-- state holds the bits of roster.state. version is that of the contact's last
-- roster push, 0 when there was none; an unlisted row with a version remembers a
-- removal. request is the subscription request that waits for an answer.
CREATE TABLE roster_contact (
    account  TEXT     NOT NULL,
    contact  TEXT     NOT NULL,
    state    SMALLINT NOT NULL,
    version  BIGINT   NOT NULL,
    name     TEXT     NOT NULL,
    groupset TEXT     NOT NULL,
    request  BYTEA,
    PRIMARY KEY (account, contact)
);
