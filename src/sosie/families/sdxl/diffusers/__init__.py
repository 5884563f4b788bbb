"""SDXL on torch, through diffusers."""
