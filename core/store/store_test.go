package store_test

import (
	"path/filepath"
	"testing"

	"trivium/core/store"
	"trivium/core/store/storetest"
)

func TestContractFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.DB {
		return open(t, store.Options{Path: filepath.Join(t.TempDir(), "a dir", "tri?vium #1%.db")})
	})
}

func TestContractTemporary(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.DB { return open(t, store.Options{}) })
}
