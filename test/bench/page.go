package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pagePairs   = 1    // accounts: two of each pair
	pageSize    = 50   // results of a page
	pageArchive = 5000 // messages in each account's archive
)

// fillArchives lets pairs of accounts talk until each has an archive to page
// through, once for each of a server's stores.
func (s *server) fillArchives(ctx context.Context) error {
	if s.archived[s.setup.store] {
		return nil
	}
	const batch = 20 // under way at once
	err := each(pagePairs, func(i int) error {
		ends, err := loginAll(ctx, s.ep, roadTCP, users(pageFrom+2*i, 2))
		if err != nil {
			return err
		}
		defer closeAll(ends)
		from, to := ends[0], ends[1]
		for _, end := range ends {
			if err := end.available(); err != nil {
				return err
			}
			if n, err := end.archivedSince(""); err != nil || n != 0 {
				return errors.Join(err, fmt.Errorf("the archive has %d messages before the first", n))
			}
		}
		var units []byte
		message := from.message(to.jid, body("for the archive "))
		for range batch {
			units = append(units, message...)
		}
		for n := 0; n < pageArchive; n += batch {
			if err := errors.Join(to.setDeadline(time.Now().Add(setupTimeout)), from.send(units)); err != nil {
				return err
			}
			for range batch {
				if _, err := to.await("<message"); err != nil {
					return err
				}
			}
		}
		for _, end := range ends {
			got := int64(0)
			if !await(2*drainLimit, func() bool { got, err = end.archivedSince(""); return err != nil || got >= pageArchive }) {
				err = fmt.Errorf("%d of %d messages are in the archive", got, pageArchive)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("filling archives: %w", err)
	}
	if s.archived == nil {
		s.archived = map[string]bool{}
	}
	s.archived[s.setup.store] = true
	return nil
}

// runPages reads archives page by page, one page under way per account: from the
// newest to the oldest message, and back. Results that a page should have and has
// not are lost.
func runPages(ctx context.Context, b *bench, s *server) (*outcome, error) {
	if err := s.fillArchives(ctx); err != nil {
		return nil, err
	}
	readers, err := loginAll(ctx, s.ep, roadTCP, users(pageFrom, 2*pagePairs))
	if err != nil {
		return nil, err
	}
	defer closeAll(readers)
	defer context.AfterFunc(ctx, func() { closeAll(readers) })()
	var pages, results atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop.Store(true)
	problem := make(chan error, len(readers))
	for _, r := range readers {
		wg.Go(func() {
			if err := r.pageThrough(&stop, &pages, &results); err != nil {
				problem <- err
			}
		})
	}
	wait := func(d time.Duration) error {
		select {
		case err := <-problem:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	if err := wait(b.rampUp()); err != nil {
		return nil, err
	}
	if _, err := s.meter().cpu(); err != nil {
		return nil, err
	}
	before := pages.Load()
	w, err := b.openWindow(s)
	if err != nil {
		return nil, err
	}
	err = wait(b.duration)
	for n := 0; err == nil && pages.Load()-before < int64(2*len(readers)) && n < 20; n++ { // a slow one needs longer
		err = wait(b.duration)
	}
	if err != nil {
		return nil, err
	}
	cpu, passed, err := w.close()
	if err != nil {
		return nil, err
	}
	ops := pages.Load() - before
	if ops == 0 {
		return nil, errSilent
	}
	stop.Store(true)
	wg.Wait()
	select {
	case err := <-problem:
		return nil, err
	default:
	}
	return &outcome{
		Metrics: map[string]float64{"cpu_us": micros(cpu, ops), "per_second": float64(ops) / passed.Seconds()},
		Sent:    pages.Load() * pageSize, Received: results.Load(),
	}, nil
}

// pageThrough pages backwards and forwards until stop is set. Each way must find the
// whole archive.
func (s *session) pageThrough(stop *atomic.Bool, pages, results *atomic.Int64) error {
	const max = "<max>50</max>"
	for backwards := true; ; backwards = !backwards {
		set, found := max, 0
		if backwards {
			set += "<before/>" // the newest page, XEP-0059 §2.5
		}
		for complete := false; !complete; {
			if stop.Load() {
				return nil
			}
			if err := s.setDeadline(time.Now().Add(setupTimeout)); err != nil {
				return err
			}
			page, err := s.archivePage("", set)
			if err != nil {
				return err
			}
			if found += page.results; page.results == 0 { // the archive ended with the page before
				break
			}
			pages.Add(1)
			results.Add(int64(page.results))
			complete = page.complete
			if backwards {
				set = max + "<before>" + page.first + "</before>"
			} else {
				set = max + "<after>" + page.last + "</after>"
			}
		}
		if found != pageArchive {
			return fmt.Errorf("paging found %d of %d messages", found, pageArchive)
		}
	}
}
