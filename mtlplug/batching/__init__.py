"""From features to packed mixed batches."""
