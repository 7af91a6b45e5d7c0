-- +goose Up

-- Messages that wait for their recipient, each with its delay stamp. id ascends
-- in the order in which they came.
CREATE TABLE offline (
    account TEXT   NOT NULL,
    id      BIGINT NOT NULL,
    stanza  BYTEA  NOT NULL,
    PRIMARY KEY (account, id)
);
