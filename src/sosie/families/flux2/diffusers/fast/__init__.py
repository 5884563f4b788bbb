"""FLUX.2 klein's transformer made fast on a GPU."""
