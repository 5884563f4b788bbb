"""Z-Image's transformer made fast: the same numbers up to rounding."""
