"""Model files, images and digests: formats without torch."""
