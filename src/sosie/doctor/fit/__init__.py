"""Whether what a stage is put together from fits together: partners, adapters, what a graph takes of a file."""
