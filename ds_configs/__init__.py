"""DeepSpeed configurations for `--deepspeed-config`, as package data."""
