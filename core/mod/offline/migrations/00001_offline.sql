-- +goose Up

-- Messages that wait for their recipient, each with its delay stamp. id ascends
-- in the order in which they came. The rows of an account lie together, so that
-- its login reads and deletes whole pages.
CREATE TABLE offline (
    account TEXT   NOT NULL,
    id      BIGINT NOT NULL,
    stanza  BYTEA  NOT NULL,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;
