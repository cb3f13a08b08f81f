"""The engine, the loop, evaluation and checkpoints."""
