//go:build race

package event

// The race detector makes pools forget, so that allocations cannot be counted.
const raceEnabled = true
