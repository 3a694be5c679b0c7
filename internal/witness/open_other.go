//go:build !linux

package witness

import "github.com/syscache/syscache/internal/unix"

const openDirectory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
