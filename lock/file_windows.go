package lock

import (
	"io/fs"
	"os"

	"github.com/syscache/syscache/internal/unix"
)

const openFlags = os.O_RDWR | unix.O_NOFOLLOW

func setMode(*os.File, fs.FileInfo, fs.FileMode) error { return nil }
