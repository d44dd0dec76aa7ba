"""What a crystal is scored for."""
