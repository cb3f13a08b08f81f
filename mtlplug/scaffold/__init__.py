"""A distribution with a task format to start from: `mtlplug plugins new`."""
