-- +goose Up

-- Who is there is seen again after a restart; what nobody has taken, the event log knows.
-- Events up to given_up were taken, or their messages have gone back.
ALTER TABLE gateway_state DROP COLUMN down_since;
