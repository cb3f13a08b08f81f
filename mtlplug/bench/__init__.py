"""What an epoch costs here, what the same work costs elsewhere, and what more ranks would do."""
