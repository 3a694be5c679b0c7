package refresh

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// powerless fails if this process, no longer root, still has capabilities: a
// caller who set the secure bit no_setuid_fixup keeps them.
func powerless() error {
	have, err := capabilities()
	if err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for _, set := range have {
		if set.Effective|set.Permitted != 0 {
			return &HintedError{
				errors.New("capabilities stay (the secure bit no_setuid_fixup is set)"),
				"call syscache without that bit, or as the install's owner",
			}
		}
	}
	return nil
}

func capabilities() (have [2]unix.CapUserData, err error) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return have, unix.Capget(&h, &have[0])
}

// strip takes from this thread, and from what is started by it, what a builder
// must not have of whoever called us: the keys in their session's keyring, and
// what capabilities they would let another program inherit. The thread must not
// be used for anything else.
func strip() error {
	// ENOSYS: a kernel without keys. EPERM: a container that forbids the call,
	// and then the builder's too. Anything else must not be passed over: a user
	// may have used up their quota of keys to keep ours.
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err != nil && err != unix.ENOSYS && err != unix.EPERM {
		return fmt.Errorf("leave the session's keyring: %w", err)
	}
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if _, _, errno := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&none[0])), 0); errno != 0 {
		return fmt.Errorf("capset: %w", errno)
	}
	return nil
}
