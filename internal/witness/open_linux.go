package witness

import "golang.org/x/sys/unix"

// openDirectory opens a directory to look names up in: search permission is
// enough, as for a stat by path.
const openDirectory = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
