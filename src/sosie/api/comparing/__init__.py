"""Comparing: two sides by their scores, and several by what people choose."""
