-- +goose Up

-- The addresses that an account has blocked: full, bare, or a domain.
CREATE TABLE blocking (
    account TEXT NOT NULL,
    blocked TEXT NOT NULL,
    PRIMARY KEY (account, blocked)
);
