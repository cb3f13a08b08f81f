"""Tests of `mtlplug doctor`."""
