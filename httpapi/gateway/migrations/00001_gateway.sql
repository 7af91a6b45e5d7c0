-- +goose Up

-- Gateway domains that were declared at run time; definition is JSON.
CREATE TABLE gateway (
    domain     TEXT   NOT NULL PRIMARY KEY,
    definition TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    changed    BIGINT NOT NULL
);

-- down_since is since when nobody serves a gateway, in milliseconds, 0 while somebody
-- does; messages up to the event given_up have gone back to their senders.
CREATE TABLE gateway_state (
    domain     TEXT   NOT NULL PRIMARY KEY,
    down_since BIGINT NOT NULL,
    given_up   BIGINT NOT NULL
);
