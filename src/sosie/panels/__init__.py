"""Panels: people choose between two images without knowing what made them, and judges are held against them."""
