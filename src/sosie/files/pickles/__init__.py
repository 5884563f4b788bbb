"""Pickled model files: read by their opcodes, never run; converted in a child process."""
