//go:build unix

// Package unixtest is what tests do that Windows has nothing for.
package unixtest

import "golang.org/x/sys/unix"

func Dup(fd int) (int, error) { return unix.Dup(fd) }

func Mkfifo(path string, mode uint32) error { return unix.Mkfifo(path, mode) }

func Umask(mask int) int { return unix.Umask(mask) }
