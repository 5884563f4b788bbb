"""What a training comes to: its work on this machine, or on another one, whose journal is read here."""
