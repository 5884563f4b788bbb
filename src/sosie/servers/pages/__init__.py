"""The pages that Sosie serves itself: one guard before all of them, and a page a folder."""
