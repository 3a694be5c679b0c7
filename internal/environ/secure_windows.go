package environ

// secure: no program of Windows has more rights than whoever started it unseen.
func secure() bool { return false }
