"""Suites that come with mtlplug: TOML files of tasks, groups and defaults."""
