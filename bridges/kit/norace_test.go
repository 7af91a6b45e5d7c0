//go:build !race

package kit_test

const raced = false
