// Package test holds the tests of the packages: the real dpkg and rpm install,
// upgrade and remove the command and a payload in scratch roots, and another
// user reads what the hooks left. It holds no code.
package test
