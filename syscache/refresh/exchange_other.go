//go:build !linux

package refresh

import "errors"

func exchange(_, _ string) error { return errors.ErrUnsupported }
