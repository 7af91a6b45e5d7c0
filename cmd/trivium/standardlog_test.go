package main

import (
	"bytes"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"
)

// What net/http writes to the standard logger, which may be the words of a peer, is
// seen by those who debug and escaped like everything else.
func TestStandardLog(t *testing.T) {
	flags := log.Flags()
	t.Cleanup(func() { log.SetFlags(flags); log.SetOutput(os.Stderr) })
	var out bytes.Buffer
	var level slog.LevelVar
	adoptStandardLog(newLogger(&out, "text", &level))
	log.Print("canary\nlevel=ERROR")
	if out.Len() > 0 {
		t.Errorf("it says %q", out.String())
	}
	level.Set(slog.LevelDebug)
	log.Print("canary\nlevel=ERROR")
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `canary\nlevel=ERROR`) {
		t.Errorf("it says %q", got)
	}
}
