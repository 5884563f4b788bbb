"""Training sets: gathered, captioned, checked, and listed for the trainer."""
