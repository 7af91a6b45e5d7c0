package webhook

import (
	"context"
	"errors"
	"strings"

	"trivium/core/stanza"
	"trivium/core/store"
	"trivium/httpapi/event"
)

// older is a message in the tables that the package had before there was a log:
// webhook_outbox, and webhook_dead for those given up.
type older struct {
	seq, created, next, died int64
	endpoint, reason         string
	doc                      []byte
	attempts                 int
	dead                     bool
}

// takeOver moves messages from these tables into the log and the deliveries. They
// keep their numbers, which are microseconds too. It is part of New.
func (s *Service) takeOver(ctx context.Context) error {
	list, err := s.olderMessages(ctx)
	if err != nil {
		return err
	}
	var goneURLs int
	if err := s.opts.Store.QueryRow(ctx, `SELECT COUNT(*) FROM webhook_gone`).Scan(&goneURLs); err != nil {
		return err
	}
	if len(list) == 0 && goneURLs == 0 {
		return nil
	}
	err = s.opts.Store.Write(ctx, func(tx *store.Tx) error {
		// Endpoints that are not in the configuration any more keep theirs too.
		_, err := tx.Exec(`INSERT INTO webhook_endpoint (name, version)
			SELECT DISTINCT endpoint, 1 FROM (SELECT endpoint FROM webhook_outbox UNION SELECT endpoint FROM webhook_dead UNION SELECT endpoint FROM webhook_gone) AS older
			WHERE endpoint NOT IN (SELECT name FROM webhook_endpoint)`)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE webhook_endpoint SET gone = (SELECT url FROM webhook_gone WHERE webhook_gone.endpoint = webhook_endpoint.name)
			WHERE name IN (SELECT endpoint FROM webhook_gone)`)
		if err != nil {
			return err
		}
		for i := range list {
			if err := list[i].move(tx); err != nil {
				return err
			}
		}
		for _, clear := range []string{`DELETE FROM webhook_outbox`, `DELETE FROM webhook_dead`, `DELETE FROM webhook_gone`} {
			if _, err := tx.Exec(clear); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.log.Info("webhook messages of an older version were moved into the event log", "messages", len(list))
	for _, e := range *s.list.Load() {
		var url string
		if s.opts.Store.QueryRow(ctx, `SELECT gone FROM webhook_endpoint WHERE id = ? AND gone IS NOT NULL`, e.id).Scan(&url) == nil {
			e.gone.Store(url == e.def.Load().URL)
		}
	}
	return nil
}

func (s *Service) olderMessages(ctx context.Context) (list []older, err error) {
	rows, err := s.opts.Store.Query(ctx, `SELECT seq, endpoint, stanza, created, attempts, next_try, 0, '', 0 FROM webhook_outbox
		UNION ALL SELECT seq, endpoint, stanza, created, attempts, 0, died, reason, 1 FROM webhook_dead ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var o older
		if err := rows.Scan(&o.seq, &o.endpoint, &o.doc, &o.created, &o.attempts, &o.next, &o.died, &o.reason, &o.dead); err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}

// move is part of a store.Op.
func (o *older) move(tx *store.Tx) error {
	st, err := stanza.ParseDocument(o.doc)
	if err != nil {
		return nil // it could never be posted
	}
	ev := event.Event{Seq: o.seq, Type: event.Message, Host: strings.Clone(st.To.Domain()), From: st.From, To: st.To}
	_, err = tx.Exec(`INSERT INTO event_log (seq, type, host, sender, recipient, stanza, data, trace, order_key, created)
		VALUES (?, ?, ?, ?, ?, ?, NULL, '', '', ?) ON CONFLICT (seq) DO NOTHING`,
		o.seq, string(ev.Type), ev.Host, ev.From.String(), ev.To.String(), o.doc, o.created)
	if err != nil {
		return err
	}
	state, at := statePending, o.created
	if o.dead {
		state, at = stateDead, o.died
	}
	_, err = tx.Exec(`INSERT INTO webhook_delivery (seq, endpoint, lane, state, attempts, next_try, at, status, latency, reason)
		SELECT ?, id, ?, ?, ?, ?, ?, 0, 0, ? FROM webhook_endpoint WHERE name = ?`,
		o.seq, laneOf(&ev), state, o.attempts, o.next, at, o.reason, o.endpoint)
	return err
}
