//go:build !race

package presence_test

// See race_test.go.
const raceEnabled = false
