//go:build unix

package database

import (
	"fmt"
	"syscall"
)

func freeBytes(dir string) (free uint64, known bool, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false, fmt.Errorf("database: disk of %s: %w", dir, err)
	}
	return uint64(s.Bavail) * uint64(s.Bsize), true, nil //nolint:gosec,unconvert // never below zero; the types differ between systems
}
