"""Faces without torch: detection, alignment, embedding, and the check of reference images."""
