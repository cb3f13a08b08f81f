"""Tests of mtlplug.training."""
