"""Z-Image on torch: its parts by diffusers and transformers, from folders and single files."""
