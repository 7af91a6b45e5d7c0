//go:build race

package auth_test

// The race detector makes pools forget, so that allocations cannot be counted.
const raceEnabled = true
