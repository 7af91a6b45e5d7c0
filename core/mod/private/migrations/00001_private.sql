-- +goose Up
CREATE TABLE private_xml (
	account TEXT NOT NULL, -- bare JID
	space   TEXT NOT NULL,
	local   TEXT NOT NULL,
	xml     TEXT NOT NULL,
	PRIMARY KEY (account, space, local)
);
