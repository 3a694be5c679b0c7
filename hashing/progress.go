package hashing

import "sync/atomic"

// Progress counts what a scan does while it runs. Whoever shows it polls it:
// the scan calls nobody, and pays an addition a file.
type Progress struct {
	Found atomic.Int64 // files and links that match
	Read  atomic.Int64 // files whose content was read
	Bytes atomic.Int64 // of content that was read
}
