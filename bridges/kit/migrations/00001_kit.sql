-- +goose Up

-- Who has registered with a gateway, and the fields as a JSON object. Secrets of
-- foreign networks are among them: the network needs them to log in.
CREATE TABLE kit_registration (
    domain  TEXT   NOT NULL,
    account TEXT   NOT NULL,
    fields  TEXT   NOT NULL,
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (domain, account)
);

-- What a gateway knows of one contact of one user. state holds the bits of
-- kit.state, from the contact's side.
CREATE TABLE kit_contact (
    domain   TEXT     NOT NULL,
    account  TEXT     NOT NULL,
    contact  TEXT     NOT NULL,
    state    SMALLINT NOT NULL,
    name     TEXT     NOT NULL,
    groupset TEXT     NOT NULL,
    PRIMARY KEY (domain, account, contact)
);

CREATE INDEX kit_contact_watchers ON kit_contact (domain, contact, account);

-- The last presence of contacts. account is empty for what all subscribers see.
CREATE TABLE kit_presence (
    domain   TEXT   NOT NULL,
    contact  TEXT   NOT NULL,
    resource TEXT   NOT NULL,
    account  TEXT   NOT NULL,
    stanza   BYTEA  NOT NULL,
    updated  BIGINT NOT NULL,
    PRIMARY KEY (domain, contact, resource, account)
);

-- What contacts say of themselves; capabilities is JSON, vcard an element.
CREATE TABLE kit_profile (
    domain       TEXT NOT NULL,
    contact      TEXT NOT NULL,
    capabilities TEXT,
    vcard        TEXT,
    PRIMARY KEY (domain, contact)
);
