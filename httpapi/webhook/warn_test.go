package webhook

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An endpoint cannot fill the log by what it answers.
func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		e := &endpoint{name: "app", service: &Service{log: slog.New(slog.NewTextHandler(&out, nil))}}
		for range 100 {
			e.warnings.warn(e, "bad", "id", "evt_1")
		}
		if n := strings.Count(out.String(), "\n"); n != 1 || strings.Contains(out.String(), "unreported") {
			t.Errorf("%d lines: %s", n, out.String())
		}
		time.Sleep(warnEvery)
		e.warnings.warn(e, "bad", "id", "evt_2")
		e.losses.warn(e, "lost")
		if lines := strings.Split(out.String(), "\n"); len(lines) != 4 || !strings.Contains(lines[1], "webhook=app unreported=99") || !strings.Contains(lines[2], "lost") {
			t.Errorf("%q", lines)
		}
	})
}
