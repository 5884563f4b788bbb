"""A machine made ready to draw: an environment from a lock file, Sosie itself, and models, each verified there."""
