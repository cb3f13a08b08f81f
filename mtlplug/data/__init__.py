"""From files and hub datasets to features on disk."""
