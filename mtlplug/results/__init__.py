"""What a run came to: shown, evaluated, compared."""
