"""Tests of mtlplug."""
