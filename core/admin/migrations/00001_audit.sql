-- +goose Up
-- What operators, programs and users have done, by operations that change something.
CREATE TABLE audit_log (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	time      BIGINT  NOT NULL, -- microseconds since 1970
	who       TEXT    NOT NULL, -- a token's id, "socket", "command line", or a bare JID
	name      TEXT    NOT NULL, -- the token's, for people
	remote    TEXT    NOT NULL, -- address; empty where it is not known
	operation TEXT    NOT NULL,
	subject   TEXT    NOT NULL, -- what it was done to: a JID, a host, an id
	host      TEXT    NOT NULL, -- the domain of the subject, if that is an address
	arguments TEXT    NOT NULL, -- a JSON object, without secrets
	outcome   TEXT    NOT NULL, -- "ok", or what went wrong
	own       INTEGER NOT NULL  -- 1: by a user, on his own account
);

CREATE INDEX audit_log_by_time ON audit_log (time);
CREATE INDEX audit_log_by_who ON audit_log (who, id);
CREATE INDEX audit_log_own ON audit_log (own, id);
