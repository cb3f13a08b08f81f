"""A suite that needs nothing: generated data, tokenizer and encoder."""
