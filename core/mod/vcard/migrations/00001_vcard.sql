-- +goose Up
CREATE TABLE vcard (
	account TEXT PRIMARY KEY, -- bare JID
	xml     TEXT NOT NULL
);
