//go:build !unix

package main

import (
	"errors"
	"os"
	"os/exec"
)

var errNotHere = errors.New("plain processes are kept on Unix only; use Docker, or go run . in the project")

func detach(*exec.Cmd) {}

func interrupt(int) error { return errNotHere }

func takeLock(string) (*os.File, error) { return nil, errNotHere }

func lockFree(string) (bool, error) { return true, nil }

func freeBytes(string) (uint64, error) { return 0, errNotHere }
