package unixtest

import "errors"

func Dup(int) (int, error) { return -1, errors.ErrUnsupported }

func Mkfifo(string, uint32) error { return errors.ErrUnsupported }

func Umask(int) int { return 0 }
