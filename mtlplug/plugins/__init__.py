"""What authors and users of plugins get: a list, checks, a distribution to start from."""
