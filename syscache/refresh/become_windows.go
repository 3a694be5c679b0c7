package refresh

import "errors"

// become is never called: everything belongs to the one uid there is.
func become(uint32, uint32) error { return errors.ErrUnsupported }

func groupsOf(uint32) []uint32 { return []uint32{0} }
