"""The shared encoder and the heads on it."""
