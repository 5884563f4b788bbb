"""Sosie: one fictional character, the same face in every image, proven by measurement."""

__version__ = "0.1.0"
