"""One module a command: a function from a volume and a container to an outcome."""
