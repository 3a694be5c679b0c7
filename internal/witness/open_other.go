//go:build !linux

package witness

import "golang.org/x/sys/unix"

const openDirectory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
