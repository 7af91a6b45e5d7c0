// Package transcripts holds conversations with the server, taken from the
// standards and played over every framing.
package transcripts

import (
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"trivium/test/harness"
)

// TestMain fails when anything is left running after all servers have stopped.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		script, err := harness.ReadScript(file)
		if err != nil {
			t.Error(err)
			continue
		}
		name := strings.TrimSuffix(file, ".txt")
		for _, framing := range harness.Framings {
			t.Run(name+"/"+framing, func(t *testing.T) {
				t.Parallel()
				script.Run(t, framing)
			})
		}
		// An archive changes nothing of it but ids.
		t.Run(name+"/archived", func(t *testing.T) {
			t.Parallel()
			script.Archived().Run(t, "tcp")
		})
	}
}
