package webhook

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childStore); path != "" {
		fmt.Fprintln(os.Stderr, child(path, os.Getenv(childURL)))
		os.Exit(1)
	}
	if os.Getenv(childReceiver) != "" {
		_ = receive()
		return
	}
	goleak.VerifyTestMain(m)
}
