-- +goose Up

-- Accounts that have an archive. num is never given twice, so that what a removed
-- account left behind cannot become another's.
CREATE TABLE archive_account (
    num      INTEGER PRIMARY KEY AUTOINCREMENT,
    jid      TEXT    NOT NULL UNIQUE,
    fallback TEXT    NOT NULL DEFAULT '', -- XEP-0441: always, never, roster; empty: the server's
    always   TEXT    NOT NULL DEFAULT '', -- addresses, one in each line
    never    TEXT    NOT NULL DEFAULT '',
    indexed  INTEGER NOT NULL DEFAULT 0,  -- messages up to this id can be searched for; 0: never asked
    counted  INTEGER NOT NULL DEFAULT 0,  -- messages up to this id are in bytes
    bytes    INTEGER NOT NULL DEFAULT 0
);

-- Removed accounts whose messages are being deleted; since is in Unix seconds.
CREATE TABLE archive_gone (
    num   INTEGER PRIMARY KEY,
    since INTEGER NOT NULL
);

-- The messages of all archives in the order in which they came, as octets to be
-- sent. id holds the time, see journal.go. Rows are appended, so a commit writes
-- whole pages of them.
CREATE TABLE archive_message (
    id      INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    stanza  BLOB    NOT NULL
);

-- Which of them are whose: all that filters and counts need, in few octets, so
-- that walking over it costs little. peer and name are hashes of the bare address
-- of the other side and of the message's own id; size is in octets.
CREATE TABLE archive_entry (
    account INTEGER NOT NULL,
    id      INTEGER NOT NULL,
    peer    INTEGER NOT NULL,
    name    INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;

-- The words of messages of accounts that have searched, by the messages' id. Each
-- word begins with its account, see search.go.
CREATE VIRTUAL TABLE archive_text USING fts5 (
    body, content = '', contentless_delete = 1, tokenize = "unicode61 remove_diacritics 2"
);
