"""Characters as one file: Sosie's own archive, and OpenChar's `.char`."""
