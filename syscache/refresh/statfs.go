package refresh

// fsStat is what there is to know of a file system.
type fsStat struct {
	name              string
	network, readOnly bool
	free              uint64 // bytes, for those who are not root
	files, freeFiles  uint64 // inodes; files is 0 where they are not counted
}
