"""FLUX.2 klein on torch: its parts by diffusers and transformers, from folders and single files."""
