package unixtest

import "errors"

func Mkfifo(string, uint32) error { return errors.ErrUnsupported }

func Umask(int) int { return 0 }
