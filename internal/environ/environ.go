// Package environ reads the environment where it can be trusted.
package environ

import "os"

// Get returns the value of an environment variable, "" in a process that the
// kernel marked (AT_SECURE) as more privileged than whoever set its
// environment.
func Get(name string) string {
	value := os.Getenv(name)
	if value != "" && secure() {
		return ""
	}
	return value
}
