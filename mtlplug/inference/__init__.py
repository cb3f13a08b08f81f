"""What is done with a finished run: open it, predict, export, share."""
