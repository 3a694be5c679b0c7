package main

// keepFromBuilders: a process of Windows inherits only what it is given.
func keepFromBuilders() {}
