"""Many images by many machines: plans written into a manifest, and drawn from it."""
